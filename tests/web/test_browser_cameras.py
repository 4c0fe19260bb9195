"""The page of cameras in a real Chromium, with a real web server and, where pictures come from
sources, real capture processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.schema import CaptureReport, Feed, FeedState
from shared.source import Source
from tests import builders
from tests.web.conftest import DEMO, Server, stop, wait_until
from tests.web.studio import Studio

SECRET = "rtsp://admin:secret-word@camera.local/x"
OpenPage = Callable[..., Page]
_NAMELESS = """
() => [...document.querySelectorAll("button, a[href], input, select")]
  .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.textContent.trim()
    || e.labels?.length))
  .map((e) => e.outerHTML)
"""


@pytest.fixture
def capture(bus: Bus, tmp_path: Path) -> Iterator[None]:
    """A real capture process on the tests' Redis."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moodline", "capture"],
        env={**os.environ, "REDIS_URL": bus.url, "MOODLINE_DATA_DIR": str(tmp_path / "capture")},
        cwd=PROJECT_DIR,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait_until(bus.capture_is_running, 15)
    yield
    stop(process)


def three(bus: Bus) -> list[Feed]:
    """Three cameras in a registry that is not new."""
    bus.restore_feeds([])
    feeds = [
        replace(builders.feed(id_, source), name=name, place=float(place))
        for place, (id_, name, source) in enumerate(
            [("a", "Hall", SECRET), ("b", "Yard", "demo"), ("c", "Door", "97")]
        )
    ]
    for feed in feeds:
        bus.put_feed(feed)
    return feeds


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))


def names(page: Page) -> list[str]:
    return page.locator("#list h2").all_inner_texts()


def order(bus: Bus) -> list[str]:
    return [feed.id for feed in bus.feeds()]


def test_cameras_show_picture_source_state_and_remedy(
    server: Server, bus: Bus, open_page: OpenPage, complaints: list[str]
) -> None:
    feeds = three(bus)
    with Studio(bus, feeds[:2]):
        bus.report_capture("c", CaptureReport(FeedState.ERROR, "There is no webcam: plug it in."))
        bus.change_feed("b", lambda feed: feed.changed(enabled=False))
        page = open_page(f"{server.url}/cameras")
        expect(page.locator("#summary")).to_have_text("3 cameras, 2 switched on")
        hall, yard, door = (row(page, name) for name in ("Hall", "Yard", "Door"))
        expect(hall.locator(".state")).to_have_text("Live")
        expect(hall.locator(".camera-rate")).to_have_text(re.compile(r"15\.0 frames/s"))
        expect(hall).to_contain_text("rtsp://***@camera.local/x")
        picture = hall.get_by_role("img", name="Latest picture of Hall")
        wait_until(lambda: picture.evaluate("image => image.naturalWidth") == 640)
        expect(yard.locator(".state")).to_have_text("Switched off")
        expect(yard.get_by_role("switch")).not_to_be_checked()
        expect(door).to_contain_text("Cannot open")
        expect(door).to_contain_text("There is no webcam: plug it in.")
        expect(door).to_contain_text("No picture")
        assert page.evaluate(_NAMELESS) == []
        assert "secret-word" not in page.content()
    assert complaints == []


def test_a_camera_is_renamed_switched_and_tuned_and_other_pages_follow(
    server: Server, bus: Bus, open_page: OpenPage, complaints: list[str]
) -> None:
    three(bus)
    page, other = (open_page(f"{server.url}/cameras") for _ in range(2))
    hall = row(page, "Hall")
    hall.get_by_role("button", name="Rename Hall").press("Enter")
    name = page.get_by_label("Name of Hall")  # its heading is hidden meanwhile
    expect(name).to_be_focused()
    name.fill("Lobby <b>1</b>")
    name.press("Enter")
    lobby = row(page, "Lobby <b>1</b>")
    expect(lobby.get_by_role("button", name="Rename Lobby")).to_be_focused()
    expect(page.locator("#said")).to_have_text("The camera is now called Lobby <b>1</b>")
    expect(row(other, "Lobby <b>1</b>")).to_be_visible()
    lobby.get_by_role("button", name="Rename Lobby").press("Enter")
    page.keyboard.type("Nobody")
    page.keyboard.press("Escape")
    expect(lobby).to_be_visible()

    lobby.get_by_role("switch", name="Lobby <b>1</b> switched on").press("Space")
    expect(lobby.locator(".state")).to_have_text("Switched off")
    expect(row(other, "Lobby").get_by_role("switch")).not_to_be_checked()
    fps = lobby.get_by_label("Frames per second")
    fps.fill("7.5")
    fps.press("Enter")
    lobby.get_by_label("Width").select_option("960 px")
    wait_until(lambda: bus.feed("a").width == 960)
    kept = bus.feed("a")
    assert (kept.name, kept.enabled, kept.fps) == ("Lobby <b>1</b>", False, 7.5)
    assert kept.source.text == SECRET
    expect(row(other, "Lobby").get_by_label("Width")).to_have_value("960")
    assert complaints == []

    fps.fill("99")
    fps.press("Enter")
    expect(lobby.get_by_role("alert")).to_contain_text("up to 60")
    assert bus.feed("a").fps == 7.5
    expect(fps).to_have_value("7.5")


