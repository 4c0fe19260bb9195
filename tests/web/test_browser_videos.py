"""The page of recorded videos in a real Chromium, with real uploads, storage and workers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.media import Media
from shared.video import Footage, Video, VideoOptions, VideoStatus, video_path
from tests.web.conftest import Server, start, stop, wait_until

DEMO = PROJECT_DIR / "workers" / "demo" / "demo.mp4"
_DROP = """
(files) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) transfer.items.add(new File([text], name));
  for (const type of ["dragover", "drop"]) {
    const event = new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
    if (type === "dragover") window.signSeen = !document.getElementById("drop").hidden;
  }
}
"""
# Everything that can be operated, and what a screen reader calls it.
_NAMELESS = """
() => [...document.querySelectorAll("button, a[href], input, progress")]
  .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.textContent.trim()
    || e.labels?.length || e.querySelector("img[alt]:not([alt=''])")))
  .map((e) => e.outerHTML)
"""


@pytest.fixture(scope="module")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `shared_server`."""
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def shared_server(redis_url: str, shared_dir: Path) -> Iterator[Server]:
    server = start(redis_url, shared_dir)
    yield server
    stop(server.process)


@pytest.fixture
def videos_url(shared_server: Server, shared_dir: Path, bus: Bus) -> Iterator[str]:
    """Where the page is, without any videos."""
    yield f"{shared_server.url}/videos"
    for folder in ("media", "uploads"):
        shutil.rmtree(shared_dir / folder, ignore_errors=True)


