"""Keeping feeds captured: real processes, a real Redis, real servers that stop and start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from shared import redis_server
from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.jobs import LIVE_QUEUE, Jobs
from shared.schema import Feed, FeedState, FeedStatus, FirstPicture
from shared.source import Source
from tests import builders
from tests.workers import cameras
from tests.workers.cameras import MjpegCamera, number_in, numbered, write_clip
from workers.capture import Capture, FeedsFile, Pauses
from workers.jpeg import jpeg_size_wh
from workers.trials import Trials

PASSWORD = "p@ss/w#rd"


def until(condition: Callable[[], bool], what: str, *, within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)


def width_of(jpeg: bytes | None) -> int:
    return (jpeg_size_wh(jpeg or b"") or (0, 0))[0]


@dataclass
class Running:
    """A capture process as `moodline capture` starts it, and what it can be asked."""

    process: subprocess.Popen[bytes]
    bus: Bus
    log: Path

    def children(self) -> dict[str, psutil.Process]:
        """The process of each feed, by the feed's id."""
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    # Neither one that has ended nor one that has yet to become the feed's.
                    words = child.cmdline()
                    if "capture-feed" in words and child.status() != psutil.STATUS_ZOMBIE:
                        found[words[-1]] = child
        return found

    def status(self, feed_id: str = "cam") -> FeedStatus:
        return self.bus.statuses([feed_id])[feed_id]

    def until(self, state: FeedState, feed_id: str = "cam", *, within_s: float = 15.0) -> None:
        until(
            lambda: self.status(feed_id).state is state, f"{feed_id} is {state}", within_s=within_s
        )

    def until_frames(self, feed_id: str = "cam", more: int = 5) -> None:
        before = self.status(feed_id).captured
        until(lambda: self.status(feed_id).captured >= before + more, f"frames of {feed_id}")


Start = Callable[..., Running]


@pytest.fixture
def start(bus: Bus, tmp_path: Path) -> Iterator[Start]:
    """Start capture processes; all are ended with the test."""
    started: list[Running] = []

    def start_one(on: Bus = bus, data_dir: Path = tmp_path / "data") -> Running:
        log = tmp_path / f"capture-{len(started)}.log"
        environment = {
            **os.environ,
            "REDIS_URL": on.url,
            "MOODLINE_DATA_DIR": str(data_dir),
            "MOODLINE_LOG_LEVEL": "info",
        }
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "moodline", "capture"],
                cwd=PROJECT_DIR,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        started.append(Running(process, on, log))
        return started[-1]

    yield start_one
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
    for running in started:
        running.process.wait(5)
        with contextlib.suppress(ProcessLookupError):  # whom a failed test left behind
            os.killpg(running.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, [i / 30 for i in range(60)])


# The list of feeds on disk


@pytest.fixture
def file(tmp_path: Path) -> FeedsFile:
    return FeedsFile(tmp_path / "data" / "feeds.json")


def test_feeds_come_back_from_the_file_as_they_were(file: FeedsFile) -> None:
    secret = builders.feed("a", f"rtsp://admin:{PASSWORD}@camera.local/x")
    feeds = [secret, replace(builders.feed("b", "demo"), transient=True, loop=False)]
    file.save(feeds)
    assert file.load() == feeds
    assert file.load(drop_transient=True) == [secret]


def test_the_file_is_for_this_user_alone_and_is_replaced_as_a_whole(file: FeedsFile) -> None:
    for feeds in ([builders.feed("a")], []):
        file.save(feeds)
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
        assert list(file.path.parent.iterdir()) == [file.path]
    assert file.load() == []


def test_no_file_is_no_feeds(file: FeedsFile) -> None:
    assert file.load() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"feeds": 1}', b"\xff\xfe\x00"])
def test_a_damaged_file_is_set_aside(file: FeedsFile, content: bytes) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    assert file.load() == []
    (aside,) = file.path.parent.iterdir()
    assert aside.name.startswith("feeds.json.damaged-")
    assert aside.read_bytes() == content


def test_good_feeds_beside_a_damaged_one_are_kept(
    file: FeedsFile, capsys: pytest.CaptureFixture[str]
) -> None:
    file.save([builders.feed("a"), builders.feed("b"), builders.feed("c")])
    rows = json.loads(file.path.read_text())
    rows["feeds"][1] |= {"source": f"ftp://admin:{PASSWORD}@camera.local/x"}
    file.path.write_text(json.dumps(rows))
    assert [feed.id for feed in file.load()] == ["a", "c"]
    said = capsys.readouterr()
    assert "p@ss" not in said.out + said.err