def test_cameras_are_ordered_by_keys_and_buttons_and_that_is_said(
    server: Server, bus: Bus, open_page: OpenPage, complaints: list[str]
) -> None:
    three(bus)
    page = open_page(f"{server.url}/cameras")
    handle = row(page, "Hall").get_by_role("button", name="Move Hall: arrow keys, or drag")
    handle.focus()
    handle.press("ArrowDown")
    said = page.locator("#said")
    expect(said).to_have_text("Hall is now 2 of 3")
    expect(handle).to_be_focused()
    handle.press("ArrowDown")
    handle.press("ArrowDown")  # the end
    expect(said).to_have_text("Hall is now 3 of 3")
    handle.press("ArrowUp")
    expect(said).to_have_text("Hall is now 2 of 3")
    expect(handle).to_be_focused()
    handle.press("ArrowDown")
    assert names(page) == ["Yard", "Door", "Hall"]
    wait_until(lambda: order(bus) == ["b", "c", "a"])
    down = row(page, "Hall").get_by_role("button", name="Move Hall down")
    expect(down).to_have_attribute("aria-disabled", "true")
    row(page, "Door").get_by_role("button", name="Move Door up").click()
    wait_until(lambda: order(bus) == ["c", "b", "a"])
    assert names(page) == ["Door", "Yard", "Hall"]
    bus.order_feeds(["a"])  # on another page
    expect(page.locator("#list h2").first).to_have_text("Hall")
    assert complaints == []


def test_cameras_are_ordered_by_dragging(
    server: Server, bus: Bus, open_page: OpenPage, complaints: list[str]
) -> None:
    three(bus)
    page = open_page(f"{server.url}/cameras")

    def middle(name: str) -> tuple[float, float]:
        box = row(page, name).locator(".camera-handle").bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    page.mouse.move(*middle("Hall"))
    page.mouse.down()
    target_x, target_y = middle("Door")
    page.mouse.move(target_x, target_y + 10, steps=12)
    assert names(page) == ["Yard", "Door", "Hall"]
    page.mouse.up()
    wait_until(lambda: order(bus) == ["b", "c", "a"])
    expect(page.locator("#said")).to_have_text("Hall is now 3 of 3")

    page.mouse.move(*middle("Hall"))
    page.mouse.down()
    page.mouse.move(*middle("Yard"), steps=12)
    assert names(page) == ["Yard", "Hall", "Door"]
    page.keyboard.press("Escape")
    page.mouse.up()
    assert names(page) == ["Yard", "Door", "Hall"]
    assert order(bus) == ["b", "c", "a"]
    assert complaints == []


