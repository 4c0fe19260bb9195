"""Recording in a real Chromium, from the question to the report: real capture, recorder, worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.recording_bus import RecordingBus
from shared.recordings import Ending, Saved
from shared.schema import FeedState
from shared.video import new_video_id
from tests import builders
from tests.web.conftest import Server, stop, wait_until
from tests.web.studio import Studio

AXE = PROJECT_DIR / "web" / "node_modules" / "axe-core" / "axe.min.js"
OpenPage = Callable[..., Page]


@pytest.fixture
def site(bus: Bus, tmp_path: Path, start_server: Callable[..., Server]) -> Iterator[Server]:
    """Web server, capture and a worker, with a feed that shows the demo."""
    bus.restore_feeds([])
    bus.put_feed(replace(builders.feed("hall", "demo"), name="Hall"))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "moodline", part],
            env={**os.environ, "REDIS_URL": bus.url, "MOODLINE_DATA_DIR": str(tmp_path / "data")},
            cwd=PROJECT_DIR,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for part in ("capture", "worker")
    ]
    server = start_server()
    wait_until(lambda: bus.statuses(["hall"])["hall"].state is FeedState.LIVE, 20)
    wait_until(bus.workers, 20)
    yield server
    for process in started:
        stop(process)


@pytest.fixture
def recordings(bus: Bus) -> Iterator[RecordingBus]:
    recordings = RecordingBus(bus.url)
    yield recordings
    recordings.close()


def violations(page: Page) -> list[Any]:
    """What axe calls serious or worse of what recording shows; nothing without its library."""
    if not AXE.exists():
        return []
    page.evaluate(AXE.read_text() + "; undefined")
    parts = "[['.tools'], ['.recording'], ['.record-dialog']]"
    found = page.evaluate(f"axe.run({{ include: {parts} }}).then(({{ violations }}) => violations)")
    return [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_from_the_question_to_the_report_by_keyboard(
    site: Server, open_page: OpenPage, complaints: list[str]
) -> None:
    page = open_page(site.url)
    other = open_page(site.url)  # somebody else who sees the feed
    expect(page.locator(".tile.has-picture")).to_be_visible(timeout=15_000)
    page.locator(".cover").focus()
    page.keyboard.press("r")
    dialog = page.locator(".record-dialog")
    expect(dialog).to_contain_text("Pictures of people will be kept")
    expect(dialog.locator("li")).to_have_text(
        [
            re.compile(r"kept in .+/media\."),
            "They are kept until somebody deletes them.",
            "After 4 hours the recording ends by itself.",
        ]
    )
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(".recording-mark")).to_be_hidden()  # a question that was not answered

    page.keyboard.press("r")
    page.keyboard.type("Rehearsal")
    page.keyboard.press("Enter")
    for viewer in (page, other):
        mark = viewer.locator(".recording-mark")
        expect(mark.locator("b")).to_have_text(re.compile(r"Recording for 0:0\d"), timeout=10_000)
        expect(viewer.locator(".recording [role=status]")).to_have_text("Hall is being recorded.")
    assert violations(page) == []
    expect(mark.locator("b")).to_have_text(re.compile(r"Recording for 0:(0[3-9]|1)"))
    page.locator(".cover").focus()
    page.keyboard.press("1")
    expect(page.locator(".large .recording-mark")).to_be_visible()
    page.get_by_role("button", name="Stop recording Hall").focus()
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="Open report")
    expect(link).to_be_visible(timeout=15_000)
    expect(page.locator(".recording-mark")).to_be_hidden()
    assert violations(page) == []

    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#report")).to_be_visible(timeout=30_000)
    expect(page.locator(".report-name")).to_have_text("Rehearsal")
    expect(page.locator(".notes")).to_contain_text("Recorded from “Hall”, beginning ")
    expect(page.locator(".people")).to_contain_text("Person 1")
    video = page.locator("video")
    expect(video).to_have_js_property("error", None)
    wait_until(lambda: page.evaluate("document.querySelector('video').duration") > 2)
    assert video.evaluate("video => video.currentSrc").endswith("/source")
    assert complaints == []


def test_what_is_recorded_says_so_everywhere_and_how_it_ended(
    server: Server, bus: Bus, recordings: RecordingBus, open_page: OpenPage
) -> None:
    with Studio(bus, [builders.feed("hall"), builders.feed("door")]):
        page = open_page(server.url, width=390, height=844)
        hall = page.locator("[data-feed=hall]")
        expect(hall).to_be_visible(timeout=10_000)
        recordings.start("hall", new_video_id(), "")
        expect(hall.locator(".recording-mark")).to_contain_text("Recording starts")
        wanted, _ = recordings.seen(["hall"])["hall"]
        assert wanted is not None
        begun = replace(wanted, since=wanted.asked_at - 3723, frames=9, missed=2)
        recordings.hold("hall", begun, "a machine")
        mark = hall.locator(".recording-mark")
        expect(mark.locator("b")).to_have_text(re.compile(r"Recording for 1:02:0\d"))
        expect(mark).to_have_attribute("title", re.compile("2 pictures were missed"))
        expect(page.locator("[data-feed=door] .recording-mark")).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        cameras = open_page(f"{server.url}/cameras")
        listed = cameras.locator("[data-feed=hall] .recording-mark")
        expect(listed).to_contain_text("Recording since ")

        recordings.stop("hall", Ending.DISK)
        expect(mark).to_contain_text("Saving the recording")
        recordings.end("hall", wanted.id, Saved(wanted.id, "Hall", Ending.DISK, 9, 2), "a machine")
        note = hall.locator(".recording-note").first
        expect(note).to_contain_text("Recording saved. The disk is nearly full. Open report")
        expect(mark).to_be_hidden()
        note.get_by_role("button", name="Close this note").click()
        expect(note).to_be_hidden()
        page.wait_for_timeout(1500)  # the list comes again
        expect(note).to_be_hidden()


def test_why_it_cannot_begin_stands_in_the_question(
    server: Server, bus: Bus, open_page: OpenPage
) -> None:
    with Studio(bus, [builders.feed("hall")]):  # which captures, and leaves no word of capture
        page = open_page(server.url)
        page.get_by_role("button", name="Record hall …").click()
        page.get_by_role("button", name="Start recording").click()
        expect(page.locator(".record-dialog .form-error")).to_contain_text("moodline capture")
        expect(page.locator(".record-dialog")).to_be_visible()