def test_pauses_grow_to_a_limit_and_start_anew() -> None:
    pauses = Pauses(0.5, 15.0)
    waits_s = [pauses.next_s() for _ in range(40)]
    assert 0.4 <= waits_s[0] <= 0.6
    assert all(12 <= wait_s <= 18 for wait_s in waits_s[6:])
    assert sum(waits_s[:5]) == pytest.approx(15.5, rel=0.2)
    pauses.reset()
    assert pauses.next_s() <= 0.6


# Feeds and their processes


def test_a_feed_goes_live_and_workers_are_called(bus: Bus, start: Start, clip: Path) -> None:
    bus.put_feed(builders.feed("cam", str(clip)))
    running = start()
    running.until(FeedState.LIVE)
    running.until_frames(more=45)
    status = running.status()
    assert status.error == ""
    assert 13 <= status.fps_in <= 17
    assert Queue(LIVE_QUEUE, connection=bus._redis, serializer=JSONSerializer).count >= 1
    frames = bus.claim("test", max_feeds=1, max_frames=4, staleness_s=2.0)[0].frames
    assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 4))
    assert all(0 <= time.time() - frame.captured_at < 2 for frame in frames)


def test_feeds_are_added_changed_and_removed_while_all_runs(
    bus: Bus, start: Start, clip: Path
) -> None:
    running = start()
    bus.put_feed(builders.feed("one", str(clip)))
    bus.put_feed(builders.feed("two", str(clip)))
    running.until(FeedState.LIVE, "one")
    running.until(FeedState.LIVE, "two")
    first = running.children()

    bus.put_feed(builders.feed("two", "demo"))
    until(
        lambda: running.children().get("two") not in (None, first["two"]),
        "another process for another source",
    )
    bus.remove_feed("one")
    until(lambda: set(running.children()) == {"two"}, "the removed feed has no process")
    running.until_frames("two")
    assert bus.feeds() == [builders.feed("two", "demo")]


def test_a_change_of_name_place_rate_or_width_misses_no_picture(bus: Bus, start: Start) -> None:
    camera = MjpegCamera(fps=30)
    with camera.on() as port:
        feed = builders.feed("cam", f"http://127.0.0.1:{port}/video")
        bus.put_feed(feed)
        running = start()
        running.until(FeedState.LIVE)
        process, asked = running.children(), number_in(bus.newest_frame("cam") or b"")
        bus.change_feed("cam", lambda feed: feed.changed(name="Hall", place=7.0))
        running.until_frames(more=20)
        bus.change_feed("cam", lambda feed: feed.changed(fps=5.0, width=320))
        until(lambda: width_of(bus.newest_frame("cam")) == 320, "narrower pictures")
        until(lambda: running.status().fps_in < 7, "fewer pictures")
        bus.change_feed("cam", lambda feed: feed.changed(fps=30.0, width=640))
        until(lambda: width_of(bus.newest_frame("cam")) == 640, "wider pictures")
        assert running.children() == process
        assert running.status().reconnects == 0
        # One connection served it all: the camera counts each one's pictures from 0.
        assert number_in(bus.newest_frame("cam") or b"") > asked + 100


def test_a_disabled_feed_is_let_go_of_and_comes_back_when_enabled(
    bus: Bus, start: Start, tmp_path: Path
) -> None:
    saved = tmp_path / "data" / "feeds.json"
    camera = MjpegCamera(fps=15)
    with camera.on() as port:
        bus.put_feed(builders.feed("cam", f"http://127.0.0.1:{port}/video"))
        bus.put_feed(builders.feed("other"))
        running = start()
        running.until(FeedState.LIVE)
        bus.change_feed("cam", lambda feed: feed.changed(enabled=False))
        assert running.status().state is FeedState.DISABLED
        until(lambda: set(running.children()) == {"other"}, "it has no process")
        until(
            lambda: (
                [row["enabled"] for row in json.loads(saved.read_text())["feeds"]] == [False, True]
            ),
            "that is written down",
        )
        running.process.terminate()
        running.process.wait(5)
        bus._redis.flushall()
        running = start()
        running.until(FeedState.LIVE, "other")
        assert (running.status().state, running.status().captured) == (FeedState.DISABLED, 0)
        assert set(running.children()) == {"other"}
        bus.change_feed("cam", lambda feed: feed.changed(enabled=True))
        running.until(FeedState.LIVE)
        running.until_frames()