def test_a_camera_is_added_with_a_test_picture_and_captured_at_once(
    server: Server, bus: Bus, capture: None, open_page: OpenPage, complaints: list[str]
) -> None:
    page = open_page(f"{server.url}/cameras")
    expect(page.get_by_role("heading", name="No cameras yet")).to_be_visible()
    page.get_by_role("button", name="Add camera").last.press("Enter")
    dialog = page.get_by_role("dialog", name="Add a camera")
    source = dialog.get_by_label("Source", exact=True)
    expect(source).to_be_focused()
    dialog.get_by_role("button", name="Video file").press("Enter")
    expect(source).to_have_value("/home/me/clip.mp4")
    expect(dialog.get_by_role("button", name="Video file")).to_have_attribute(
        "aria-pressed", "true"
    )
    source.fill("/nowhere/clip.mp4")
    test = dialog.get_by_role("button", name="Test picture")
    test.press("Enter")
    expect(dialog.get_by_role("status")).to_contain_text("Opening the source")
    expect(dialog.get_by_role("alert")).to_contain_text(
        "check the name and the folder", timeout=15000
    )
    expect(source).to_be_focused()
    complaints.clear()  # Chromium logs every 422 as an error
    source.fill(str(DEMO))
    expect(dialog.get_by_role("alert")).to_be_empty()
    test.press("Enter")
    picture = dialog.get_by_role("img", name="The source's first picture")
    expect(picture).to_be_visible(timeout=15000)
    wait_until(lambda: picture.evaluate("image => image.naturalWidth") > 100)
    assert bus.feeds() == []
    source.press("Enter")
    expect(dialog).to_be_hidden()
    camera = row(page, "demo.mp4")
    expect(camera.locator(".state")).to_have_text("Live", timeout=15000)
    assert [feed.source.text for feed in bus.feeds()] == [str(DEMO)]

    camera.get_by_role("button", name="Remove demo.mp4").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Remove camera").press("Enter")
    expect(page.get_by_role("heading", name="No cameras yet")).to_be_visible()
    assert bus.feeds() == []
    assert complaints == []


def test_another_source_is_given_without_showing_the_former_one(
    server: Server, bus: Bus, open_page: OpenPage
) -> None:
    before = three(bus)[0]
    page = open_page(f"{server.url}/cameras")
    row(page, "Hall").get_by_role("button", name="Change the source of Hall").press("Enter")
    dialog = page.get_by_role("dialog", name="Another source for “Hall”")
    source = dialog.get_by_label("Source", exact=True)
    expect(source).to_have_value("")
    expect(dialog.get_by_label("Name")).to_be_hidden()
    dialog.get_by_role("button", name="Test picture").press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("The source is empty")
    source.fill("/home/me/clip.mp4")
    dialog.get_by_role("button", name="Test picture").press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("moodline capture")
    source.press("Enter")
    expect(dialog).to_be_hidden()
    assert bus.feed("a") == replace(before, source=Source.parse("/home/me/clip.mp4"))
    expect(row(page, "Hall")).to_contain_text("/home/me/clip.mp4")


def test_an_address_opens_its_camera_for_editing(
    server: Server, bus: Bus, open_page: OpenPage, complaints: list[str]
) -> None:
    three(bus)
    page = open_page(f"{server.url}/cameras#c", height=420)
    name = page.get_by_label("Name of Door")
    expect(name).to_be_focused()
    expect(name).to_be_in_viewport()
    page.evaluate("location.hash = 'a'")
    expect(page.get_by_label("Name of Hall")).to_be_focused()
    page.evaluate("location.hash = 'nobody'")
    expect(page.locator("#said")).to_contain_text("is not here")
    assert complaints == []


def test_a_browsers_camera_can_only_be_renamed_and_removed(
    server: Server, bus: Bus, open_page: OpenPage
) -> None:
    bus.restore_feeds([])
    bus.own_feed("mine", "somebody")
    bus.put_feed(Feed("mine", "Phone", Source.browser(), 15.0, 640, transient=True))
    bus.report_capture("mine", CaptureReport(FeedState.LIVE, fps_in=9))
    page = open_page(f"{server.url}/cameras")
    phone = row(page, "Phone")
    expect(phone).to_contain_text("on the page of the browser")
    expect(phone.get_by_role("switch")).to_be_disabled()
    expect(phone.get_by_label("Width")).to_be_disabled()
    expect(phone.get_by_role("button", name="Change the source")).to_be_hidden()
    expect(phone.get_by_role("button", name="Rename Phone")).to_be_enabled()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (820, 1180), (390, 844)])
def test_the_page_fits_every_width_with_long_names_and_sources(
    server: Server, bus: Bus, open_page: OpenPage, width: int, height: int
) -> None:
    three(bus)
    bus.change_feed(
        "a", lambda f: f.changed(name="Q" * 80, source=Source.parse("http://host/" + "path" * 60))
    )
    page = open_page(f"{server.url}/cameras", width=width, height=height)
    expect(row(page, "Yard")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    clipped = """() => [...document.querySelectorAll(".camera button, .camera input")]
      .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth).length"""
    assert page.evaluate(clipped) == 0
    page.get_by_role("button", name="Add camera").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