@pytest.fixture
def worker(redis_url: str, shared_dir: Path) -> Iterator[None]:
    environment = {"REDIS_URL": redis_url, "MOODLINE_DATA_DIR": str(shared_dir)}
    process = subprocess.Popen(
        [sys.executable, "-m", "moodline", "worker"],
        env={**os.environ, **environment},
        cwd=PROJECT_DIR,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield
    stop(process)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data folder of `start_server`."""
    return tmp_path / "data"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """The demo clip with 4 MB more at its end, in a box that readers pass over."""
    path = tmp_path / "large one.mp4"
    size_bytes = 4_000_000
    path.write_bytes(
        DEMO.read_bytes() + size_bytes.to_bytes(4, "big") + b"free" + bytes(size_bytes - 8)
    )
    return path


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))


def choose(page: Page, *paths: Path) -> None:
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Choose videos").click()
    chosen.value.set_files(paths)


def is_taken(video: Locator) -> None:
    """Wait until a video is looked into and listed: a process of its own does that."""
    expect(video).to_have_attribute("data-state", "queued", timeout=30_000)


def slow_down(page: Page, bytes_per_s: int) -> None:
    session = page.context.new_cdp_session(page)
    session.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": 0,
            "downloadThroughput": -1,
            "uploadThroughput": bytes_per_s,
        },
    )


def watch_offsets(page: Page) -> list[int]:
    """Where each piece that the page sends begins."""
    offsets: list[int] = []
    page.on(
        "request",
        lambda r: offsets.append(int(r.headers["upload-offset"])) if r.method == "PATCH" else None,
    )
    return offsets


def kept(data_dir: Path, name: str, status: VideoStatus, error: str = "") -> None:
    """Put the record of a video into the storage, as a server finds it that starts anew."""
    footage = Footage(62.5, 30.0, 640, 480, "h264", "mov", has_sound=False, playable=True)
    video = Video.new(name, size_bytes=48_000_000, footage=footage, options=VideoOptions())
    ended = replace(video, status=status, error=error[:300], frames_total=1875, frames_done=1875)
    Media(str(data_dir / "media")).write(video_path(video.id), ended.to_json().encode())


def test_a_video_is_uploaded_analysed_and_deleted(
    videos_url: str,
    worker: None,
    open_page: Callable[..., Page],
    complaints: list[str],
    shared_dir: Path,
) -> None:
    page = open_page(videos_url)
    expect(page.get_by_role("heading", name="No videos yet")).to_be_visible()
    page.get_by_label("Frames/s").fill("5")
    page.get_by_label("From").fill("0:02")
    page.get_by_label("To", exact=True).fill("6")
    choose(page, DEMO)
    video = row(page, "demo.mp4")
    expect(video).to_contain_text("5 frames/s")
    expect(video).to_contain_text("0:02 to 0:06")
    expect(video).to_contain_text("0:20")
    expect(video).to_contain_text("Done", timeout=60_000)
    expect(video).to_contain_text("20 frames")
    expect(page.get_by_role("status")).to_have_text("demo.mp4 is analysed.")
    report = video.get_by_role("link", name="Report of demo.mp4")
    assert re.fullmatch(r"/videos/[0-9a-f]{16}", report.get_attribute("href") or "")
    assert len(list((shared_dir / "media" / "videos").iterdir())) == 1

    video.get_by_role("button", name="Delete demo.mp4").press("Enter")
    dialog = page.get_by_role("dialog", name="Delete “demo.mp4”?")
    dialog.get_by_role("button", name="Cancel").press("Enter")
    expect(video.get_by_role("button", name="Delete demo.mp4")).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Delete video").press("Enter")
    expect(page.get_by_role("heading", name="No videos yet")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("demo.mp4 is deleted.")
    wait_until(lambda: not any((shared_dir / "media" / "videos").iterdir()))
    assert complaints == []


def test_an_analysis_is_cancelled_and_tried_again(
    videos_url: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(videos_url)
    choose(page, DEMO)
    video = row(page, "demo.mp4")
    is_taken(video)
    expect(page.get_by_role("alert").first).to_contain_text("moodline worker", timeout=20_000)
    video.get_by_role("button", name="Cancel the analysis of demo.mp4").click()
    expect(video).to_contain_text("Cancelled")
    expect(page.locator("#notice")).to_be_hidden()  # nobody waits for a worker any more
    again = video.get_by_role("button", name="Try again with demo.mp4")
    expect(again).to_be_focused()
    again.press("Enter")
    is_taken(video)


def test_a_file_that_is_no_video_says_why_at_its_row(
    videos_url: str, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    note = tmp_path / "notes <b>.txt"
    note.write_text("no video")
    page = open_page(videos_url)
    choose(page, note, DEMO)
    refused = row(page, note.name)
    expect(refused).to_contain_text("Refused", timeout=30_000)
    expect(refused).to_contain_text("no video that can be read: give a video file", timeout=30_000)
    is_taken(row(page, "demo.mp4"))
    refused.get_by_role("button", name=f"Dismiss {note.name}").click()
    expect(refused).to_have_count(0)
    page.reload()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_files_dropped_anywhere_are_taken(videos_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(videos_url)
    expect(page.get_by_role("heading", name="No videos yet")).to_be_visible()
    page.evaluate(_DROP, [["a.mp4", "x"], ["b.mp4", ""]])
    assert page.evaluate("window.signSeen")
    expect(row(page, "a.mp4")).to_contain_text("no video that can be read", timeout=30_000)
    expect(row(page, "b.mp4")).to_contain_text("The file is empty", timeout=30_000)
    expect(page.locator("#drop")).to_be_hidden()


def test_an_upload_pauses_and_goes_on_where_it_was(
    videos_url: str, open_page: Callable[..., Page], large: Path
) -> None:
    page = open_page(videos_url)
    offsets = watch_offsets(page)
    slow_down(page, 1_500_000)
    choose(page, large)
    upload = row(page, large.name)
    expect(upload.get_by_role("progressbar")).to_have_accessible_name(f"Upload of {large.name}")
    expect(upload).to_contain_text(re.compile(r"about \d+ s left, [\d.]+ .B/s"))
    upload.get_by_role("button", name=f"Pause the upload of {large.name}").click()
    expect(upload).to_contain_text("Upload paused")
    share = upload.locator(".row-share").inner_text()
    page.wait_for_timeout(500)
    assert upload.locator(".row-share").inner_text() == share
    other_tab = open_page(videos_url)  # must not offer to take up what this one sends
    expect(other_tab.get_by_role("heading", name="No videos yet")).to_be_visible()
    other_tab.close()
    upload.get_by_role("button", name=f"Resume the upload of {large.name}").click()
    is_taken(upload)
    expect(upload.get_by_role("button", name="Cancel the analysis")).to_be_visible()
    assert offsets[0] == 0
    assert offsets[-1] > 0


def test_an_upload_goes_on_by_itself_after_a_lost_connection(
    start_server: Callable[..., Server], bus: Bus, open_page: Callable[..., Page], large: Path
) -> None:
    server = start_server()
    page = open_page(f"{server.url}/videos")
    offsets = watch_offsets(page)
    slow_down(page, 1_500_000)
    choose(page, large)
    upload = row(page, large.name)
    expect(upload).to_contain_text("left,")
    stop(server.process)
    expect(upload).to_contain_text("Connection lost")
    expect(page.locator("#notice")).to_contain_text("lost")
    start_server(server.port)
    is_taken(upload)
    expect(page.locator("#notice")).not_to_contain_text("lost")
    assert offsets[-1] > 0


def test_an_upload_waits_for_room_on_a_full_disk(
    videos_url: str, open_page: Callable[..., Page], large: Path
) -> None:
    page = open_page(videos_url)
    offsets = watch_offsets(page)
    said = {"detail": "The server's disk has no room for this file."}

    def answer(route: Route) -> None:
        if route.request.method == "PATCH" and len(offsets) == 1:
            route.fulfill(status=507, headers={"Retry-After": "2"}, json=said)
        else:
            route.continue_()

    page.route("**/api/uploads/*", answer)
    choose(page, large)
    upload = row(page, large.name)
    expect(upload).to_contain_text("no room")
    expect(upload).to_have_attribute("data-state", "upload-lost")
    is_taken(upload)


def test_after_a_reload_the_same_file_goes_on(
    videos_url: str, open_page: Callable[..., Page], large: Path
) -> None:
    page = open_page(videos_url)
    page.on("dialog", lambda dialog: dialog.accept())  # "Leave the page?"
    offsets = watch_offsets(page)
    slow_down(page, 1_500_000)
    page.get_by_label("Frames/s").fill("2")
    choose(page, large)
    upload = row(page, large.name)
    expect(upload).to_contain_text("left,")
    page.reload()
    expect(upload).to_contain_text("Upload interrupted")
    expect(upload).to_contain_text("Choose the same file again")
    expect(upload).to_contain_text("2 frames/s")
    expect(upload.locator(".row-share")).not_to_have_text("0%")
    large.touch()  # as a phone does, which hands over a new copy
    with page.expect_file_chooser() as chosen:
        upload.get_by_role("button", name=f"Choose {large.name} again").click()
    chosen.value.set_files(large)
    is_taken(upload)
    expect(upload).to_contain_text("2 frames/s")
    assert offsets[-1] > 0
    page.reload()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_a_cancelled_upload_leaves_nothing(
    videos_url: str, open_page: Callable[..., Page], large: Path, shared_dir: Path
) -> None:
    page = open_page(videos_url)
    slow_down(page, 1_000_000)
    choose(page, large)
    upload = row(page, large.name)
    expect(upload).to_contain_text("left,")
    assert any((shared_dir / "uploads").iterdir())
    upload.get_by_role("button", name=f"Cancel the upload of {large.name}").click()
    expect(page.get_by_role("heading", name="No videos yet")).to_be_visible()
    wait_until(lambda: not any((shared_dir / "uploads").iterdir()))
    page.reload()
    expect(page.get_by_role("heading", name="No videos yet")).to_be_visible()


@pytest.mark.parametrize(
    ("label", "value", "sentence"),
    [
        ("Frames/s", "0", "above 0"),
        ("From", "1:75", "a time such as"),
        ("To", "0:00", "after the start"),
    ],
)
def test_options_that_do_not_fit_are_said_before_anything_is_sent(
    videos_url: str,
    open_page: Callable[..., Page],
    label: str,
    value: str,
    sentence: str,
) -> None:
    page = open_page(videos_url)
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.method == "POST" else None)
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    choose(page, DEMO)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#options-error")).to_contain_text(sentence)
    expect(page.get_by_role("listitem")).to_have_count(0)
    assert sent == []
    field.fill("")
    choose(page, DEMO)
    is_taken(row(page, "demo.mp4"))


def test_what_is_lost_and_found_again_is_said(
    start_server: Callable[..., Server], bus: Bus, open_page: Callable[..., Page], data_dir: Path
) -> None:
    kept(data_dir, "cut off.mp4", VideoStatus.FAILED, "Segment 3 failed: see the log.")
    server = start_server()
    page = open_page(f"{server.url}/videos")
    failed = row(page, "cut off.mp4")
    expect(failed).to_contain_text("Segment 3 failed: see the log.")
    expect(failed.get_by_role("button", name="Try again with cut off.mp4")).to_be_visible()
    stop(server.process)
    page.evaluate("dispatchEvent(new Event('online'))")  # it would ask ten seconds later
    expect(page.locator("#notice")).to_contain_text("lost")
    expect(failed).to_be_visible()
    server = start_server(server.port)
    expect(page.locator("#notice")).to_be_hidden(timeout=15_000)
    server.process.send_signal(signal.SIGSTOP)
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("#notice")).to_contain_text("does not answer", timeout=20_000)
    server.process.send_signal(signal.SIGCONT)


def test_nothing_is_asked_for_while_nobody_looks(
    videos_url: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(videos_url)
    choose(page, DEMO)
    is_taken(row(page, "demo.mp4"))
    hide = (
        "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.evaluate(hide % "true")
    page.wait_for_timeout(300)  # what was under way comes to its end
    asked: list[float] = []
    page.on("request", lambda _: asked.append(time.monotonic()))
    page.wait_for_timeout(1500)
    assert asked == []
    page.evaluate(hide % "false")
    page.wait_for_timeout(2500)
    assert len(asked) >= 2


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_list_fits_the_screen_and_everything_in_it_has_a_name(
    start_server: Callable[..., Server],
    bus: Bus,
    open_page: Callable[..., Page],
    data_dir: Path,
    width: int,
    height: int,
) -> None:
    kept(data_dir, "a very long name " * 6 + ".mp4", VideoStatus.FAILED, "why " * 60)
    kept(data_dir, "done.webm", VideoStatus.DONE)
    server = start_server()
    page = open_page(f"{server.url}/videos", width=width, height=height)
    expect(page.get_by_role("listitem")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(_NAMELESS) == []
    expect(page.locator("footer")).to_contain_text("not a definitive diagnosis")
    pages = page.get_by_role("navigation", name="Pages")
    expect(pages.get_by_role("link", name="Videos")).to_have_attribute("aria-current", "page")
    pages.get_by_role("link", name="Live").click()
    expect(page).to_have_url(f"{server.url}/")
    expect(page.get_by_role("link", name="Live")).to_have_attribute("aria-current", "page")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
