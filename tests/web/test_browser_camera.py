"""The browser's own camera in a real Chromium, whose camera is a clip, with a real worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import pytest
from av.container import InputContainer, OutputContainer
from playwright.sync_api import Browser, Page, WebSocketRoute, expect, sync_playwright

from shared.bus import Bus
from shared.config import PROJECT_DIR
from tests.web.conftest import CHROMIUMS, DEMO, Server, stop, wait_until

NAME = "Me <b>"
# What a page sees in a browser that has no camera, refuses it, or got the page over plain http.
_NO_CAMERA = (
    "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', '%s') }"
)
_NOT_SECURE = "Object.defineProperty(window, 'isSecureContext', {value: false})"
_TRACKS = """
() => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  window.tracks = [];
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    tracks.push(...stream.getTracks());
    return stream;
  };
}
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's first seconds, as Chromium's fake camera plays them."""
    path = tmp_path_factory.mktemp("clip") / "camera.mjpeg"
    with av.open(str(DEMO)) as demo, av.open(str(path), "w", format="mjpeg") as out:
        assert isinstance(demo, InputContainer)
        assert isinstance(out, OutputContainer)
        stream = out.add_stream("mjpeg", rate=15)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for frame in islice(demo.decode(video=0), 60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"))))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def browser(clip: Path) -> Iterator[Browser]:
    """A Chromium that gives its camera to whoever asks."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("no Chromium: install it (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={clip}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def worker(bus: Bus) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "moodline", "worker", "--queues", "live"],
        env={**os.environ, "REDIS_URL": bus.url},
        cwd=PROJECT_DIR,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(bus.workers, 20)
    yield
    stop(process)


def open_dialog(page: Page) -> None:
    page.get_by_role("button", name="Use this camera").first.click()
    start = page.get_by_role("button", name="Start", exact=True)
    expect(start).to_be_enabled()