def test_feeds_of_before_there_was_an_order_keep_that_of_their_age(file: FeedsFile) -> None:
    feeds = [replace(builders.feed(id_), created_at=at) for id_, at in (("b", 1.0), ("a", 2.0))]
    file.save(feeds)
    rows = json.loads(file.path.read_text())
    for row in rows["feeds"]:
        del row["enabled"], row["place"]
    file.path.write_text(json.dumps(rows))
    assert [(feed.id, feed.place, feed.enabled) for feed in file.load()] == [
        ("b", 1.0, True),
        ("a", 2.0, True),
    ]


def test_a_process_of_a_feed_that_is_killed_is_replaced(bus: Bus, start: Start, clip: Path) -> None:
    bus.put_feed(builders.feed("cam", str(clip)))
    running = start()
    running.until(FeedState.LIVE)
    killed = running.children()["cam"]
    killed.kill()
    until(lambda: running.children().get("cam") not in (None, killed), "a new process")
    running.until_frames()
    running.until(FeedState.LIVE)
    assert running.status().reconnects == 1


def test_all_processes_end_with_a_signal(bus: Bus, start: Start, clip: Path) -> None:
    for feed_id in ("one", "two"):
        bus.put_feed(builders.feed(feed_id, str(clip)))
    running = start()
    running.until(FeedState.LIVE, "one")
    running.until(FeedState.LIVE, "two")
    children = running.children()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(3) == 0
    assert not any(child.is_running() for child in children.values())


def test_no_process_outlives_a_parent_that_is_killed_and_another_takes_over(
    bus: Bus, start: Start, clip: Path
) -> None:
    bus.put_feed(builders.feed("cam", str(clip)))
    running = start()
    running.until(FeedState.LIVE)
    children = running.children().values()
    running.process.kill()
    running.process.wait()
    until(lambda: not any(child.is_running() for child in children), "no orphans")
    successor = start()
    successor.until_frames()
    until(lambda: set(successor.children()) == {"cam"}, "served by the other")


def test_two_capture_processes_serve_no_feed_twice(bus: Bus, start: Start, clip: Path) -> None:
    bus.put_feed(builders.feed("cam", str(clip)))
    one, two = start(), start()
    one.until(FeedState.LIVE)
    until(lambda: one.status().fps_in > 13, "a full rate")
    assert sorted(len(running.children()) for running in (one, two)) == [0, 1]
    assert one.status().fps_in < 17


def test_a_file_that_ends_says_so_and_has_no_process(
    bus: Bus, start: Start, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "short.mp4", [0, 0.1, 0.2])
    bus.put_feed(replace(builders.feed("cam", str(clip)), loop=False))
    running = start()
    running.until(FeedState.ENDED)
    until(lambda: running.children() == {}, "no process")
    bus._redis.delete("moodline:feed:cam:capture")
    running.until(FeedState.ENDED)
    assert "short.mp4 has ended" in running.status().error
    assert running.status().captured == 3


def test_what_only_a_person_can_put_right_is_an_error_with_the_remedy(
    bus: Bus, start: Start, tmp_path: Path
) -> None:
    bus.put_feed(builders.feed("file", str(tmp_path / "gone.mp4")))
    bus.put_feed(builders.feed("webcam", "97"))
    running = start()
    running.until(FeedState.ERROR, "file")
    running.until(FeedState.ERROR, "webcam")
    assert "check the name and the folder" in running.status("file").error
    assert "plug it in" in running.status("webcam").error


def test_a_browsers_camera_is_left_to_the_browser(bus: Bus, start: Start, clip: Path) -> None:
    bus.put_feed(Feed("mine", "mine", Source.browser(), 15.0, 640))
    bus.put_feed(builders.feed("cam", str(clip)))
    running = start()
    running.until(FeedState.LIVE)
    assert set(running.children()) == {"cam"}
    assert running.status("mine").state is FeedState.STARTING


