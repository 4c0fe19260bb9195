"""The page in a real Chromium: what a user sees and does."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from shared.bus import Bus
from shared.schema import CaptureReport, Feed, FeedState
from shared.source import Source
from tests import builders
from tests.web.conftest import PASSWORD, Server, stop, wait_until
from tests.web.studio import Studio

# Looks for the white square of the painted picture and compares it with where the overlay's box
# was drawn: in the frame's own place, with some pixels of a box's colour around it.
_SQUARE_IS_FRAMED = """
() => {
  const canvas = document.querySelector(".tile-picture canvas");
  const { data, width, height } = canvas.getContext("2d").getImageData(
    0, 0, canvas.width, canvas.height);
  const at = (x, y) => data.subarray(4 * (y * width + x), 4 * (y * width + x) + 3);
  const white = ([r, g, b]) => r > 235 && g > 235 && b > 235;
  const coloured = ([r, g, b]) => Math.max(r, g, b) - Math.min(r, g, b) >= 12;
  let [left, right, top, bottom] = [width, 0, height, 0];
  for (let y = 0; y < height; y += 2) for (let x = 0; x < width; x += 2) {
    if (!white(at(x, y))) continue;
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  const middle = Math.round((top + bottom) / 2);
  const around = (x) => {
    for (let d = -6; d <= 6; d++) {
      if (coloured(at(x + d, middle))) return true;
    }
    return false;
  };
  return { size: (right - left) / width, framed: around(left) && around(right) };
}
"""
# The share of the drawn ribbon that is as dark and grey as the lines of its hatching.
_HATCHED = """
() => {
  const canvas = document.querySelector(".ribbon canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height / 2);
  let [dark, drawn] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, alpha] = data.subarray(i, i + 4);
    drawn += alpha > 200;
    dark += alpha > 200 && Math.max(r, g, b) < 130 && Math.max(r, g, b) - Math.min(r, g, b) < 25;
  }
  return dark / Math.max(1, drawn);
}
"""


def test_pictures_are_painted_with_the_faces_of_the_same_frame(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed()]):
        page = open_page(server.url)
        tile = page.locator(".tile")
        expect(tile.locator(".state")).to_have_text("Live")
        expect(tile.locator(".demo-tag")).to_be_visible()
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        for _ in range(20):
            found = page.evaluate(_SQUARE_IS_FRAMED)
            assert found["framed"], found
            assert found["size"] == pytest.approx(120 / 640, abs=0.03)
            page.wait_for_timeout(50)
        expect(tile.locator(".delay dd")).to_have_text(re.compile(r"^\d+ ms$"))
        expect(tile.locator(".bars tbody")).to_have_count(8)
        expect(tile.locator(".face-word")).not_to_be_empty()
        expect(tile.locator(".ribbon canvas")).to_be_visible()
        label = tile.locator("canvas[role=img]").get_attribute("aria-label")
        assert label is not None
        assert label.startswith("cam: face 1 ")
        shown = tile.locator(".shown dd")
        expect(shown).not_to_have_text("0/s")
    assert complaints == []


@pytest.mark.parametrize("unsure", [True, False])
def test_what_the_model_is_unsure_of_is_called_that_and_hatched(
    server: Server,
    bus: Bus,
    open_page: Callable[..., Page],
    complaints: list[str],
    monkeypatch: pytest.MonkeyPatch,
    unsure: bool,
) -> None:
    monkeypatch.setattr("tests.web.studio.UNSURE_BELOW", 0.5 if unsure else 0.3)
    with Studio(bus, [builders.feed()]):
        page = open_page(server.url)
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        word, share = page.locator(".face-word"), page.locator(".face-share")
        picture = page.locator("canvas[role=img]")
        if unsure:
            expect(word).to_have_text("Unsure")
            expect(share).to_have_text(re.compile(r"^[A-Z][a-z]+\? [34]\d%$"))
            expect(picture).to_have_attribute("aria-label", re.compile("unsure, perhaps [A-Z]"))
            expect(page.locator(".bars .top")).to_have_count(0)
        else:
            expect(word).not_to_have_text("Unsure")
            expect(share).to_have_text(re.compile(r"^[34]\d%$"))
        page.wait_for_timeout(2000)
        hatched = page.evaluate(_HATCHED)
        assert (hatched > 0.05) == unsure, hatched
    assert complaints == []


def test_a_feed_is_added_and_removed_by_keyboard(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url)
    expect(page.get_by_text("Nothing to watch yet")).to_be_visible()
    page.get_by_role("button", name="Add camera").first.press("Enter")
    dialog = page.get_by_role("dialog", name="Add a camera")
    source = dialog.get_by_label("Source")
    expect(source).to_be_focused()
    source.fill("ftp://user:secret@camera/x")
    source.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("use one of rtsp://")
    expect(dialog.get_by_role("alert")).not_to_contain_text("secret")
    expect(source).to_have_attribute("aria-invalid", "true")
    assert bus.feeds() == []
    complaints.clear()  # Chromium logs every 400 as an error
    source.fill("demo")
    dialog.get_by_label("Name").fill("Hall <b>1</b>")
    dialog.get_by_label("Name").press("Enter")
    expect(page.get_by_role("heading", name="Hall <b>1</b>")).to_be_visible()
    assert [feed.name for feed in bus.feeds()] == ["Hall <b>1</b>"]
    page.get_by_role("button", name="More about Hall").press("Enter")
    page.get_by_role("button", name="Remove Hall").press("Enter")
    confirm = page.get_by_role("dialog")
    expect(confirm).to_contain_text("Remove “Hall <b>1</b>”?")
    confirm.get_by_role("button", name="Cancel").press("Enter")
    assert len(bus.feeds()) == 1
    page.get_by_role("button", name="More about Hall").press("Enter")
    page.get_by_role("button", name="Remove Hall").press("Enter")
    confirm.get_by_role("button", name="Remove camera").press("Enter")
    expect(page.get_by_text("Nothing to watch yet")).to_be_visible()
    assert bus.feeds() == []
    assert complaints == []


def test_what_is_wrong_is_said_with_its_remedy(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    feed = Feed.new(Source.parse("rtsp://user:p@ss/w#rd@host/x"), fps=15, width=640, name="Door")
    studio = Studio(bus, [feed])
    studio.turn()
    page = open_page(server.url)
    expect(page.locator(".state")).to_have_text("Live")
    bus.report_capture(
        feed.id, CaptureReport(FeedState.ERROR, "The camera refuses the password: check it.")
    )
    expect(page.locator(".veil")).to_have_text("The camera refuses the password: check it.")
    expect(page.locator(".state")).to_have_text("Cannot open")
    bus.remove_worker("studio")
    expect(page.get_by_role("alert").first).to_contain_text("moodline worker")
    assert "ss/w" not in page.content()
    studio.report()
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator(".veil")).to_be_hidden()


def test_a_lost_server_is_said_and_found_again(
    start_server: Callable[..., Server], bus: Bus, open_page: Callable[..., Page]
) -> None:
    server = start_server()
    with Studio(bus, [builders.feed()]):
        page = open_page(server.url)
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        stop(server.process)
        expect(page.locator("#notice")).to_contain_text("lost", timeout=15_000)
        start_server(server.port)
        expect(page.locator("#notice")).to_be_hidden(timeout=15_000)
        expect(page.locator(".shown dd")).not_to_have_text("0/s")
        expect(page.locator(".tile")).to_have_count(1)


def test_a_server_that_hangs_is_said(
    start_server: Callable[..., Server], bus: Bus, open_page: Callable[..., Page]
) -> None:
    server = start_server()
    page = open_page(server.url)
    expect(page.locator("#loading")).to_be_hidden()
    server.process.send_signal(signal.SIGSTOP)
    expect(page.locator("#notice")).to_contain_text("does not answer", timeout=15_000)
    server.process.send_signal(signal.SIGCONT)


def test_feeds_that_others_add_and_remove_come_and_go(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    with Studio(bus, [builders.feed("a")]):
        page = open_page(server.url)
        expect(page.locator(".tile")).to_have_count(1)
        bus.put_feed(builders.feed("b"))
        expect(page.locator(".tile")).to_have_count(2)
        bus.remove_feed("a")
        expect(page.locator(".tile")).to_have_count(1)
        expect(page.get_by_role("heading", name="b")).to_be_visible()


def test_a_hidden_page_lets_pictures_pass_and_goes_on_when_seen(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    with Studio(bus, [builders.feed()]):
        page = open_page(server.url)
        expect(page.locator(".shown dd")).not_to_have_text("0/s")
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
        page.evaluate(hide % "true")
        wait_until(lambda: bus.statuses(["cam"])["cam"].viewers == 1)
        page.wait_for_timeout(1500)
        picture = "document.querySelector('.tile-picture canvas').toDataURL().length"
        before = page.evaluate(picture)
        page.wait_for_timeout(400)
        assert page.evaluate(picture) == before
        page.evaluate(hide % "false")
        expect(page.locator(".shown dd")).not_to_have_text("0/s")


def test_one_logs_in_on_a_page_of_its_own(
    start_server: Callable[..., Server],
    bus: Bus,
    open_page: Callable[..., Page],
    complaints: list[str],
) -> None:
    bus.restore_feeds([])
    server = start_server(MOODLINE_PASSWORD=PASSWORD)
    page = open_page(server.url)
    expect(page).to_have_url(f"{server.url}/login")
    expect(page.get_by_label("Password")).to_be_focused()
    page.get_by_label("Password").fill("guess")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the password.")
    complaints.clear()  # Chromium logs every 401 as an error
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_text("Nothing to watch yet")).to_be_visible()
    assert complaints == []
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{server.url}/login")


@pytest.mark.parametrize(("width", "height", "columns"), [(1440, 900, 2), (390, 844, 1)])
def test_the_board_fits_the_screen(
    server: Server,
    bus: Bus,
    open_page: Callable[..., Page],
    width: int,
    height: int,
    columns: int,
) -> None:
    feeds = [builders.feed(name) for name in "abcd"]
    with Studio(bus, feeds, fps=5):
        page = open_page(server.url, width=width, height=height)
        expect(page.locator(".tile.has-picture").nth(3 if columns == 2 else 0)).to_be_attached()
        boxes = [tile.bounding_box() for tile in page.locator(".tile").all()]
        assert len({round(box["x"]) for box in boxes if box}) == columns
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0
        if columns == 2:  # all at once, without scrolling
            assert page.evaluate("document.documentElement.scrollHeight - innerHeight") <= 0
        expect(page.locator("footer")).to_contain_text("not a definitive diagnosis")


def test_the_theme_is_chosen_and_kept(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    page = open_page(server.url)
    button = page.locator("#theme")
    expect(button).to_have_attribute("aria-label", "Theme: as the system")
    button.click()
    button.click()
    expect(button).to_have_attribute("aria-label", "Theme: dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(button).to_have_attribute("aria-label", "Theme: dark")
