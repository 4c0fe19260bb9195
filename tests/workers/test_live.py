"""Draining: batches, faults and hand-overs, on a real Redis with a pipeline of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from shared.bus import Bus
from shared.errors import BusError
from shared.jobs import Jobs
from shared.schema import Claim, Drop, Outcome
from tests import builders
from workers.live import Drain, Turns
from workers.pipeline import Pipeline


class ScriptedPipeline:
    """Finds one face in each frame; fails on a frame whose picture is b'poison'."""

    labels = builders.LABELS
    unsure_below = 0.0

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self.delay_s = delay_s

    def analyse(
        self, claims: Sequence[Claim], between: Callable[[], None]
    ) -> list[tuple[Claim, Mapping[str, Any], list[Outcome]]]:
        self.batches.append([claim.feed for claim in claims])
        analysed: list[tuple[Claim, Mapping[str, Any], list[Outcome]]] = []
        for claim in claims:
            seen = (claim.state or {"seen": 0})["seen"]
            for frame in claim.frames:
                if frame.jpeg == b"poison":
                    raise ValueError("NaN in the picture")
                time.sleep(self.delay_s)
                between()
            state = {"seen": seen + len(claim.frames)}
            analysed.append((claim, state, builders.outcomes(claim, builders.face())))
        return analysed


@pytest.fixture
def pipeline() -> ScriptedPipeline:
    return ScriptedPipeline()


@pytest.fixture
def drain(bus: Bus, redis_url: str, pipeline: ScriptedPipeline) -> Drain:
    return make_drain(bus, redis_url, pipeline)


def make_drain(bus: Bus, redis_url: str, pipeline: ScriptedPipeline, name: str = "worker") -> Drain:
    return Drain(
        bus,
        Jobs(redis_url),
        cast("Pipeline", pipeline),
        name=name,
        staleness_s=5.0,
        timeline_s=60.0,
    )


def put(bus: Bus, feed_id: str, *pictures: bytes) -> None:
    feed = builders.feed(feed_id)
    bus.put_feed(feed)
    for picture in pictures or (b"jpeg",):
        bus.put_frame(feed, picture, time.time())


def test_one_turn_takes_all_ready_feeds_in_one_batch(
    bus: Bus, drain: Drain, pipeline: ScriptedPipeline
) -> None:
    put(bus, "a")
    put(bus, "b")
    assert drain.turn() is True
    assert pipeline.batches == [["a", "b"]]
    assert drain.turn() is False


def test_a_poisoned_frame_costs_nothing_but_itself(bus: Bus, drain: Drain) -> None:
    put(bus, "sick", b"jpeg", b"poison", b"jpeg")
    put(bus, "sound", b"jpeg")
    drain.turn()
    statuses = bus.statuses(["sick", "sound"])
    assert (statuses["sick"].analysed, statuses["sick"].drops[Drop.CORRUPT]) == (2, 1)
    assert (statuses["sound"].analysed, statuses["sound"].dropped) == (1, 0)
    assert [seen.result.seq for seen in bus.results_after({"sick": "0"}, 0.1)] == [1, 3]


def test_the_state_of_the_tracker_survives_a_poisoned_frame(
    bus: Bus, redis_url: str, drain: Drain
) -> None:
    put(bus, "cam", b"jpeg", b"poison", b"jpeg")
    drain.turn()
    put(bus, "cam")
    (claim,) = bus.claim("next", max_feeds=1, max_frames=1, staleness_s=5)
    assert claim.state == {"seen": 2}


def test_a_drain_without_work_ends_soon(drain: Drain) -> None:
    started = time.monotonic()
    drain.run(slice_s=60.0)
    assert time.monotonic() - started < 10.0


def test_a_drain_ends_after_its_slice_and_passes_the_baton_on(
    bus: Bus, redis_url: str, drain: Drain
) -> None:
    stop = threading.Event()
    feed = builders.feed("cam")
    bus.put_feed(feed)

    def capture() -> None:
        jobs = Jobs(redis_url)
        while not stop.wait(0.02):
            if bus.put_frame(feed, b"jpeg", time.time()).wake:
                jobs.enqueue_drain()

    thread = threading.Thread(target=capture)
    thread.start()
    started = time.monotonic()
    drain.run(slice_s=0.5)
    assert 0.4 < time.monotonic() - started < 5.0
    time.sleep(0.2)
    stop.set()
    thread.join()
    assert bus._redis.llen("rq:queue:live") >= 1
    status = bus.statuses(["cam"])["cam"]
    assert status.analysed > 5


def test_a_batch_that_outlasts_its_lease_keeps_it_by_renewing(bus: Bus, redis_url: str) -> None:
    slow = ScriptedPipeline(delay_s=0.5)
    put(bus, "cam", *[b"jpeg"] * 4)
    make_drain(bus, redis_url, slow).turn()
    assert bus.statuses(["cam"])["cam"].analysed == 4


def test_a_redis_that_is_away_ends_a_drain_without_noise(
    pipeline: ScriptedPipeline,
) -> None:
    away = "redis://127.0.0.1:1/0"
    bus = Bus(away)
    make_drain(bus, away, pipeline).run(slice_s=1.0)
    bus.close()


class BusyDrain:
    """Feeds that are always ready, each turn a hundredth of a second by the test's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.served_s = 0.0

    def turn(self) -> bool:
        self.clock.now += 0.01
        self.served_s += 0.01
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("workers.live.time", clock)
    return clock


@pytest.mark.parametrize("frame_s", [0.01, 0.015, 0.2])
def test_a_video_keeps_a_quarter_of_its_worker_however_busy_the_feeds(
    clock: Clock, frame_s: float
) -> None:
    drain = BusyDrain(clock)
    turns = Turns(cast("Drain", drain))
    video_s = 0.0
    while video_s < 20:
        clock.now += frame_s
        video_s += frame_s
        turns()
    assert 0.24 < video_s / (video_s + drain.served_s) < 0.65


def test_feeds_that_are_seldom_ready_are_served_at_once_within_a_video(clock: Clock) -> None:
    served: list[float] = []

    class QuietDrain:
        def turn(self) -> bool:
            due = clock.now >= 0.066 * (len(served) + 1) + 100
            if due:
                served.append(clock.now - (0.066 * (len(served) + 1) + 100))
                clock.now += 0.015
            return due

    turns = Turns(cast("Drain", QuietDrain()))
    while clock.now < 110:
        clock.now += 0.014
        turns()
    assert len(served) == pytest.approx(10 / 0.066, abs=2)
    assert max(served) < 0.031  # one frame of the video, and the turn of the feed before


def test_a_redis_that_is_away_stops_no_video(clock: Clock) -> None:
    class NoRedis:
        def turn(self) -> bool:
            raise BusError("Redis is away")

    turns = Turns(cast("Drain", NoRedis()))
    for _ in range(10):
        clock.now += 1
        turns()


def test_a_drain_makes_way_for_a_video_that_waits(
    bus: Bus, redis_url: str, pipeline: ScriptedPipeline
) -> None:
    jobs = Jobs(redis_url)
    drain = Drain(
        bus,
        jobs,
        cast("Pipeline", pipeline),
        name="worker",
        staleness_s=5.0,
        timeline_s=60.0,
        serves_video=True,
    )
    jobs.enqueue_step("0123456789abcdef", "plan")
    put(bus, "a")
    started = time.monotonic()
    drain.run(slice_s=30)
    assert pipeline.batches == [["a"]]
    assert time.monotonic() - started < 10
