"""The live page's stage in a real Chromium: overlay, layers, looking back, snapshots, bad lines."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from shared.bus import Bus
from tests import builders
from tests.web import numbered
from tests.web.conftest import Server, wait_until
from tests.web.line import Line
from tests.web.numbered import Clip
from tests.web.studio import Studio

# Looks at a canvas after each of the browser's own frames, for some time: every number it showed,
# when it was first seen, and those whose overlay was elsewhere.
_WATCH = f"""
([selector, ms]) => new Promise((resolve) => {{
  const read = {numbered.READ};
  const canvas = document.querySelector(selector);
  const until = performance.now() + ms;
  const seen = [];
  const astray = [];
  const look = () => {{
    const {{ number, framed }} = read(canvas);
    if (number !== seen.at(-1)?.[0]) seen.push([number, Date.now() / 1000]);
    if (!framed) astray.push(number);
    if (performance.now() < until) requestAnimationFrame(look);
    else resolve({{ seen, astray }});
  }};
  look();
}})
"""
_CANVAS = ".tile-picture canvas"
SLOW_BYTES_PER_S = 300_000 / 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clip") / "numbered.mp4"
    numbered.write(path)
    return Clip(path)


class Clock(Clip):
    """Remembers when each frame was captured."""

    def __init__(self, clip: Clip) -> None:
        self._jpegs = clip._jpegs
        self.captured_at: dict[int, float] = {}

    def __call__(self, index: int) -> Any:
        self.captured_at.setdefault(index, time.time())
        return super().__call__(index)

    def age(self, number: int, at: float) -> float:
        """How old the frame with that number was at a time."""
        return at - max(
            t for i, t in self.captured_at.items() if i % numbered.FRAMES == number and t <= at
        )


def watch(
    page: Page, ms: int, selector: str = _CANVAS
) -> tuple[list[tuple[int, float]], list[int]]:
    found = page.evaluate(_WATCH, [selector, ms])
    return [(n, t) for n, t in found["seen"]], found["astray"]


def read(page: Page, selector: str = _CANVAS) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        f"(selector) => ({numbered.READ})(document.querySelector(selector))", selector
    )
    return found


def stepped(page: Page, key: str) -> dict[str, Any]:
    """Press a key that goes to another picture; give what is read once that is there."""
    before = read(page)["number"]
    page.keyboard.press(key)
    wait_until(lambda: read(page)["number"] != before)
    return read(page)


def painted(page: Page, count: int = 1) -> None:
    expect(page.locator(".tile.has-picture")).to_have_count(count)


def test_picture_and_overlay_are_of_the_same_frame_live_and_looking_back(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip, complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed()], clip):
        page = open_page(server.url)
        painted(page)
        seen, astray = watch(page, 2500)
        assert len(seen) > 15
        assert astray == []
        page.keyboard.press("Space")
        expect(page.locator(".paused-words")).to_have_text(re.compile(r"^Paused, \d s ago$"))
        expect(page.locator(".state")).to_have_text("Paused")
        now = read(page)
        page.wait_for_timeout(300)
        assert read(page) == now  # it stands still
        earlier = [now["number"]]
        for _ in range(10):
            there = stepped(page, ",")
            assert there["framed"], there
            earlier.append(there["number"])
        assert all((a - b) % numbered.FRAMES == 1 for a, b in itertools.pairwise(earlier))
        back = (earlier[-1] - stepped(page, "ArrowLeft")["number"]) % numbered.FRAMES
        assert 13 <= back <= 17  # a second
        slider = page.get_by_role("slider", name="Look back")
        slider.fill("60")
        wait_until(lambda: (read(page)["number"] - now["number"]) % numbered.FRAMES <= 1, 2)
        page.get_by_role("button", name="Live", exact=True).click()
        expect(page.locator(".scrubber")).to_be_hidden()
        seen, astray = watch(page, 700)
        assert len(seen) > 4
        assert astray == []
    assert complaints == []


def test_a_paused_feed_lets_the_others_go_on(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip
) -> None:
    with Studio(bus, [builders.feed("a"), builders.feed("b")], clip):
        page = open_page(server.url)
        painted(page, 2)
        page.locator('[data-feed="a"] .cover').focus()
        page.keyboard.press("Space")
        expect(page.locator('[data-feed="a"]')).to_have_class(re.compile("paused"))
        still = watch(page, 700, f'[data-feed="a"] {_CANVAS}')[0]
        moving = watch(page, 1000, f'[data-feed="b"] {_CANVAS}')[0]
        assert len(still) == 1
        assert len(moving) > 6
        assert bus.statuses(["a"])["a"].fps_analysed > 5


@pytest.mark.parametrize("looking_back", [False, True])
def test_hidden_faces_are_hidden_on_the_page_and_in_what_is_saved(
    server: Server,
    bus: Bus,
    open_page: Callable[..., Page],
    clip: Clip,
    tmp_path: Path,
    looking_back: bool,
) -> None:
    with Studio(bus, [builders.feed("cam")], clip):
        page = open_page(server.url)
        painted(page)
        page.wait_for_timeout(600)

        def saved() -> Image.Image:
            with page.expect_download() as download:
                page.keyboard.press("s")
            name = download.value.suggested_filename
            assert re.fullmatch(r"cam \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\.jpg", name)
            download.value.save_as(tmp_path / name)
            return Image.open(io.BytesIO((tmp_path / name).read_bytes()))

        page.keyboard.press("Space")
        if looking_back:
            page.keyboard.press(",")
            page.wait_for_timeout(100)
        number = read(page)["number"]
        plain = saved()
        assert plain.size == (640, 480)
        assert numbered.number_in(plain) == number
        assert numbered.contrast(plain, number) > 12
        page.keyboard.press("h")
        shot = Image.open(io.BytesIO(page.locator(_CANVAS).screenshot()))
        assert numbered.number_in(saved()) == number
        assert numbered.contrast(saved(), number) < 3
        assert numbered.contrast(shot, number) < 5
        for key in "bne":
            page.keyboard.press(key)
        assert not read(page)["framed"]
        colours = saved().convert("HSV").getchannel("S")
        assert max(i for i, count in enumerate(colours.histogram()) if count) < 60  # all grey


def test_layers_are_chosen_in_a_panel_by_keyboard_and_remembered(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip, complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed()], clip):
        page = open_page(server.url)
        painted(page)
        page.get_by_role("button", name="Layers").press("Enter")
        boxes = page.get_by_role("checkbox", name="Boxes")
        expect(boxes).to_be_focused()
        boxes.press("Space")
        expect(boxes).not_to_be_checked()
        page.get_by_role("checkbox", name="Hide faces").check()
        page.keyboard.press("Escape")
        expect(boxes).to_be_hidden()
        expect(page.get_by_role("button", name="Layers")).to_be_focused()
        page.reload()
        painted(page)
        page.get_by_role("button", name="Layers").click()
        expect(page.get_by_role("checkbox", name="Boxes")).not_to_be_checked()
        expect(page.get_by_role("checkbox", name="Hide faces")).to_be_checked()
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keyboard")).to_contain_text("Five seconds back")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()
        page.evaluate("localStorage.setItem('moodline-layers', '{\"boxes\":')")
        page.reload()
        painted(page)
    assert complaints == []


def test_one_feed_is_large_by_keyboard_and_stays_so_over_a_reload(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip, complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed(name) for name in "abc"], clip, fps=6):
        page = open_page(server.url, width=1440, height=900)
        painted(page, 3)
        page.locator('[data-feed="b"] .cover').focus()
        page.keyboard.press("Enter")
        large = page.locator(".tile.large")
        expect(large).to_have_attribute("data-feed", "b")
        expect(large.locator(".timeline-panel")).to_be_visible()
        expect(page).to_have_url(re.compile("#feed-b$"))
        box = large.bounding_box()
        others = [page.locator(f'[data-feed="{n}"]').bounding_box() for n in "ac"]
        assert box is not None
        assert all(each and each["width"] < box["width"] / 3 for each in others)
        page.keyboard.press("ArrowRight")
        expect(large).to_have_attribute("data-feed", "c")
        page.reload()
        painted(page, 3)
        expect(large).to_have_attribute("data-feed", "c")
        page.keyboard.press("Space")
        expect(large).to_have_class(re.compile("paused"))
        page.keyboard.press("Escape")  # first live again, then all again
        expect(large).not_to_have_class(re.compile("paused"))
        page.keyboard.press("Escape")
        expect(large).to_have_count(0)
        expect(page.locator('[data-feed="c"] .cover')).to_be_focused()
        page.keyboard.press("1")
        expect(large).to_have_attribute("data-feed", "a")
        expect(page.locator(".timeline-panel")).to_have_count(1)
    assert complaints == []


def test_a_feed_that_is_switched_off_leaves_the_board_and_is_counted(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip
) -> None:
    with Studio(bus, [builders.feed(name) for name in "ab"], clip):
        page = open_page(server.url)
        painted(page, 2)
        expect(page.locator("#disabled")).to_be_hidden()
        bus.put_feed(dataclasses.replace(builders.feed("a"), enabled=False))
        expect(page.locator(".tile")).to_have_count(1)
        note = page.get_by_role("link", name="1 feed is switched off")
        expect(note).to_have_attribute("href", "/cameras")
        bus.put_feed(builders.feed("a"))
        expect(page.locator(".tile")).to_have_count(2)
        expect(note).to_be_hidden()


def test_faces_that_come_and_go_move_nothing(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip
) -> None:
    def comes_and_goes(index: int) -> Any:
        jpeg, faces = clip(index)
        return jpeg, faces if index // 12 % 2 else ()

    with Studio(bus, [builders.feed(name) for name in "ab"], comes_and_goes):
        page = open_page(server.url)
        painted(page, 2)
        page.wait_for_timeout(500)
        shifts = page.evaluate(
            """() => new Promise((resolve) => {
              let sum = 0;
              new PerformanceObserver((list) => {
                for (const { value } of list.getEntries()) sum += value;
              }).observe({ type: "layout-shift", buffered: false });
              setTimeout(() => resolve(sum), 2500);
            })"""
        )
        assert shifts < 0.02


def test_on_a_slow_line_pictures_are_fresh_and_others_do_not_notice(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip
) -> None:
    scene = Clock(clip)
    with Studio(bus, [builders.feed("a"), builders.feed("b")], scene), Line(server.port) as line:
        quick = open_page(server.url)
        slow = open_page(line.url)
        painted(quick, 2)
        painted(slow, 2)
        line.bytes_per_s = SLOW_BYTES_PER_S
        slow.wait_for_timeout(5000)  # until what was under way has arrived
        for feed in "ab":
            seen, _ = watch(slow, 2500, f'[data-feed="{feed}"] {_CANVAS}')
            ages = [scene.age(number, at) for number, at in seen[1:]]
            assert 2 <= len(ages) <= 30
            assert max(ages) < 1.5
        quick.bring_to_front()
        quick.wait_for_timeout(500)
        seen, _ = watch(quick, 1500, f'[data-feed="a"] {_CANVAS}')
        assert len(seen) > 12
        assert max(scene.age(number, at) for number, at in seen[1:]) < 0.7


def test_a_line_cut_without_a_word_is_told_and_mended_without_a_reload(
    server: Server, bus: Bus, open_page: Callable[..., Page], clip: Clip
) -> None:
    with Studio(bus, [builders.feed()], clip), Line(server.port) as line:
        page = open_page(line.url)
        painted(page)
        page.evaluate("window.here = true")
        page.wait_for_timeout(1500)
        line.cut.set()
        expect(page.locator("#notice")).to_be_visible(timeout=3000)
        page.wait_for_timeout(5000)
        line.cut.clear()
        expect(page.locator("#notice")).to_be_hidden(timeout=15_000)
        assert len(watch(page, 1000)[0]) > 5
        assert page.evaluate("window.here")