def turn_on(page: Page) -> None:
    open_dialog(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#camera-light")).to_be_visible()


def live_tracks(page: Page) -> int:
    return int(page.evaluate("tracks.filter((track) => track.readyState === 'live').length"))


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_from_the_click_to_ones_own_emotions_and_back_to_dark(
    server: Server,
    bus: Bus,
    worker: None,
    open_page: Callable[..., Page],
    complaints: list[str],
    width: int,
    height: int,
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url, width=width, height=height)
    page.evaluate(_TRACKS)
    expect(page.get_by_text("Nothing to watch yet")).to_be_visible()
    open_dialog(page)
    dialog = page.get_by_role("dialog", name="Use this camera")
    expect(dialog.locator("video")).to_be_visible()
    dialog.get_by_label("Name").fill(NAME)
    dialog.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".tile .face-word").first).not_to_be_empty()
    expect(page.get_by_role("heading", name=NAME)).to_be_in_viewport()
    light = page.get_by_role("status").filter(has_text="Camera on")
    expect(light).to_be_in_viewport()
    expect(page.get_by_role("button", name="Stop the camera")).to_be_focused()
    expect(page.get_by_role("button", name="Use this camera")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    (feed,) = bus.feeds()
    wait_until(lambda: bus.statuses([feed.id])[feed.id].analysed >= 30)
    expect(page.locator(".tile .delay dd")).to_have_text(re.compile(r"^\d+ ms$"))
    page.get_by_role("button", name="Stop the camera").click()
    expect(light).to_be_hidden()
    expect(page.get_by_text("Nothing to watch yet")).to_be_visible()
    expect(page.get_by_role("button", name="Use this camera").first).to_be_visible()
    wait_until(lambda: not bus.feeds())
    assert live_tracks(page) == 0, "the device is still on"
    assert complaints == []


def test_who_is_quicker_than_the_connection_waits_for_it(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    bus.restore_feeds([])
    page = open_page(f"{server.url}/videos")
    lines: list[WebSocketRoute] = []
    page.route_web_socket(re.compile("/socket.io/"), lambda line: lines.append(line))  # noqa: PLW0108
    page.goto(server.url)
    open_dialog(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("button", name="Starting")).to_be_disabled()
    page.wait_for_timeout(500)
    lines[0].connect_to_server()
    expect(page.locator("#camera-light")).to_be_visible()


def test_a_preview_that_is_cancelled_sends_nothing_and_gives_the_device_back(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    page = open_page(server.url)
    page.evaluate(_TRACKS)
    open_dialog(page)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_focused()
    assert live_tracks(page) == 1
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    wait_until(lambda: live_tracks(page) == 0, 2)  # the dialog says so once it is closed
    assert bus.feeds() == []


def test_a_start_that_is_given_up_at_once_leaves_nothing_on(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url)
    page.evaluate(_TRACKS)
    open_dialog(page)
    page.evaluate(
        """() => {
          document.querySelector("#camera-dialog [type=submit]").click();
          document.getElementById("camera-dialog").close();
        }"""
    )
    page.wait_for_timeout(1000)
    expect(page.locator("#camera-light")).to_be_hidden()
    assert live_tracks(page) == 0
    wait_until(lambda: not bus.feeds())


def test_removing_its_tile_or_leaving_the_page_ends_the_camera(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url)
    turn_on(page)
    page.get_by_role("button", name="More about Browser camera").click()
    page.get_by_role("button", name="Remove Browser camera").click()
    expect(page.locator("#camera-light")).to_be_hidden()
    wait_until(lambda: not bus.feeds())
    turn_on(page)
    assert len(bus.feeds()) == 1
    page.goto(f"{server.url}/videos")
    wait_until(lambda: not bus.feeds())


def test_a_feed_that_somebody_else_removes_ends_the_camera_and_says_so(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url)
    page.evaluate(_TRACKS)
    turn_on(page)
    bus.remove_feed(bus.feeds()[0].id)
    expect(page.get_by_role("alert").filter(has_text="its feed was removed")).to_be_visible()
    expect(page.locator("#camera-light")).to_be_hidden()
    assert live_tracks(page) == 0
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#camera-light")).to_be_visible()


def test_a_device_that_is_unplugged_is_told(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url)
    page.evaluate(_TRACKS)
    turn_on(page)
    page.evaluate("tracks[0].stop(); tracks[0].dispatchEvent(new Event('ended'))")
    expect(page.get_by_role("alert").filter(has_text="The camera is gone")).to_be_visible()
    expect(page.locator("#camera-light")).to_be_hidden()
    wait_until(lambda: not bus.feeds())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_NO_CAMERA % "NotAllowedError", "may not use the camera"),
        (_NO_CAMERA % "NotFoundError", "No camera was found"),
        (_NO_CAMERA % "NotReadableError", "another program may be using it"),
        (_NOT_SECURE, "over https"),
    ],
)
def test_why_there_is_no_camera_is_said_with_its_remedy(
    server: Server, bus: Bus, open_page: Callable[..., Page], given: str, message: str
) -> None:
    bus.restore_feeds([])
    page = open_page(server.url)
    expect(page.locator("#loading")).to_be_hidden()
    page.evaluate(f"() => {{ {given} }}")
    page.get_by_role("button", name="Use this camera").first.click()
    expect(page.get_by_role("alert").filter(has_text=message)).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    assert bus.feeds() == []


def test_the_camera_goes_on_by_itself_after_the_server_was_away(
    start_server: Callable[..., Server], bus: Bus, open_page: Callable[..., Page]
) -> None:
    bus.restore_feeds([])
    server = start_server()
    page = open_page(server.url)
    turn_on(page)
    (before,) = bus.feeds()
    wait_until(lambda: bus.statuses([before.id])[before.id].captured > 5)
    stop(server.process)
    assert bus.feeds() == []
    start_server(server.port)
    wait_until(bus.feeds, 10)
    (after,) = bus.feeds()
    assert after.id != before.id
    wait_until(lambda: bus.statuses([after.id])[after.id].captured > 5)
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator("#camera-light")).to_be_visible()
