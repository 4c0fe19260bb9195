"""Timelines, the truth about delay, and the room, in a real Chromium with feeds through Redis."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from shared.bus import Bus
from shared.event_bus import Bounds, EventBus, NewEvent
from shared.events import Event, Rule, RuleKind
from shared.schema import CaptureReport, Face, FeedState
from shared.source import Source
from tests import builders
from tests.web import studio
from tests.web.conftest import Server, wait_until
from tests.web.studio import Studio

BOXES = ((40, 60, 120, 120), (230, 60, 120, 120), (420, 60, 120, 120))

# The delay as the open account tells it: what it says altogether, and its parts.
_ACCOUNT = """
() => {
  const details = document.querySelector(".truth-details:popover-open");
  const ms = (row) => parseInt(row.cells[1].textContent);
  const rows = [...details.querySelectorAll(".truth-parts tbody tr")];
  const sum = details.querySelector(".truth-sum").textContent;
  return {
    parts: Object.fromEntries(
      rows.slice(0, -1).map((row) => [row.cells[0].textContent.slice(3), ms(row)]),
    ),
    total: ms(rows.at(-1)),
    said: parseInt(sum.match(/: (\\d+) ms/)[1]),
  };
}
"""

# A history that is filled as a feed of 15 pictures a second fills it; tells what it holds then.
_FILLED = """
async (minutes) => {
  const { History } = await import("/assets/x/history.js");
  const history = new History();
  const labels = ["neutral", "happy", "sad"];
  const begin = 1.7e9;
  for (let i = 0; i < minutes * 60 * 15; i++) {
    const t = begin + i / 15;
    const passer = 10 + Math.floor(i / 150); // somebody else every ten seconds
    const faces = [1, 2, passer].map((track) => ({
      track, emotion: "happy", confidence: 0.6, unsure: false, box: [0, 0, 9, 9],
      scores: { neutral: 0.2, happy: 0.6, sad: 0.2 },
    }));
    history.add({ captured_at: t, faces });
    if (i % 15 === 0) history.mark({ id: `${i}`, at: t, name: "smile" });
  }
  const now = begin + minutes * 60;
  const tracks = history.tracks(now, 1e6);
  const points = tracks.map((track) => {
    const { parts } = history.series(track, 0, now);
    return parts.reduce((sum, { times }) => sum + times.length, 0);
  });
  return {
    tracks: tracks.length,
    points: points.reduce((a, b) => a + b, 0),
    marks: history.marks(0, now).length,
  };
}
"""

# Where the times of an axis are written, [left, right] each, as the window moves over five seconds.
_TIMES_OF_THE_AXIS = """
async () => {
  const { drawAxis } = await import("/assets/x/report/chart.js");
  const context = document.createElement("canvas").getContext("2d");
  const look = { smallFont: "11px sans-serif", muted: "#000" };
  const clock = (t) => new Date(t * 1000).toLocaleTimeString("en-US");
  const windows = [];
  for (let from = 1.7e9; from < 1.7e9 + 5; from += 0.25) {
    const places = [];
    context.fillText = (words, x) => {
      const half = context.measureText(words).width / 2;
      places.push([x - half, x + half]);
    };
    drawAxis(context, 1188, 24, { view: { from, to: from + 60 }, look, clock });
    windows.push(places);
  }
  return windows;
}
"""

# A panel that knows of no face yet; then faces come, and it gets another width before it is told.
_MEASURED_FIRST = """
async () => {
  const { History } = await import("/assets/x/history.js");
  const { TimelinePanel } = await import("/assets/x/timelines/panel.js");
  const history = new History();
  const feed = { id: "cam", name: "cam" };
  const now = Date.now() / 1000;
  const panel = new TimelinePanel(feed);
  document.body.append(panel.element);
  panel.update(feed, history, now);
  const said = { emotion: "happy", confidence: 0.8, unsure: false };
  const faces = [{ track: 1, ...said, box: [0, 0, 9, 9], scores: { neutral: 0.2, happy: 0.8 } }];
  for (let i = 30; i > 0; i--) history.add({ captured_at: now - i / 10, faces });
  const frame = () => new Promise(requestAnimationFrame);
  const painted = async () => void (await frame(), await frame());
  await painted();
  panel.element.style.width = "500px";
  await painted();
  const words = panel.element.querySelector(".lane-word")?.textContent;
  const chips = panel.legend.children.length;
  panel.close();
  return { words, chips };
}
"""

# The mean of two painted pictures with known times, the second of which a clock that is wrong put
# before its own capture.
_MEANS = """
async () => {
  const { Delay } = await import("/assets/x/truth/delay.js");
  const delay = new Delay();
  const stages_ms = { queue: 30.4, decode: 2.3, detect: 10.3, classify: 5.2 };
  const meta = { captured_at: 100, stored_at: 100.0063, analysed_at: 100.0602, sent_at: 100.0709,
                 stages_ms };
  delay.add(meta, 100.0805, 100.0907);
  const first = delay.mean(100.1);
  delay.add({ ...meta, stored_at: 99.5 }, 100.0805, 100.0907);
  return [first, delay.mean(100.1), delay.mean(104)];
}
"""

# What is found wrong with a feed in order but for the given figures.
_FOUND = """
async (given) => {
  const { find } = await import("/assets/x/truth/diagnosis.js");
  const well = {
    feed: { status: "live", fps: 15, fps_in: 15, fps_analysed: 15, degraded: "", ...given.feed },
    lostPerS: { overrun: 0, stale: 0, corrupt: 0, too_fast: 0, ...given.lostPerS },
    shownPerS: given.shownPerS ?? 15,
    mean: { ms: 90, parts: Object.entries({ queue: 10, network: 10, paint: 20, ...given.parts }) },
    reduced: given.reduced ?? false,
    health: given.health ?? "up",
    problems: given.problems ?? [],
    settled: given.settled ?? true,
  };
  well.mean.ms = well.mean.parts.reduce((sum, [, ms]) => sum + ms, 0);
  return find(well);
}
"""
RULE = Rule("0000000a", "Smiles", RuleKind.EMOTION_OVER, 3, "happiness", 0.6)


def faces_of(count: int) -> studio.Scene:
    """Pictures with so many faces, each in its place, with moods of its own."""

    def scene(index: int) -> tuple[bytes, tuple[Face, ...]]:
        jpeg, _ = studio.square_scene(index)
        t = index / 15
        return jpeg, tuple(studio.face(k + 1, BOXES[k % 3], t + 4 * k) for k in range(count))

    return scene


def analyse(bus: Bus, feed_id: str, at: float, *faces: Face) -> None:
    """One frame of a feed, captured at any time, as capture and a worker would have had it."""
    bus.put_frame(builders.feed(feed_id), b"gone", at)
    claims = bus.claim("past", max_feeds=1, max_frames=1, staleness_s=5.0)
    bus.publish(
        [(claim, {}, builders.outcomes(claim, *faces)) for claim in claims],
        labels=studio.LABELS,
        unsure_below=studio.UNSURE_BELOW,
        timeline_s=3600,
    )


def happened(bus: Bus, event: Event) -> None:
    """An event, written as the process that leads does."""
    events = EventBus(bus.url)
    assert events.lead("test")
    assert events.commit(
        "test",
        event.feed,
        was_at="",
        cursor=f"{int(time.time() * 1000)}-0",
        state="{}",
        events=[NewEvent(event, None, {})],
        bounds=Bounds(events=10, age_s=7200.0),
    )
    events.close()


def test_times_of_an_axis_lie_within_it_and_apart(
    server: Server, open_page: Callable[..., Page]
) -> None:
    for places in open_page(server.url).evaluate(_TIMES_OF_THE_AXIS):
        assert len(places) >= 10
        assert places[0][0] >= 0
        assert places[-1][1] <= 1188
        assert all(left > right for (_, right), (left, _) in itertools.pairwise(places))


def test_faces_that_come_before_the_panel_is_measured_are_drawn(
    server: Server, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    page = open_page(server.url)
    assert page.evaluate(_MEASURED_FIRST) == {"words": "Happy 80%", "chips": 2}
    assert [said for said in complaints if "404" not in said] == []


def enlarge(page: Page) -> Locator:
    page.locator(".tile .enlarge").first.click()
    panel = page.locator(".timeline-panel")
    expect(panel.locator(".lane").first).to_be_visible()
    return panel


def test_each_face_has_a_lane_whose_emotions_and_window_one_chooses(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed()], faces_of(3)):
        page = open_page(server.url)
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        panel = enlarge(page)
        expect(panel.locator(".lane")).to_have_count(3)
        expect(panel.locator(".lane-word").first).to_have_text(re.compile(r"^[A-Z][a-z]+ \d+%$"))
        for name in ("30 s", "1 min", "5 min", "15 min", "1 h"):
            expect(panel.get_by_role("radio", name=name, exact=True)).to_be_attached()
        panel.get_by_role("radio", name="5 min", exact=True).focus()
        page.keyboard.press("ArrowRight")
        expect(panel.get_by_role("radio", name="15 min")).to_be_checked()
        painted = "canvas => canvas.toDataURL().length"
        plot = panel.locator(".lane-plot").first
        everything = plot.evaluate(painted)
        for chip in panel.get_by_role("group", name="Emotions shown").get_by_role("button").all():
            chip.press("Enter")
            expect(chip).to_have_attribute("aria-pressed", "false")
        page.wait_for_timeout(1500)
        assert plot.evaluate(painted) < everything  # an empty chart is all that is left
        panel.get_by_role("radio", name="Lines").focus()
        page.keyboard.press("Space")
        expect(panel.get_by_role("radio", name="Lines")).to_be_checked()
        page.reload()
        expect(page.locator(".timeline-panel").get_by_role("radio", name="15 min")).to_be_checked()
    assert complaints == []


def test_three_faces_of_a_large_feed_are_seen_without_scrolling(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    with Studio(bus, [builders.feed()], faces_of(3)):
        page = open_page(server.url, width=1440, height=900)
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        panel = enlarge(page)
        expect(panel.locator(".lane")).to_have_count(3)
        host = page.locator(".tile-panel")
        wait_until(lambda: host.evaluate("e => e.scrollHeight <= e.clientHeight"))
        heights = panel.locator(".lane-plot").evaluate_all("es => es.map(e => e.clientHeight)")
        assert min(heights) >= 44
        lines = panel.locator(".lane-values").evaluate_all(
            "es => es.map(e => e.getBoundingClientRect().height"
            " / parseFloat(getComputedStyle(e).lineHeight))"
        )
        assert lines == pytest.approx([max(1, round(each)) for each in lines], abs=0.05)
        page.set_viewport_size({"width": 1440, "height": 1300})
        wait_until(
            lambda: panel.locator(".lane-plot").first.evaluate("e => e.clientHeight") > heights[0]
        )
        assert host.evaluate("e => e.scrollHeight <= e.clientHeight")


def test_on_a_phone_neither_tag_nor_flags_cover_words(
    server: Server, bus: Bus, browser: Browser
) -> None:
    feed = replace(builders.feed(), source=Source.parse("demo"), name="Empfang")
    with Studio(bus, [feed], faces_of(1)):
        page = browser.new_page(viewport={"width": 390, "height": 844}, locale="de-DE")
        page.goto(server.url)
        expect(page.locator(".demo-tag")).to_have_text("Künstliche Demo")
        name = page.locator(".tile-name")
        expect(name).to_have_text("Empfang")
        assert name.evaluate("e => e.scrollWidth <= e.clientWidth")
        panel = enlarge(page)
        event = Event.of(RULE, feed="cam", feed_name="cam", at=time.time(), track=1, value=0.8)
        page.wait_for_timeout(1000)
        happened(bus, event)
        flag = panel.locator(".flag").first
        expect(flag).to_be_visible(timeout=20_000)
        lowest = flag.evaluate("e => e.getBoundingClientRect().bottom")
        words = panel.locator(".lane-word").first
        assert lowest <= words.evaluate("e => e.getBoundingClientRect().top") + 1
        page.close()


def test_values_are_read_by_keyboard_and_enter_looks_back(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed()], faces_of(2)):
        page = open_page(server.url)
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        panel = enlarge(page)
        page.wait_for_timeout(2500)
        slider = panel.get_by_role("slider")
        slider.focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        told = slider.get_attribute("aria-valuetext") or ""
        assert re.search(r": face 1 [A-Z]\w+ \d+%, face 2 [A-Z]\w+ \d+%$", told), told
        assert slider.get_attribute("aria-valuenow") in ("-2", "-3")
        expect(panel.locator(".hairline")).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.locator(".tile .state")).to_have_attribute("data-state", "paused")
        expect(panel.locator(".playhead")).to_be_visible()
        before = panel.locator(".playhead").get_attribute("style")
        page.wait_for_timeout(700)
        assert panel.locator(".playhead").get_attribute("style") == before  # the view stands still
    assert complaints == []


def test_an_hour_is_had_from_the_server_with_gaps_doubt_and_events(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    feed, now = builders.feed(), time.time()
    with Studio(bus, [feed], faces_of(1)) as player:
        player.stop()
        sure = dict.fromkeys(studio.LABELS, 0.03) | {"happiness": 0.79}
        unsure = dict.fromkeys(studio.LABELS, 0.12) | {"sadness": 0.16}
        for ago in range(3000, 2700, -3):
            analyse(bus, "cam", now - ago, Face(7, BOXES[0], "happiness", 0.79, sure))
        for ago in range(1200, 900, -3):
            analyse(bus, "cam", now - ago, Face(7, BOXES[0], "sadness", 0.16, unsure, True))
        happened(
            bus, Event.of(RULE, feed="cam", feed_name="cam", at=now - 2800, track=7, value=0.8)
        )
        player.turn()
        page = open_page(server.url)
        panel = enlarge(page)
        panel.get_by_role("radio", name="1 h").check(force=True)
        lane = panel.locator(".lane").filter(has_text="7").first
        expect(lane).to_be_visible()
        flag = panel.locator(".flag")
        expect(flag).to_have_attribute("aria-label", re.compile("Smiles"))
        panel.get_by_role("button", name="Table").press("Enter")
        table = panel.locator(".timeline-tables table").filter(has_text="Face 7")
        expect(table).to_have_count(1)
        rows: list[list[str]] = table.evaluate(
            "t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent))"
        )
        head: list[str] = table.evaluate("t => [...t.tHead.rows[0].cells].map(c => c.textContent)")
        happy, doubt = head.index("Happy"), head.index("Unsure")
        seen = [row for row in rows if row[doubt] != "not in view"]
        assert {row[happy] for row in seen if row[doubt] == "0%"} == {"79%"}
        assert {row[happy] for row in seen if row[doubt] == "100%"} == {"12%"}
        gap = [row for row in rows if row[doubt] == "not in view"]
        assert len(gap) >= 10
        assert {cell for row in gap for cell in row[1:doubt]} == {"\N{EN DASH}"}
        expect(panel.locator(".timeline-tables table").last).to_contain_text("Smiles")
        # Painted as it was: shares, nothing, shares under lines that reach above them.
        painted = lane.locator("canvas").evaluate(
            """canvas => {
              const { width, height } = canvas;
              const context = canvas.getContext("2d");
              const share = (ago, top) => {
                const x = Math.round((1 - ago / 3600) * width);
                const { data } = context.getImageData(x - 8, top, 16, 3);
                return data.filter((value, i) => i % 4 === 3 && value > 200).length / 48;
              };
              const above = (ago) => share(ago, 0), within = (ago) => share(ago, height * 0.3);
              return { sure: [within(2850), above(2850)], away: [within(2000), above(2000)],
                       unsure: [within(1050), above(1050)] };
            }"""
        )
        assert painted["sure"] == [1, 0]
        assert painted["away"] == [0, 0]
        assert painted["unsure"][0] == 1
        assert 0 < painted["unsure"][1] < 0.6
    assert complaints == []


def test_the_parts_of_the_delay_add_up_and_are_had_by_keyboard(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    with Studio(bus, [builders.feed()], faces_of(1)):
        page = open_page(server.url)
        expect(page.locator(".tile.has-picture")).to_have_count(1)
        button = page.get_by_role("button", name="Delay and pictures of cam in full")
        expect(button).to_have_attribute("aria-expanded", "false")
        page.wait_for_timeout(1500)
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="cam: how fresh, how complete")
        expect(dialog).to_be_visible()
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(dialog.locator(".truth-parts tbody tr")).to_have_count(10)
        for _ in range(4):
            account: dict[str, Any] = page.evaluate(_ACCOUNT)
            assert sum(account["parts"].values()) == account["total"] == account["said"]
            assert min(account["parts"].values()) >= 0
            page.wait_for_timeout(600)
        assert list(account["parts"]) == [
            "Capture", "Queue", "Decode", "Detect", "Batch", "Classify", "Send", "Network", "Paint",
        ]  # fmt: skip
        assert account["total"] > 0
        expect(dialog).to_contain_text("Nothing is wrong.")
        expect(dialog).to_contain_text("Left out: what the camera")
        expect(dialog.locator(".truth-counts")).to_contain_text(re.compile(r"Captured\s*15\.0/s"))
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
    assert complaints == []


def test_parts_are_rounded_so_that_their_sum_is_the_delay(
    server: Server, open_page: Callable[..., Page]
) -> None:
    page = open_page(f"{server.url}/login")
    first, second, later = page.evaluate(_MEANS)
    # 6.3, 24.1, 2.3, 10.3, 12.0, 5.2, 10.7, 9.6 and 10.2 ms: each rounded for itself they lack one.
    assert first["ms"] == first["worstMs"] == 91
    assert sum(ms for _, ms in first["parts"]) == 91
    assert dict(first["parts"])["queue"] == 24
    assert dict(first["parts"])["publish"] == 11
    # What was said to be stored before it was captured took no time, and the waiting all of it.
    assert sum(ms for _, ms in second["parts"]) == second["ms"] == 91
    assert (dict(second["parts"])["capture"], dict(second["parts"])["queue"]) == (3, 27)
    assert later is None


def test_each_cause_is_told_from_the_others(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.url}/login")
    redis = {"problems": [{"part": "redis", "detail": ""}]}
    for given, kind, said in (
        ({}, None, ""),
        ({"health": "down", **redis}, "offline", "tries again by itself"),
        (redis, "redis", "Redis does not answer"),
        ({"health": "slow"}, "slow", "may be old"),
        ({"feed": {"status": "ended"}}, "ended", "come to its end"),
        ({"feed": {"status": "starting"}}, "starting", "first picture"),
        ({"feed": {"status": "starting", "error": "Run it."}}, "starting", "Run it."),
        ({"lostPerS": {"stale": 4}}, "overloaded", "4 of 15 pictures/s"),
        ({"feed": {"degraded": "smaller"}}, "degraded", "small ones may be missed"),
        ({"lostPerS": {"corrupt": 0.2}}, "corrupt", "damaged"),
        ({"shownPerS": 6}, "browser", "6 of 15 pictures/s"),
        ({"shownPerS": 6, "parts": {"network": 400}}, "network", "network to this browser"),
        ({"reduced": True}, "network", "network to this browser"),
        ({"parts": {"queue": 1200}}, "late", "“Queue”"),
        ({"feed": {"fps_in": 6, "fps_analysed": 6}, "shownPerS": 6}, "sparse", "6 of the 15"),
        ({"shownPerS": 1, "settled": False}, None, ""),  # not shown for long enough to tell
    ):
        found = page.evaluate(_FOUND, given)
        assert (found and found["kind"]) == kind, given
        assert said in (found["message"] if found else ""), given
        begins = given == {"feed": {"status": "starting"}}
        grave = kind in ("offline", "redis", "slow", "ended", "starting") and not begins
        assert not found or (found["grave"], found["calm"]) == (grave, begins), given


def test_a_browser_that_cannot_keep_up_is_told_so(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    with Studio(bus, [builders.feed()], faces_of(1)):
        page = open_page("about:blank")
        page.add_init_script(
            "const real = requestAnimationFrame;"
            "window.requestAnimationFrame = (f) => setTimeout(() => real(f), 350);"
        )
        page.goto(server.url)
        message = page.locator(".truth-message")
        expect(message).to_contain_text("This browser cannot keep up", timeout=20_000)
        expect(message).to_contain_text(re.compile(r"\b[23] of 15 pictures/s"))


def test_what_is_wrong_with_a_camera_is_said_at_once_with_its_remedy(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    player = Studio(bus, [builders.feed()], faces_of(1))
    player.turn()
    page = open_page(server.url)
    expect(page.locator(".tile .state")).to_have_attribute("data-state", "live")
    refused = "The camera refuses the password: check it."
    for state, error, said in [
        (FeedState.ERROR, refused, "refuses the password"),
        (FeedState.RECONNECTING, "", "Check the camera and its cable"),
        (FeedState.STALLED, "", "sends no pictures"),
    ]:
        bus.report_capture("cam", CaptureReport(state, error))
        message = page.locator(".truth.grave .truth-message")
        expect(message).to_contain_text(said, timeout=3000)
    player.report()
    expect(page.locator(".truth-message")).to_be_hidden(timeout=15_000)


def test_overloaded_workers_are_told_from_a_missing_one(
    server: Server, bus: Bus, open_page: Callable[..., Page]
) -> None:
    player = Studio(bus, [builders.feed()], faces_of(1))
    player.turn()
    page = open_page(server.url)
    message = page.locator(".truth-message")
    stop = threading.Event()

    def too_much() -> None:
        while not stop.wait(0.1):
            for _ in range(3):
                bus.put_frame(builders.feed(), b"never seen", time.time())
            player.turn()

    crowd = threading.Thread(target=too_much)
    crowd.start()
    try:
        expect(message).to_contain_text("The workers cannot keep up", timeout=20_000)
        expect(message).to_contain_text("moodline worker")
    finally:
        stop.set()
        crowd.join()
    bus.remove_worker("studio")
    expect(message).to_contain_text("No worker is running", timeout=15_000)


def test_the_room_counts_faces_over_all_feeds_and_says_what_it_does_not_know(
    server: Server, bus: Bus, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    feeds = [builders.feed("a"), builders.feed("b")]
    with Studio(bus, feeds, faces_of(2), fps=8) as player:
        page = open_page(server.url)
        room = page.get_by_role("region", name="Room")
        count = room.locator(".room-count")
        expect(count).to_have_text("4 faces in view", timeout=20_000)
        words = room.locator(".room-words")
        expect(words).to_have_text(re.compile(r"^[A-Z]\w+ \d+%( · [A-Z]\w+ \d+%)*$"))
        room.get_by_role("button", name="Table").press("Enter")
        table = page.get_by_role("dialog", name="Room").locator("table")
        shares = (
            "t => [...t.tBodies[0].rows].slice(1).map((row) => parseInt(row.cells[1].textContent))"
        )
        assert abs(sum(table.evaluate(shares)) - 100) <= 3  # rounded, each for itself
        expect(table).to_contain_text("Unsure")
        expect(page.get_by_role("dialog", name="Room")).to_contain_text("faces, not people")
        page.keyboard.press("Escape")
        box = room.bounding_box()
        assert box is not None
        assert box["height"] <= 52
        player.stop()
        for _ in range(6):  # one feed goes on, the other is silent
            bus.report_capture("a", CaptureReport(FeedState.LIVE, fps_in=1))
            analyse(bus, "a", time.time(), *faces_of(2)(1)[1])
            page.wait_for_timeout(1000)
        expect(count).to_have_text("2 faces in view · 1 feed silent", timeout=15_000)
        fold = room.get_by_role("button", name="Room")
        fold.press("Enter")
        expect(room.locator(".room-bar")).to_be_hidden()
        page.reload()
        expect(page.get_by_role("button", name="Room", exact=True)).to_have_attribute(
            "aria-expanded", "false"
        )
    assert complaints == []


def test_what_a_page_keeps_does_not_grow_with_time(
    server: Server, open_page: Callable[..., Page]
) -> None:
    page = open_page(f"{server.url}/login")
    short, long = page.evaluate(_FILLED, 3), page.evaluate(_FILLED, 12)
    assert long["tracks"] <= short["tracks"] + 1
    assert long["points"] <= short["points"] * 1.02
    assert long["points"] < 3 * 75 * 10 * 1.2  # three faces at a time, ten points a second
    assert (short["marks"], long["marks"]) == (180, 200)