def test_frames_that_nobody_was_called_for_are_not_forgotten(bus: Bus, start: Start) -> None:
    feed = Feed("mine", "mine", Source.browser(), 15.0, 640)
    bus.put_feed(feed)
    assert bus.put_frame(feed, b"jpeg", time.time()).wake  # whose job is never enqueued
    bus.drain_started()
    start()
    queue = Queue(LIVE_QUEUE, connection=bus._redis, serializer=JSONSerializer)
    until(lambda: queue.count == 1, "the ticker asks for a worker")


# Trying sources that are no feeds yet


def trial(bus: Bus, source: str, *, within_s: float = 15.0) -> FirstPicture:
    """What the capture process that runs finds behind a source."""
    until(bus.capture_is_running, "capture runs")
    asked = bus.ask_trial(Source.parse(source))
    assert asked is not None
    deadline = time.monotonic() + within_s
    while (answer := bus.first_picture(asked.id, 1.0)) is None:
        assert time.monotonic() < deadline, "no answer"
    return answer


def trials_in(running: Running) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(running.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "first-picture" in child.cmdline():
                found.append(child)
    return found


def test_a_source_is_tried_and_its_first_picture_is_narrow_enough(
    bus: Bus, start: Start, tmp_path: Path
) -> None:
    running = start()
    wide = write_clip(tmp_path / "wide.mp4", [0, 0.1], images=lambda n: numbered(n + 5, 1280, 720))
    found = trial(bus, str(wide))
    assert (jpeg_size_wh(found.jpeg), number_in(found.jpeg)) == ((640, 360), 5)
    assert (found.problem, found.feed) == ("", "")
    missing = trial(bus, str(tmp_path / "gone.mp4"))
    assert (missing.jpeg, "check the name" in missing.problem) == (b"", True)
    assert running.status("cam").captured == 0
    assert bus.feeds() == []


def test_a_camera_is_tried_without_its_password_showing_anywhere(bus: Bus, start: Start) -> None:
    camera = MjpegCamera(fps=15, credentials="admin:secret-word")
    running = start()
    with camera.on() as port:
        camera.paused.set()
        right, wrong = f"http://admin:secret-word@127.0.0.1:{port}/", f"http://127.0.0.1:{port}/"
        refused = trial(bus, wrong)
        asked = bus.ask_trial(Source.parse(right))
        assert asked is not None
        until(lambda: bool(trials_in(running)), "the source is being tried")
        lines = [" ".join(child.cmdline()) for child in trials_in(running)]
        camera.paused.clear()
        until(lambda: bus.first_picture(asked.id, 0.1) is not None, "an answer")
    assert "asks for a user and a password" in refused.problem
    shown = [refused.problem, *lines, running.log.read_text()]
    assert not [text for text in shown if "secret-word" in text]
    assert not list(bus._redis.keys("moodline:trial*"))


def test_a_source_that_a_feed_has_open_is_not_opened_twice(bus: Bus, start: Start) -> None:
    camera = MjpegCamera(fps=15, size_wh=(1280, 960))
    with camera.on() as port:
        address = f"http://127.0.0.1:{port}/video"
        bus.put_feed(replace(builders.feed("cam", address), width=1280))
        running = start()
        running.until(FeedState.LIVE)
        running.until_frames()
        seen = number_in(bus.newest_frame("cam") or b"")
        found = trial(bus, address)
    assert found.feed == "cam"
    assert jpeg_size_wh(found.jpeg) == (640, 480)
    assert number_in(found.jpeg) >= seen  # another connection would count from 0


def test_a_source_that_hangs_is_given_up_and_says_so(bus: Bus, tmp_path: Path) -> None:
    """The time limit is the parent's: the child need not notice anything."""
    trials = Trials(bus, command=["/bin/sleep", "60"], environment=dict(os.environ))
    asked = bus.ask_trial(Source.parse("rtsp://me:secret-word@camera.local/x"))
    assert asked is not None
    with patch("workers.trials.TIME_LIMIT_S", 0.2):
        trials.turn({})
    children = psutil.Process().children()
    sleeper = next(child for child in children if "sleep" in child.name())
    time.sleep(0.3)
    trials.turn({})
    assert not sleeper.is_running()
    answer = bus.first_picture(asked.id, 1.0)
    assert answer is not None
    assert answer.problem.startswith("rtsp://***@camera.local/x gave no picture within")


def test_an_attempt_that_breaks_down_says_so(bus: Bus) -> None:
    trials = Trials(bus, command=["/bin/false"], environment=dict(os.environ))
    asked = bus.ask_trial(Source.parse("demo"))
    assert asked is not None

    def answered() -> FirstPicture | None:
        trials.turn({})
        return bus.first_picture(asked.id, 0.1)

    deadline = time.monotonic() + 5
    while (answer := answered()) is None:
        assert time.monotonic() < deadline
    assert "try it again" in answer.problem


def test_questions_are_bounded_can_be_taken_back_and_are_forgotten(bus: Bus) -> None:
    asked = [bus.ask_trial(Source.parse(str(number))) for number in range(5)]
    first, second = asked[0], asked[1]
    assert [each is not None for each in asked] == [True, True, True, True, False]
    assert first is not None
    assert second is not None
    assert bus.withdraw_trial(first.id)
    assert bus.take_trial() == second
    assert not bus.withdraw_trial(second.id)
    bus.answer_trial(second.id, FirstPicture(problem="Plug it in."))
    for key in bus._redis.keys("moodline:trial*"):
        assert 0 < bus._redis.pttl(key) <= 6000, key


# Servers that fail


def test_a_camera_that_stops_and_comes_back_is_live_again(bus: Bus, start: Start) -> None:
    camera = MjpegCamera(fps=15)
    with camera.on() as port:
        bus.put_feed(builders.feed("cam", f"http://127.0.0.1:{port}/video"))
        running = start()
        running.until(FeedState.LIVE)
        process = running.children()["cam"]
    running.until(FeedState.RECONNECTING)
    assert "check" in running.status().error
    with camera.on():
        running.until(FeedState.LIVE)
        running.until_frames()
    assert running.status().reconnects >= 1
    assert running.children()["cam"] == process
    log = running.log.read_text()
    assert log.count("a feed gives no pictures") <= 3
    assert log.count("a feed is live") == 2


def test_a_camera_that_freezes_is_stalled_and_live_again(bus: Bus, start: Start) -> None:
    camera = MjpegCamera(fps=15)
    with camera.on() as port:
        bus.put_feed(builders.feed("cam", f"http://127.0.0.1:{port}/video"))
        running = start()
        running.until(FeedState.LIVE)
        camera.paused.set()
        running.until(FeedState.STALLED)
        camera.paused.clear()
        running.until(FeedState.LIVE)
        assert running.status().reconnects == 0


def test_an_rtsp_camera_comes_back_and_its_password_shows_nowhere(
    bus: Bus, start: Start, tmp_path: Path
) -> None:
    cameras.require_rtsp_server()
    with cameras.rtsp_camera(0, "admin", PASSWORD) as (port, server):
        address = f"127.0.0.1:{port}/camera"
        bus.put_feed(builders.feed("cam", f"rtsp://admin:{PASSWORD}@{address}"))
        running = start()
        running.until(FeedState.LIVE)
        server.kill()
        running.until(FeedState.RECONNECTING)
        shown = [running.status().error, *running.children()["cam"].cmdline()]
    with cameras.rtsp_camera(port, "admin", PASSWORD):
        running.until(FeedState.LIVE)
        running.until_frames()
        bus.put_feed(builders.feed("bad", f"rtsp://admin:{PASSWORD}wrong@{address}"))
        running.until(FeedState.ERROR, "bad")
        shown += [running.status("bad").error, *running.children()["bad"].cmdline()]
    shown.append(running.log.read_text())
    assert f"rtsp://***@{address}" in shown[0]
    assert not [text for text in shown if "p@ss" in text or "w#rd" in text or "p%40ss" in text]


def test_a_transport_stream_over_http_comes_back(bus: Bus, start: Start, clip: Path) -> None:
    cameras.require_ffmpeg()
    with cameras.ffmpeg_camera(clip, 0) as port:
        bus.put_feed(builders.feed("cam", f"http://127.0.0.1:{port}/"))
        running = start()
        running.until(FeedState.LIVE)
    running.until(FeedState.RECONNECTING)
    with cameras.ffmpeg_camera(clip, port):
        running.until(FeedState.LIVE)
        running.until_frames()


def test_a_reader_that_hangs_inside_a_library_is_replaced(
    bus: Bus, tmp_path: Path, clip: Path
) -> None:
    """The library is the C library's sleep, which no time limit and no signal handler ends."""
    hanging = (
        "import ctypes, sys, time\n"
        "from shared import config\n"
        "from workers import capture_feed, sources\n"
        "capture_feed.HUNG_AFTER_S = 1.0\n"
        "def hang(*_, **__):\n"
        "    while True: ctypes.CDLL(None).sleep(60)\n"
        "    yield\n"
        "sources.read = hang\n"
        "settings = config.load()\n"
        "capture_feed.run_feed(settings, settings.redis_url.get_secret_value(), sys.argv[1])\n"
    )
    bus.put_feed(builders.feed("cam", str(clip)))
    commands = []

    def command(feed_id: str) -> list[str]:
        commands.append(feed_id)
        return [sys.executable, "-c", hanging, feed_id]

    capture = Capture(
        bus,
        Jobs(bus.url),
        FeedsFile(tmp_path / "feeds.json"),
        command=command,
        environment={**os.environ, "REDIS_URL": bus.url, "PYTHONPATH": str(PROJECT_DIR)},
    )

    def turned_until_hung() -> bool:
        capture.turn()
        return "hung" in bus.statuses(["cam"])["cam"].error

    try:
        until(turned_until_hung, "the feed is reported as hung")
        status = bus.statuses(["cam"])["cam"]
        assert status.state is FeedState.RECONNECTING
        assert status.reconnects == 1
    finally:
        capture.stop()


# Redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[tuple[Bus, Callable[[], None]]]:
    """A Redis of this test's own, and how to kill it and start it again, empty."""
    data_dir = tmp_path / "redis"
    data_dir.mkdir()
    url = redis_server.url(data_dir)
    servers: list[subprocess.Popen[bytes]] = []

    def restart() -> None:
        for server in servers:
            server.kill()
            server.wait()
        command = redis_server.command(data_dir)
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        redis_server.wait_until_up(url)

    restart()
    bus = Bus(url)
    yield bus, restart
    bus.close()
    servers[-1].kill()
    servers[-1].wait()


def test_feeds_and_frames_survive_a_redis_that_restarts_empty(
    own_redis: tuple[Bus, Callable[[], None]], start: Start, clip: Path
) -> None:
    bus, restart = own_redis
    feeds = [
        builders.feed("cam", str(clip)),
        replace(builders.feed("other", str(clip)), transient=True),
    ]
    for feed in feeds:
        bus.put_feed(feed)
    running = start(bus)
    running.until_frames("cam", more=20)
    running.until_frames("other")
    processes = running.children()
    seq = running.status("cam").captured
    restart()
    until(lambda: bus.feeds() == feeds, "the feeds are listed again")
    running.until_frames("cam")
    running.until_frames("other")
    frames = bus.claim("test", max_feeds=2, max_frames=4, staleness_s=2.0)[0].frames
    assert frames[-1].seq > seq
    assert running.children() == processes
    assert running.log.read_text().count("Redis is away") <= 2


def test_a_browsers_camera_is_left_to_its_web_process(
    own_redis: tuple[Bus, Callable[[], None]], start: Start, clip: Path, tmp_path: Path
) -> None:
    bus, restart = own_redis
    feed, camera = builders.feed("cam", str(clip)), Feed.new(Source.browser(), fps=15, width=640)
    bus.put_feed(feed)
    bus.put_feed(camera)
    running = start(bus)
    running.until(FeedState.LIVE)
    assert len(running.children()) == 1
    saved = tmp_path / "data" / "feeds.json"
    assert [row["id"] for row in json.loads(saved.read_text())["feeds"]] == ["cam"]
    restart()
    until(lambda: bus.feeds() == [feed], "the others are listed again")


def test_feeds_survive_a_restart_of_everything(
    own_redis: tuple[Bus, Callable[[], None]], start: Start, clip: Path
) -> None:
    bus, restart = own_redis
    first = start(bus)
    feed = builders.feed("cam", str(clip))
    bus.put_feed(feed)
    first.until(FeedState.LIVE)
    first.process.terminate()
    first.process.wait(3)
    restart()
    start(bus).until(FeedState.LIVE)
    assert bus.feeds() == [feed]


def test_a_folder_that_cannot_be_written_stops_nothing(
    bus: Bus, start: Start, clip: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    bus.put_feed(builders.feed("cam", str(clip)))
    running = start(data_dir=blocked)
    running.until(FeedState.LIVE)
    running.until_frames(more=30)
    assert running.log.read_text().count("cannot be saved") == 1
