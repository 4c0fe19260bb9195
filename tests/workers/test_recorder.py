"""Recording live feeds: real capture, real recorders, a real worker, and what kills them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from shared.bus import Bus
from shared.config import PROJECT_DIR, Settings
from shared.errors import MediaError
from shared.jobs import Jobs
from shared.media import Media
from shared.recording_bus import RecordingBus
from shared.recordings import Ending, Recording, RecordingState, Saved
from shared.schema import CaptureReport, Feed, FeedState, Frame
from shared.source import Source
from shared.video import Video, VideoStatus, new_video_id, source_path
from shared.videos import Videos
from tests import builders
from tests.workers.cameras import decoded, jpeg_of, number_in, numbered, write_clip
from tests.workers.plant import Plant
from workers.recorder import Recorder
from workers.recorders import Draft, Drafts, recorders
from workers.reel import Reel, fitted

TICK_S = 1 / 90_000


def until(condition: Callable[[], bool], what: str, *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.03)


class Witness:
    """Reads a feed's stream beside the recorder, so that a test knows what was captured."""

    def __init__(self, url: str, feed_id: str) -> None:
        self.frames: list[Frame] = []
        self._bus = Bus(url)
        self._feed_id = feed_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        cursor = "0-0"
        while not self._stop.is_set():
            for frame in self._bus.frames_after(self._feed_id, cursor, block_s=0.1, count=64):
                cursor = frame.id
                self.frames.append(frame)

    def between(self, recording: Recording, until: float) -> list[Frame]:
        """The frames stored since a recording was asked for, and until a time of Redis's clock.

        On a busy machine a recorder takes longer to start than the stream keeps frames: without
        those from before its first.
        """
        self._stop.set()
        self._thread.join()
        self._bus.close()
        asked_ms = int(recording.asked_at * 1000)
        return [
            frame
            for frame in self.frames
            if asked_ms < int(frame.id.split("-")[0]) <= until * 1000
            and frame.captured_at >= (recording.since or 0.0)
        ]


