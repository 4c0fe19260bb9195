"""One worker's work on a video, in this process: RQ, Redis and the clip are real."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from shared import video_bus
from shared.bus import Bus
from shared.config import PROJECT_DIR, Settings
from shared.connection import connect
from shared.jobs import VIDEO_QUEUE, Jobs
from shared.media import Media
from shared.video import Video, VideoOptions, VideoStatus, report_path, source_path
from shared.videos import Videos
from tests.workers.looped import looped
from workers import footage, steps, tasks
from workers.live import Drain
from workers.pipeline import Pipeline, load_pipeline
from workers.steps import Steps
from workers.vision.classifier import read_card

DEMO = PROJECT_DIR / "workers" / "demo" / "demo.mp4"
SETTINGS = Settings(_env_file=None)


class CursedPipeline:
    """The real one, but for frames at certain times."""

    def __init__(self, real: Pipeline) -> None:
        self.real = real
        self.search_every_s = real.search_every_s
        self.cursed: Callable[[float], bool] = lambda t: False
        self.slow_s = 0.0

    def judge_frames(self, frames: Iterable[tuple[float, Any]], *rest: Any) -> Any:
        def passed() -> Iterator[tuple[float, Any]]:
            for t, picture in frames:
                if self.cursed(t):
                    raise FloatingPointError("NaN in the picture")
                time.sleep(self.slow_s)
                yield t, picture

        return self.real.judge_frames(passed(), *rest)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return looped(DEMO, tmp_path_factory.mktemp("clip") / "clip.mp4", 2)


@pytest.fixture(scope="module")
def real_pipeline() -> Pipeline:
    return load_pipeline(SETTINGS)


@pytest.fixture
def pipeline(real_pipeline: Pipeline) -> CursedPipeline:
    return CursedPipeline(real_pipeline)


class Shop:
    """A worker that ends when nothing waits any more."""

    def __init__(self, redis_url: str, folder: Path, pipeline: CursedPipeline) -> None:
        self.redis_url = redis_url
        self.media = Media(str(folder))
        self.videos = Videos(redis_url, self.media, Jobs(redis_url))
        self.stopping = threading.Event()
        self.live_turns = 0
        engine = Steps(
            self.videos,
            cast("Pipeline", pipeline),
            read_card(SETTINGS.model),
            smoothing_s=SETTINGS.smoothing_s,
            live_turn=self._live_turn,
            stopping=self.stopping.is_set,
        )
        tasks.install(cast("Drain", None), engine)

    def _live_turn(self) -> None:
        self.live_turns += 1

    def submit(self, clip: Path, fps: float = 2.0) -> Video:
        video = Video.new(
            clip.name,
            size_bytes=clip.stat().st_size,
            footage=footage.probe(clip),
            options=VideoOptions(fps=fps),
        )
        self.media.write(source_path(video.id), clip.read_bytes())
        self.videos.add(video)
        return video

    def work(self) -> None:
        connection = connect(self.redis_url)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        queue = Queue(VIDEO_QUEUE, connection=connection, serializer=JSONSerializer)
        try:
            SimpleWorker([queue], connection=connection, serializer=JSONSerializer).work(
                burst=True, logging_level="CRITICAL"
            )
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            connection.close()

    def while_working(self, act: Callable[[], object], after_turns: int) -> None:
        """Work, and act from another thread once live feeds have had so many turns."""

        def wait_and_act() -> None:
            while self.live_turns < after_turns:
                time.sleep(0.005)
            act()

        actor = threading.Thread(target=wait_and_act)
        actor.start()
        self.work()
        actor.join()


@pytest.fixture
def shop(
    bus: Bus,
    redis_url: str,
    tmp_path: Path,
    pipeline: CursedPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    monkeypatch.setattr(video_bus, "_PAUSES_MS", (0, 0))
    return Shop(redis_url, tmp_path / "media", pipeline)


def test_a_video_is_done_step_by_step_and_live_feeds_get_a_turn_with_each_frame(
    shop: Shop, clip: Path
) -> None:
    video = shop.submit(clip)
    shop.work()
    done = shop.videos.one(video.id)
    assert (done.status, done.error) == (VideoStatus.DONE, "")
    assert done.frames_done == done.frames_total == 80
    assert shop.live_turns >= 80
    assert b'"frames_analysed":80' in shop.media.read(f"videos/{video.id}/report/results.json")


def test_a_segment_that_fails_three_times_fails_the_video_and_the_rest_is_reported(
    shop: Shop, clip: Path, pipeline: CursedPipeline
) -> None:
    failures: list[float] = []

    def cursed(t: float) -> bool:
        if abs(t - 18.0) < 0.3:
            failures.append(t)
            return True
        return False

    pipeline.cursed = cursed
    video = shop.submit(clip)
    shop.work()
    failed = shop.videos.one(video.id)
    assert failed.status is VideoStatus.FAILED
    assert "NaN in the picture" in failed.error
    assert len(failures) == 3
    assert 0 < failed.frames_done < 80
    assert failed.frames_total == 80
    report = shop.media.read(f"videos/{video.id}/report/results.json")
    assert f'"frames_analysed":{failed.frames_done}'.encode() in report
    pipeline.cursed = lambda t: False
    shop.videos.retry(video.id)
    shop.work()
    done = shop.videos.one(video.id)
    assert (done.status, done.error, done.frames_done) == (VideoStatus.DONE, "", 80)


def test_a_file_that_is_no_video_fails_with_what_to_do(shop: Shop, tmp_path: Path) -> None:
    video = shop.submit(DEMO)
    shop.media.write(source_path(video.id), b"no video at all" * 100)
    shop.work()
    failed = shop.videos.one(video.id)
    assert failed.status is VideoStatus.FAILED
    assert "no video" in failed.error


def test_a_worker_that_is_told_to_stop_gives_its_step_back(shop: Shop, clip: Path) -> None:
    video = shop.submit(clip)
    stopped_at: list[int] = []

    def stop() -> None:
        shop.stopping.set()
        stopped_at.append(shop.live_turns)
        # RQ's burst goes on: each step that is taken is given back at once.
        time.sleep(0.3)
        shop.stopping.clear()

    shop.while_working(stop, after_turns=20)
    assert shop.videos.one(video.id).status is VideoStatus.DONE
    assert shop.videos._bus.work([video.id])[video.id].attempts == {}


def test_cancelling_stops_a_segment_in_the_middle(
    shop: Shop, clip: Path, pipeline: CursedPipeline
) -> None:
    video = shop.submit(clip)
    pipeline.slow_s = 0.1
    shop.while_working(lambda: shop.videos.cancel(video.id), after_turns=15)
    cancelled = shop.videos.one(video.id)
    assert cancelled.status is VideoStatus.CANCELLED
    assert cancelled.frames_done < 40
    assert shop.media.list(f"videos/{video.id}/report") == []


def test_a_video_renamed_while_its_report_begins_has_the_new_name_there(
    shop: Shop, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = shop.submit(clip)
    shop.work()
    shop.videos.rename(video.id, "second.mp4")
    begin = shop.videos.begin

    def begin_then_rename(*args: Any) -> Video | None:
        begun = begin(*args)
        monkeypatch.undo()
        shop.videos.rename(video.id, "third.mp4")
        return begun

    monkeypatch.setattr(shop.videos, "begin", begin_then_rename)
    shop.work()
    found = json.loads(shop.media.read(report_path(video.id, "results.json")))
    assert found["video"]["name"] == "third.mp4"


@pytest.mark.parametrize("turns", [12, 86, 95])
def test_deleting_at_any_step_leaves_nothing(
    shop: Shop, clip: Path, pipeline: CursedPipeline, turns: int
) -> None:
    video = shop.submit(clip)
    shop.while_working(lambda: shop.videos.delete(video.id), after_turns=turns)
    assert shop.media.list(f"videos/{video.id}") == []
    assert shop.videos.all() == []


def test_work_that_hangs_is_let_go(
    shop: Shop, clip: Path, pipeline: CursedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_HANGS_AFTER_S", 0.2)
    monkeypatch.setattr(steps, "_HOLD_EVERY_S", 0.05)
    monkeypatch.setattr(video_bus, "LEASE_S", 0.3)
    video = shop.submit(clip)
    held_after: list[frozenset[str]] = []

    def hangs(t: float) -> bool:
        if not held_after:
            time.sleep(1.2)
            held_after.append(shop.videos._bus.work([video.id])[video.id].held)
        return False

    pipeline.cursed = hangs
    shop.work()
    assert held_after == [frozenset()]
    assert shop.videos.one(video.id).status is VideoStatus.DONE
