"""Every page and state, looked at by axe in a real Chromium; and the whole product by keyboard.

axe-core is brought into the page by a context that passes over the page's own policy, which would
rightly refuse it; other tests look at the policy. Colours are also looked at here: whether they can
be told apart with each kind of colour blindness.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.event_bus import EventBus
from shared.events import Delivery, DeliveryState, Rule, RuleKind, Webhook
from shared.recording_bus import RecordingBus
from shared.schema import CaptureReport, FeedState
from shared.video import VideoStatus
from tests import builders
from tests.web.archive import Archive, clip, nobody, three_people
from tests.web.conftest import DEMO, PASSWORD, Server, start, stop, wait_until
from tests.web.studio import Studio, face, square_scene
from tests.web.test_events import happen

AXE = PROJECT_DIR / "web" / "node_modules" / "axe-core" / "axe.min.js"
# A desk by day in English, a phone at night in German. Pages are seen in both, their dialogs and
# forms in the second: its words are longer, its room is smaller, its colours have less room.
DESK, PHONE = ("light", "en-GB", 1440, 900), ("dark", "de-DE", 390, 844)
_VIOLATIONS = """
async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) =>
    `${html.slice(0, 160)} (${any[0]?.message ?? ""})`).join("; ")}`)
"""

Do = Callable[[Page], object]


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("no axe-core: run npm ci --prefix web")
    return AXE.read_text()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accessibility")


@pytest.fixture(scope="module")
def server(redis_url: str, data_dir: Path) -> Iterator[Server]:
    """A web server for all tests here, which share a folder with it."""
    server = start(redis_url, data_dir)
    yield server
    stop(server.process)


@pytest.fixture
def archive(bus: Bus, redis_url: str, data_dir: Path) -> Iterator[Archive]:
    archive = Archive(redis_url, data_dir)
    yield archive
    archive.videos.close()


class Inspector:
    """Brings a page into a state, once for each view, and says what axe finds serious there."""

    def __init__(self, browser: Browser, axe: str) -> None:
        self._browser, self._axe = browser, axe

    def look(self, url: str, *, seen: str, do: Do | None = None) -> list[str]:
        """Open the page, wait until `seen` (a selector) is visible, `do`, and ask axe."""
        found: list[str] = []
        for scheme, locale, width, height in (DESK, PHONE) if do is None else (PHONE,):
            context = self._browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                locale=locale,
                bypass_csp=True,
            )
            page = context.new_page()
            page.goto(url)
            expect(page.locator(seen).first).to_be_visible()
            if do is not None:
                do(page)
            page.evaluate(self._axe + "; undefined")
            found += [f"{scheme} {width}: {each}" for each in page.evaluate(_VIOLATIONS)]
            beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if beyond > 0:
                found.append(f"{scheme} {width}: {beyond} px wider than the screen")
            context.close()
        return found


@pytest.fixture
def inspector(browser: Browser, axe: str) -> Inspector:
    return Inspector(browser, axe)


def click(selector: str) -> Do:
    return lambda page: page.locator(f"{selector} >> visible=true").first.click()


def press(*keys: str) -> Do:
    def do(page: Page) -> None:
        for key in keys:
            page.keyboard.press(key)

    return do


def after(*steps: Do) -> Do:
    return lambda page: [step(page) for step in steps]


def wait_for(selector: str) -> Do:
    return lambda page: expect(page.locator(selector).first).to_be_visible()


@pytest.mark.parametrize(
    ("path", "seen", "do"),
    [
        ("/", "#empty", None),
        ("/", "#empty", click(".open-add")),
        ("/", "#empty", after(click(".open-add"), click("#add-dialog [type=submit]"))),
        ("/", "#empty", click(".use-camera")),
        ("/videos", "#empty", None),
        ("/cameras", "#empty", None),
        ("/cameras", "#empty", click(".open-add")),
        ("/events", "#no-rules", None),
        ("/events", "#no-rules", click(".add-rule")),
        (f"/videos/{'0' * 16}", "#loading", None),
        ("/nope", ".card", None),
    ],
)
def test_empty_pages_and_their_dialogs(
    inspector: Inspector, server: Server, bus: Bus, path: str, seen: str, do: Do | None
) -> None:
    bus.restore_feeds([])
    assert inspector.look(server.url + path, seen=seen, do=do) == []


def test_logging_in(inspector: Inspector, start_server: Callable[..., Server]) -> None:
    login = f"{start_server(MOODLINE_PASSWORD=PASSWORD).url}/login"
    assert inspector.look(login, seen="#password") == []
    guess = after(lambda page: page.fill("#password", "guess"), click(".primary"))
    wrong = after(guess, wait_for("#error"))
    assert inspector.look(login, seen="#password", do=wrong) == []


def test_live_pictures_in_every_form(inspector: Inspector, server: Server, bus: Bus) -> None:
    def crowd(index: int) -> tuple[bytes, tuple[object, ...]]:
        jpeg, _ = square_scene(index)
        boxes = [(40 + 190 * place, 80, 120, 160) for place in range(3)]
        return jpeg, tuple(face(n, box, index / 15) for n, box in enumerate(boxes, 1))

    feeds = [builders.feed("hall"), builders.feed("door")]
    with Studio(bus, feeds, crowd, fps=8):  # type: ignore[arg-type]  # tuples of faces are tuples
        for do in (
            None,
            after(click(".cover"), press("Enter")),
            after(press("?"), wait_for("#help-dialog")),
            after(click("#layers"), wait_for("#layers-panel")),
            after(click(".more"), click(".remove"), wait_for("#remove-dialog")),
            after(click(".pause")),
        ):
            assert inspector.look(server.url, seen=".tile.has-picture .face", do=do) == []


def test_what_is_wrong_is_said_to_everybody(inspector: Inspector, server: Server, bus: Bus) -> None:
    feed = builders.feed()
    bus.restore_feeds([])
    bus.put_feed(feed)
    bus.report_capture(feed.id, CaptureReport(FeedState.ERROR, "The camera refuses: check it."))
    assert inspector.look(server.url, seen=".tile", do=wait_for("#notice")) == []
    assert inspector.look(f"{server.url}/cameras", seen=".camera") == []
    rename = after(click(".camera-rename"), wait_for(".camera-name-form"))
    assert inspector.look(f"{server.url}/cameras", seen=".camera", do=rename) == []


def test_rules(inspector: Inspector, server: Server, bus: Bus) -> None:
    kept = EventBus(bus.url)
    rule = Rule(
        id="0000000a",
        name="Smiles",
        kind=RuleKind.EMOTION_OVER,
        for_s=3,
        emotion="happiness",
        share=0.6,
    )
    kept.put_rule(rule)
    try:
        assert inspector.look(f"{server.url}/events", seen=".rule") == []
    finally:
        kept.close()


def test_events_that_have_happened(inspector: Inspector, server: Server, bus: Bus) -> None:
    kept = EventBus(bus.url)
    hook = Webhook("0000000a", "https://example.org/hook")
    rule = Rule(
        *("0000000b", "Smiles", RuleKind.EMOTION_OVER, 3, "happiness", 0.6), webhooks=(hook,)
    )
    jpeg, _ = square_scene(0)
    try:
        kept.put_rule(rule)
        happen(kept, rule, at=time.time() - 60, picture=jpeg)
        for at, state in enumerate(DeliveryState, round(time.time()) - 50):
            sent = Delivery("example.org", state, 2, at, "The answer was 500.")
            happen(kept, rule, at=at, deliveries={hook.id: sent})
        happen(kept, Rule("0000000c", "Empty", RuleKind.NOBODY_FOR, 60), "door")
        events = f"{server.url}/events"
        assert inspector.look(events, seen=".event") == []
        enlarge = after(click(".event-picture:not(.none)"), wait_for("dialog[open]"))
        assert inspector.look(events, seen=".event-picture img", do=enlarge) == []
    finally:
        kept.close()


def test_recording_is_asked_for_and_seen(inspector: Inspector, server: Server, bus: Bus) -> None:
    recordings = RecordingBus(bus.url)
    with Studio(bus, [builders.feed("hall")], fps=8):
        ask = after(click(".tools .record"), wait_for(".record-dialog[open]"))
        assert inspector.look(server.url, seen=".tile.has-picture", do=ask) == []
        recordings.start("hall", "0" * 16, "A while")
        assert inspector.look(server.url, seen=".recording-mark") == []
    recordings.close()


def test_videos_in_every_state(inspector: Inspector, server: Server, archive: Archive) -> None:
    archive.analysed(clip(20), nobody, "Done.mp4")
    archive.analysed(clip(20), nobody, "Failed.mp4", status=VideoStatus.FAILED, error="Damaged.")
    archive.uploaded(clip(20), "Waiting.mp4")
    running = archive.uploaded(clip(40), "Running.mp4")
    archive.work_on(running, 20)
    videos = f"{server.url}/videos"
    assert inspector.look(videos, seen=".row") == []
    delete = after(click(".row-remove"), wait_for("#remove-dialog"))
    assert inspector.look(videos, seen=".row", do=delete) == []
    assert inspector.look(f"{videos}/{running.id}", seen=".state-card") == []


def test_the_report_in_every_form(inspector: Inspector, server: Server, archive: Archive) -> None:
    video = archive.analysed(clip(60, (1, 2, 3)), three_people)
    for do in (
        None,
        press("s", "s"),
        press("t"),
        after(press("?"), wait_for("#help-dialog")),
        after(press("ArrowDown", "m"), wait_for("#merge-dialog")),
        press("ArrowDown", "n"),
        after(click(".downloads > button"), wait_for(".downloads .menu")),
    ):
        report = f"{server.url}/videos/{video.id}"
        assert inspector.look(report, seen="#report .lane", do=do) == []


# Keyboard


@pytest.fixture
def worker(bus: Bus, tmp_path: Path) -> Iterator[None]:
    """Capture and a worker beside the servers of `start_server`."""
    environment = {
        **os.environ,
        "REDIS_URL": bus.url,
        "MOODLINE_DATA_DIR": str(tmp_path / "data"),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "moodline", role],
            env=environment,
            cwd=PROJECT_DIR,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for role in ("capture", "worker")
    ]
    wait_until(bus.capture_is_running, 30)
    yield
    for process in processes:
        stop(process)


def tab_to(page: Page, selector: str, *, most: int = 60) -> None:
    """Press Tab until the element that is meant has the focus, and see that it shows."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement?.matches(s) ?? false", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{selector} has the focus and does not show it"
            return
    raise AssertionError(f"Tab does not lead to {selector}")


@pytest.mark.slow
def test_the_whole_product_is_used_with_the_keyboard_alone(
    start_server: Callable[..., Server],
    bus: Bus,
    worker: None,
    open_page: Callable[..., Page],
    complaints: list[str],
) -> None:
    server = start_server()
    bus.restore_feeds([])
    page = open_page(server.url, width=1440, height=900)
    page.on("filechooser", lambda _: None)  # a key is faster than a listener for what it opens

    # Add a feed
    expect(page.locator("#empty")).to_be_visible()
    tab_to(page, ".open-add")
    page.keyboard.press("Enter")
    expect(page.locator("#add-dialog")).to_be_visible()
    expect(page.locator("#add-source")).to_be_focused()
    page.keyboard.type("demo")
    page.keyboard.press("Enter")
    expect(page.locator(".tile.has-picture")).to_be_visible(timeout=30_000)
    expect(page.locator(".face-word").first).to_be_visible(timeout=30_000)

    # Open it large, change layers, look back
    tab_to(page, ".tools button, .cover")
    page.keyboard.press("1")
    expect(page.locator(".tile-panel")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".tile-panel")).to_be_hidden()
    tab_to(page, "#layers")
    page.keyboard.press("Enter")
    expect(page.locator("#layers-panel")).to_be_visible()
    tab_to(page, "#layers-panel input")
    switch = page.locator("#layers-panel input:focus")
    before = switch.is_checked()
    page.keyboard.press("Space")
    assert page.locator("#layers-panel input:focus").is_checked() is not before
    page.keyboard.press("Escape")
    expect(page.locator("#layers-panel")).to_be_hidden()

    # On to the videos: upload one, open its report, seek
    tab_to(page, "nav a[href='/videos']")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/videos")
    expect(page.locator("#empty, .row").first).to_be_visible()
    tab_to(page, "#choose")
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Enter")
    chosen.value.set_files(DEMO)
    report = page.locator(".row", has_text=DEMO.name).locator(".row-do a")
    expect(report).to_be_visible(timeout=120_000)
    tab_to(page, ".row-do a")
    page.keyboard.press("Enter")
    expect(page.locator("#report .lane").first).to_be_visible()
    tab_to(page, ".seek")
    clock = page.locator(".clock")
    expect(clock).to_contain_text(re.compile(r"^0:00\.00"))
    page.keyboard.press("ArrowRight")
    expect(clock).not_to_contain_text(re.compile(r"^0:00\.00"))

    # And through the other pages
    tab_to(page, "nav a[href='/cameras']")
    page.keyboard.press("Enter")
    expect(page.locator(".camera")).to_be_visible()
    tab_to(page, "nav a[href='/events']")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/events")
    tab_to(page, ".add-rule")
    page.keyboard.press("Enter")
    expect(page.locator("#rule-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#rule-dialog")).to_be_hidden()
    assert complaints == []


# Colours

LEAST_DIFFERENCE = 16.0  # CIEDE2000; the palette keeps 16.3 (bright) and 17.8 (deep)
Rgb = Sequence[float]
# What each kind of dichromat sees, in linear light: Machado, Oliveira, Fernandes 2009, severity 1.
_SEEN = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
    "all cones": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}


def linear(colour: str) -> list[float]:
    """Linear light of #rrggbb, each part 0 to 1."""
    parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def seen_by(colour: str, kind: str) -> list[float]:
    light = linear(colour)
    return [
        min(1.0, max(0.0, sum(m * part for m, part in zip(row, light, strict=True))))
        for row in _SEEN[kind]
    ]


def lab(rgb: Rgb) -> tuple[float, float, float]:
    """CIE L*a*b* of linear sRGB, for D65."""
    red, green, blue = rgb
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def ciede2000(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """How different two colours look (CIE 142-2001); 1 is just to be seen side by side."""
    (l1, a1, b1), (l2, a2, b2) = one, two
    chroma = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - math.sqrt(chroma / (chroma + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    d_hue = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = h1 + h2 if c1 * c2 == 0 else h1 + turn / 2
    t = (
        1
        - 0.17 * math.cos(math.radians(mean_h - 30))
        + 0.24 * math.cos(math.radians(2 * mean_h))
        + 0.32 * math.cos(math.radians(3 * mean_h + 6))
        - 0.20 * math.cos(math.radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / math.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    around = 30 * math.exp(-((((mean_h % 360) - 275) / 25) ** 2))
    r_t = -2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * math.sin(math.radians(2 * around))
    dl, dc, dh = (l2 - l1) / s_l, (c2 - c1) / s_c, d_hue / s_h
    return math.sqrt(dl**2 + dc**2 + dh**2 + r_t * dc * dh)


def test_the_measure_of_difference_gives_the_published_figures() -> None:
    # Sharma, Wu and Dalal 2005, table 1: pairs 1, 7 and 17.
    assert ciede2000((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=1e-4)
    assert ciede2000((50, 0, 0), (50, -1, 2)) == pytest.approx(2.3669, abs=1e-4)
    assert ciede2000((50, 2.5, 0), (73, 25, -18)) == pytest.approx(27.1492, abs=1e-4)


def palette() -> dict[str, dict[str, str]]:
    """The emotions' colours as the page has them: {emotion: {shade: #rrggbb}}."""
    source = (PROJECT_DIR / "web" / "static" / "palette.js").read_text()
    found = re.findall(
        r'^  (\w+): \{ bright: "(#\w{6})", deep: "(#\w{6})" \}', source, re.MULTILINE
    )
    return {name: {"bright": bright, "deep": deep} for name, bright, deep in found}


@pytest.mark.parametrize("kind", _SEEN)
def test_any_two_emotions_are_told_apart(kind: str) -> None:
    colours = palette()
    assert len(colours) == 8
    for shade in ("bright", "deep"):
        for one, two in itertools.combinations(colours, 2):
            pair = [lab(seen_by(colours[each][shade], kind)) for each in (one, two)]
            assert ciede2000(*pair) >= LEAST_DIFFERENCE, (shade, one, two)


def contrast(one: str, two: str) -> float:
    """How well one colour is read on another, 1 to 21 (WCAG 2)."""
    light, dark = sorted(
        (0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(linear, (one, two))), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def test_words_are_read_on_each_colour_and_each_outline_is_seen() -> None:
    for name, shades in palette().items():
        assert contrast(shades["bright"], "#14161b") >= 4.5, name
        assert contrast(shades["deep"], "#fffdf9") >= 3, name