class Site:
    """A machine that captures, with the plant's worker and storage."""

    def __init__(self, plant: Plant, data_dir: Path) -> None:
        self.plant = plant
        self.data_dir = data_dir
        self.temporary = data_dir.with_name("temporary")
        self.temporary.mkdir()
        self.bus = Bus(plant.redis_url)
        self.recordings = RecordingBus(plant.redis_url)
        self.capture: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.capture = subprocess.Popen(
            [sys.executable, "-m", "moodline", "capture"],
            cwd=PROJECT_DIR,
            env={
                **os.environ,
                "REDIS_URL": self.plant.redis_url,
                "MEDIA_URL": self.plant.media.url,
                "MOODLINE_DATA_DIR": str(self.data_dir),
                "TMPDIR": str(self.temporary),
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        if self.capture is not None and self.capture.poll() is None:
            self.capture.terminate()
            self.capture.wait(10)

    def cut_power(self) -> None:
        """End capture and all that it has started, at once."""
        assert self.capture is not None
        os.killpg(self.capture.pid, signal.SIGKILL)
        self.capture.wait()

    def recorder(self) -> psutil.Process | None:
        assert self.capture is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.capture.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "record-feed" in child.cmdline():
                        return child
        return None

    def add(self, source: str, *, loop: bool = True) -> Feed:
        feed = Feed.new(Source.parse(source), fps=15, width=320, loop=loop, name="Hall")
        self.bus.put_feed(feed)
        return feed

    def until_live(self, feed: Feed) -> None:
        until(lambda: self.bus.statuses([feed.id])[feed.id].state is FeedState.LIVE, "live")

    def record(self, feed: Feed, name: str = "") -> None:
        self.recordings.start(feed.id, secrets.token_hex(8), name)

    def seen(self, feed: Feed) -> tuple[Recording | None, Saved | None]:
        return self.recordings.seen([feed.id])[feed.id]

    def until_recorded(self, feed: Feed, frames: int) -> Recording:
        """Wait for so many frames in a recording that goes on."""

        def so_far() -> bool:
            seen, _ = self.seen(feed)
            going_on = seen is not None and seen.state is RecordingState.RECORDING
            return going_on and seen is not None and seen.frames >= frames

        until(so_far, f"{frames} frames recorded")
        seen, _ = self.seen(feed)
        assert seen is not None
        return seen

    def until_saved(self, feed: Feed) -> Saved:
        until(lambda: self.seen(feed)[1] is not None, "saved")
        saved = self.seen(feed)[1]
        assert saved is not None
        return saved

    def videos(self) -> list[Video]:
        return self.plant.videos.all()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with Plant(tmp_path_factory.mktemp("plant"), workers=1) as plant:
        yield plant


@pytest.fixture
def site(plant: Plant, tmp_path: Path) -> Iterator[Site]:
    site = Site(plant, tmp_path / "data")
    for feed in site.bus.feeds():
        site.bus.remove_feed(feed.id)
    for video in site.videos():
        plant.videos.delete(video.id)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, [i / 15 for i in range(60)])


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def numbers(frames: Iterable[av.VideoFrame]) -> list[int]:
    pictures = (frame.to_ndarray(format="bgr24") for frame in frames)
    return [number_in(jpeg_of(np.asarray(picture, np.uint8))) for picture in pictures]


def on_disk(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_what_was_captured_while_recording_is_in_the_report(site: Site, plant: Plant) -> None:
    feed = site.add("demo")
    site.start()
    site.until_live(feed)
    time.sleep(1)
    # Captured and analysed, and nothing kept.
    assert on_disk(site.data_dir) == {"feeds.json"}
    assert on_disk(site.temporary) == set()
    witness = Witness(plant.redis_url, feed.id)
    site.record(feed)
    site.until_recorded(feed, 40)
    assert {name.split("/")[0] for name in on_disk(site.data_dir)} == {"feeds.json", "recordings"}
    site.recordings.stop(feed.id)
    recording, _ = site.seen(feed)
    assert recording is not None
    assert recording.ended_at is not None
    saved = site.until_saved(feed)
    video = plant.wait_until_done(plant.videos.one(saved.video))

    captured = witness.between(recording, recording.ended_at)
    assert len(captured) >= 40
    assert saved == Saved(video.id, video.name, Ending.STOPPED, len(captured), 0)
    assert video.status is VideoStatus.DONE
    assert video.name.startswith("Hall, 20")
    assert video.recorded is not None
    assert (video.recorded.feed, video.recorded.missed) == ("Hall", 0)
    assert video.recorded.began_at == captured[0].captured_at
    results = json.loads(plant.results(video))
    assert [frame["t"] for frame in results["frames"]] == pytest.approx(
        [frame.captured_at - captured[0].captured_at for frame in captured], abs=TICK_S
    )
    assert results["tracks"][0]["frames"] > 0.9 * len(captured)
    summary = json.loads(plant.media.read(f"videos/{video.id}/report/summary.json"))
    assert summary["video"]["recorded"]["ending"] == "stopped"
    # The file that the browser plays is the one that was recorded: encoded once.
    assert video.footage.playable
    with plant.media.local(source_path(video.id)) as path, av.open(str(path)) as container:
        for frame, original in zip(container.decode(video=0), captured, strict=True):
            difference = frame.to_ndarray(format="bgr24") - decoded(original.jpeg).astype(float)
            assert np.abs(difference).mean() < 5
    until(lambda: on_disk(site.data_dir) == {"feeds.json"}, "the draft is gone")
    assert on_disk(site.temporary) == set()


@pytest.mark.parametrize("killed", ["recorder", "capture"])
def test_a_recording_goes_on_after_a_kill(
    site: Site, plant: Plant, clip: Path, killed: str
) -> None:
    feed = site.add(str(clip))
    site.start()
    site.until_live(feed)
    witness = Witness(plant.redis_url, feed.id)
    site.record(feed, "A/B test")
    site.until_recorded(feed, 20)
    if killed == "recorder":
        recorder = site.recorder()
        assert recorder is not None
        recorder.kill()
    else:
        site.cut_power()
        site.start()
    until(lambda: len(list(site.data_dir.rglob("part-*.mp4"))) == 2, "a second part")
    recording = site.until_recorded(feed, 45)
    site.recordings.stop(feed.id)
    recording, _ = site.seen(feed)  # type: ignore[assignment]
    assert recording.ended_at is not None
    saved = site.until_saved(feed)
    assert [(video.id, video.name) for video in site.videos()] == [(saved.video, "A-B test")]

    captured = witness.between(recording, recording.ended_at)
    assert saved.frames + saved.missed == len(captured)
    with plant.media.local(source_path(saved.video)) as path:
        found = times(path)
        with av.open(str(path)) as container:
            shown = numbers(container.decode(video=0))
    assert len(found) == saved.frames
    expected = {
        round((frame.captured_at - captured[0].captured_at) / TICK_S): number_in(frame.jpeg)
        for frame in captured
    }
    assert [expected[round(t / TICK_S)] for t in found] == shown
    assert found == sorted(set(found))


def test_what_a_power_cut_left_is_saved_once_by_the_next_start(site: Site, clip: Path) -> None:
    feed = site.add(str(clip))
    site.start()
    site.until_live(feed)
    site.record(feed)
    frames = site.until_recorded(feed, 15).frames
    site.cut_power()
    site.bus._redis.delete(f"moodline:recording:{feed.id}", f"moodline:recorder:{feed.id}")
    site.start()
    saved = site.until_saved(feed)
    assert saved.ending is Ending.INTERRUPTED
    assert saved.frames >= frames - 9  # the half second that stood in no finished fragment
    until(lambda: on_disk(site.data_dir) == {"feeds.json"}, "the draft is gone")
    site.stop()
    site.start()
    site.until_live(feed)
    assert [video.id for video in site.videos()] == [saved.video]


@pytest.mark.parametrize("ending", [Ending.REMOVED, Ending.DISABLED, Ending.SOURCE_ENDED])
def test_a_recording_that_ends_otherwise_becomes_a_video_too(
    site: Site, clip: Path, ending: Ending
) -> None:
    feed = site.add(str(clip), loop=ending is not Ending.SOURCE_ENDED)
    site.start()
    site.until_live(feed)
    site.record(feed)
    if ending is not Ending.SOURCE_ENDED:  # which comes when it comes
        site.until_recorded(feed, 5)
    if ending is Ending.REMOVED:
        site.bus.remove_feed(feed.id)
    elif ending is Ending.DISABLED:
        site.bus.change_feed(feed.id, lambda feed: replace(feed, enabled=False))
    until(lambda: len(site.videos()) == 1, "a video")
    recorded = site.videos()[0].recorded
    assert recorded is not None
    assert recorded.ending is ending


def test_the_end_of_capture_ends_and_saves_recordings(site: Site, clip: Path) -> None:
    feed = site.add(str(clip))
    site.start()
    site.until_live(feed)
    site.record(feed)
    site.until_recorded(feed, 10)
    site.stop()
    if not site.videos():  # a slow machine: then the next start does it
        site.start()
        site.until_saved(feed)
    (video,) = site.videos()
    assert video.recorded is not None
    assert video.recorded.ending is Ending.SHUT_DOWN


# One recorder, turn by turn, on a feed whose frames the test stores


class Stage:
    """A browser's camera as a recorder sees it: frames that somebody puts into the stream."""

    def __init__(self, bus: Bus, tmp_path: Path) -> None:
        self.bus = bus
        self.recordings = RecordingBus(bus.url)
        self.settings = Settings(_env_file=None, data_dir=tmp_path / "data")
        self.feed = replace(builders.feed("cam"), source=Source.browser(), transient=True)
        bus.restore_feeds([])
        bus.put_feed(self.feed)
        bus.report_capture("cam", CaptureReport(FeedState.LIVE))
        self.videos = Videos(bus.url, Media(self.settings.media_address), Jobs(bus.url))
        self.t = 1_000_000.0
        self.recorders: list[Recorder] = []

    def begin(self, recording_max_h: float = 4.0) -> Recorder:
        values = {**self.settings.model_dump(), "recording_max_h": recording_max_h}
        self.settings = Settings(_env_file=None, **values)
        self.recordings.start("cam", secrets.token_hex(8), "")
        seen = self.recordings.seen(["cam"])["cam"][0]
        assert seen is not None
        draft = Draft(seen.id, new_video_id(), "cam", "100 % Cam", "", 15.0, seen.asked_at)
        Drafts.of(self.settings).create(draft)
        return self.recorder(draft)

    def recorder(self, draft: Draft) -> Recorder:
        time.sleep(0.002)  # what comes in the same millisecond counts as before the beginning
        recorder = Recorder(self.settings, self.bus, self.recordings, draft)
        recorder.resume()
        self.recorders.append(recorder)
        return recorder

    def shoot(self, number: int, width: int = 320, height: int = 240, dt: float = 1 / 15) -> None:
        self.t += dt
        self.bus.put_frame(self.feed, jpeg_of(numbered(number, width, height), 95), self.t)

    def finish(self, recorder: Recorder) -> Video:
        self.recordings.stop("cam")
        run_to_end(recorder)
        recorder.save(self.videos)
        (video,) = self.videos.all()
        return video

    def pictures(self, video: Video) -> list[av.VideoFrame]:
        with self.videos.media.local(source_path(video.id)) as path, av.open(str(path)) as file:
            return list(file.decode(video=0))


def run_to_end(recorder: Recorder) -> None:
    while not recorder.over:
        recorder.turn()


@pytest.fixture
def stage(bus: Bus, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(bus, tmp_path)
    yield stage
    for recorder in stage.recorders:
        recorder.pause()
    stage.videos.close()
    stage.recordings.close()


def test_frames_that_came_too_fast_or_are_no_pictures_are_missed_and_told(stage: Stage) -> None:
    recorder = stage.begin()
    for number in range(40):  # the stream keeps 30: the first ten are gone before anybody looks
        stage.shoot(number)
    recorder.turn()
    stage.bus.put_frame(stage.feed, b"no picture", stage.t + 0.01)
    for _ in range(6):
        recorder.turn()
    for number in range(40, 80):
        stage.shoot(number)
    video = stage.finish(recorder)
    assert numbers(stage.pictures(video)) == [*range(10, 40), *range(50, 80)]
    assert video.recorded is not None
    assert video.recorded.missed == 11
    assert video.name.startswith("100 % Cam, 1970-01-1")  # as `stage` counts time


def test_nothing_from_before_the_start_or_after_the_stop_is_recorded(stage: Stage) -> None:
    stage.shoot(1)
    time.sleep(0.002)
    recorder = stage.begin()
    stage.shoot(2)
    recorder.turn()
    stage.shoot(3)
    stage.recordings.stop("cam")
    time.sleep(0.002)
    stage.shoot(4)
    assert numbers(stage.pictures(stage.finish(recorder))) == [2, 3]


def test_pictures_of_another_size_and_pauses_stay_in_one_video(stage: Stage) -> None:
    recorder = stage.begin()
    stage.shoot(1)
    stage.shoot(2, 640, 480)
    stage.shoot(3, 240, 320, dt=30.0)  # a phone that was turned, after half a minute
    pictures = stage.pictures(stage.finish(recorder))
    assert [(picture.width, picture.height) for picture in pictures] == [(320, 240)] * 3
    assert [picture.time for picture in pictures] == pytest.approx([0, 1 / 15, 30 + 1 / 15])
    assert numbers(pictures[:2]) == [1, 2]
    upright = pictures[2].to_ndarray(format="bgr24")
    assert number_in(jpeg_of(np.ascontiguousarray(upright[:, 70:250]))) == 3
    assert upright[:, :60].max() < 20


def test_a_recording_without_a_picture_is_no_video(stage: Stage) -> None:
    recorder = stage.begin()
    recorder.turn()
    stage.recordings.stop("cam")
    run_to_end(recorder)
    recorder.save(stage.videos)
    assert stage.videos.all() == []
    saved = stage.recordings.seen(["cam"])["cam"][1]
    assert saved is not None
    assert saved.video == ""


def test_a_recording_ends_when_it_is_as_long_as_it_may_be(stage: Stage) -> None:
    recorder = stage.begin(recording_max_h=1e-6)
    stage.shoot(1)
    run_to_end(recorder)
    recorder.save(stage.videos)
    (video,) = stage.videos.all()
    assert video.recorded is not None
    assert video.recorded.ending is Ending.LONGEST


def test_a_recording_ends_before_the_disk_is_full(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = stage.begin()
    stage.shoot(1)
    recorder.turn()
    assert not recorder.over
    nearly_full = shutil.disk_usage("/")._replace(free=200 * 1024 * 1024)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
    run_to_end(recorder)
    recorder.save(stage.videos)
    (video,) = stage.videos.all()
    assert video.recorded is not None
    assert video.recorded.ending is Ending.DISK


def test_a_redis_that_forgot_is_told_again(stage: Stage) -> None:
    recorder = stage.begin()
    stage.shoot(1)
    recorder.turn()
    stage.bus._redis.flushall()
    recorder._limits_at = 0.0
    recorder.turn()  # no list of feeds yet: that is no removal
    assert not recorder.over
    stage.bus.restore_feeds([stage.feed])
    recorder._limits_at = 0.0
    recorder.turn()
    seen = stage.recordings.seen(["cam"])["cam"][0]
    assert seen is not None
    assert (seen.state, seen.frames) == (RecordingState.RECORDING, 1)


def test_saving_is_tried_again_and_never_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = stage.begin()
    stage.shoot(1)
    recorder.turn()
    stage.recordings.stop("cam")
    run_to_end(recorder)
    drafts = Drafts.of(stage.settings)
    (recording_id,) = drafts.ids()

    def away(self: Media, path: str, data: bytes) -> None:
        raise MediaError("The storage is away.")

    with monkeypatch.context() as patch:
        patch.setattr(Media, "write", away)
        with pytest.raises(MediaError):
            recorder.save(stage.videos)
    assert stage.videos.all() == []
    assert drafts.ids() == [recording_id]

    remove = Drafts.remove
    monkeypatch.setattr(Drafts, "remove", lambda self, id_: None)  # killed just before
    stage.recorder(drafts.read(recording_id)).save(stage.videos)
    monkeypatch.setattr(Drafts, "remove", remove)
    (video,) = stage.videos.all()
    stage.recorder(drafts.read(recording_id)).save(stage.videos)
    assert stage.videos.all() == [video]
    assert drafts.ids() == []


def test_what_another_machine_goes_on_with_is_two_videos(stage: Stage) -> None:
    first = stage.begin()
    stage.shoot(1)
    first.turn()
    stage.bus._redis.set("moodline:recorder:cam", "another machine")  # the lease had run out
    stage.shoot(2)
    run_to_end(first)
    first.save(stage.videos)
    (video,) = stage.videos.all()
    assert video.recorded is not None
    assert video.recorded.ending is Ending.INTERRUPTED
    seen = stage.recordings.seen(["cam"])["cam"][0]
    assert seen is not None
    assert seen.ending is None  # the other one goes on


def test_a_folder_that_cannot_be_made_is_told(stage: Stage) -> None:
    stage.settings.data_dir.write_text("a file where the folder should be")
    stage.recordings.start("cam", secrets.token_hex(8), "")
    recorders(stage.settings, stage.bus, command=lambda _: ["false"]).turn()
    recording, saved = stage.recordings.seen(["cam"])["cam"]
    assert recording is None
    assert saved == Saved("", "", Ending.DISK, 0, 0)


def test_two_processes_never_work_on_one_draft(stage: Stage) -> None:
    stage.begin()
    drafts = Drafts.of(stage.settings)
    (recording_id,) = drafts.ids()
    with drafts.held(recording_id) as first, drafts.held(recording_id) as second:
        assert (first, second) == (True, False)


def test_drafts_are_for_this_user_alone(stage: Stage) -> None:
    recorder = stage.begin()
    stage.shoot(1)
    recorder.turn()
    root = stage.settings.data_dir / "recordings"
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (root, *root.iterdir()))


# The files


def reel_of(folder: Path, count: int) -> Reel:
    folder.mkdir(exist_ok=True)
    reel = Reel(folder, fps=15)
    for number in range(count):
        reel.add(Frame("cam", "1-0", number + 1, 5.0 + number / 15, jpeg_of(numbered(number))))
    return reel


def test_whatever_a_kill_cuts_off_the_rest_can_be_read(tmp_path: Path) -> None:
    reel_of(tmp_path / "whole", 40).close()
    mp4 = (tmp_path / "whole" / "part-000.mp4").read_bytes()
    lines = (tmp_path / "whole" / "part-000.txt").read_text()
    before = 0
    for step in range(13):
        folder = tmp_path / f"cut-{step}"
        folder.mkdir()
        (folder / "part-000.mp4").write_bytes(mp4[: len(mp4) * step // 12])
        (folder / "part-000.txt").write_text(lines)
        cut = Reel(folder, fps=15)
        assert cut.tally.frames >= before
        before = cut.tally.frames
        if cut.tally.frames:
            cut.add(Frame("cam", "1-0", 100, 60.0, jpeg_of(numbered(99))))
            cut.close()
            cut.join(folder / "joined.mp4")
            with av.open(str(folder / "joined.mp4")) as container:
                assert numbers(container.decode(video=0)) == [*range(before), 99]
    assert before == 40


def test_a_killed_writer_has_all_but_the_last_half_second_on_disk(tmp_path: Path) -> None:
    writing = reel_of(tmp_path / "reel", 40)
    assert 40 - 8 - 1 <= Reel(tmp_path / "reel", fps=15).tally.frames < 40
    writing.close()
    assert Reel(tmp_path / "reel", fps=15).tally.frames == 40


def test_times_rise_also_when_the_clock_is_set_back(tmp_path: Path) -> None:
    reel = Reel(tmp_path, fps=15)
    for seq, t in enumerate([100.0, 100.1, 40.0, 40.1], start=1):
        reel.add(Frame("cam", "1-0", seq, t, jpeg_of(numbered(seq))))
    reel.close()
    reel.join(tmp_path / "joined.mp4")
    assert times(tmp_path / "joined.mp4") == pytest.approx(
        [0, 0.1, 0.1 + 1 / 15, 0.2 + 1 / 15], abs=1e-4
    )


def test_an_odd_picture_gains_a_pixel() -> None:
    picture = numbered(5, 321, 241)
    assert fitted(picture, (322, 242)).shape == (242, 322, 3)
    assert np.array_equal(fitted(picture, (322, 242))[:241, :321], picture)
