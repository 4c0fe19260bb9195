"""A worker that cannot keep up leaves out more, step by step, and does everything again after."""

from __future__ import annotations

import itertools
import time
from typing import cast

import pytest

from shared.bus import Bus
from shared.jobs import Jobs
from shared.schema import Degraded
from tests import builders
from tests.workers.test_live import ScriptedPipeline, make_drain, put
from workers.effort import Effort
from workers.live import Drain
from workers.pipeline import Pipeline

NO, DETECT_LESS, SMALLER, SKIP = Degraded
START = 1000.0


def serve(
    effort: Effort, seconds: float, *, waited_s: float, busy: float, start: float = START
) -> list[Degraded]:
    """Claim a batch every tenth of a second; the steps after each."""
    steps = []
    for k in range(round(seconds * 10)):
        effort.claimed(waited_s, start + k / 10)
        effort.worked(busy / 10)
        steps.append(effort.degraded)
    return steps


def overloaded() -> Effort:
    effort = Effort()
    assert serve(effort, 2, waited_s=0.4, busy=1)[-1] is SKIP
    return effort


def test_frames_that_wait_too_long_lead_down_step_by_step() -> None:
    steps = serve(Effort(), 2, waited_s=0.3, busy=1)
    assert list(dict.fromkeys(steps)) == [NO, DETECT_LESS, SMALLER, SKIP]


def test_a_short_delay_changes_nothing() -> None:
    effort = Effort()
    for second in range(5):
        start = START + second
        assert set(serve(effort, 0.5, waited_s=0.4, busy=1, start=start)) == {NO}
        assert set(serve(effort, 0.5, waited_s=0.01, busy=1, start=start + 0.5)) == {NO}


def test_all_is_done_again_within_ten_seconds_after_an_overload() -> None:
    steps = serve(overloaded(), 10, waited_s=0.01, busy=0.4, start=START + 2)
    assert list(dict.fromkeys(steps)) == [SKIP, SMALLER, DETECT_LESS, NO]


def test_also_where_no_frame_came_meanwhile() -> None:
    effort = overloaded()
    effort.claimed(0.01, START + 10)
    assert effort.degraded is NO


def test_who_is_late_at_times_stays_where_it_is() -> None:
    assert set(serve(overloaded(), 20, waited_s=0.1, busy=0.2, start=START + 2)) == {SKIP}


def under_load(
    effort: Effort, seconds: float, loads: tuple[float, ...], *, start: float = START
) -> list[Degraded]:
    """Claim a batch every tenth of a second; `loads`: what it takes of its time in each step.

    Frames wait where that is more than all of it, and, as on any busy machine, one in ten anyway.
    """
    steps = []
    for k in range(round(seconds * 10)):
        load = loads[list(Degraded).index(effort.degraded)]
        late = load > 1 or k % 10 == 3
        effort.claimed(0.3 if late else 0.02, start + k / 10)
        effort.worked(min(1.0, load) / 10)
        steps.append(effort.degraded)
    return steps


@pytest.mark.parametrize("overload_s", [5, 30, 200])
@pytest.mark.parametrize(
    "left", [(0.4, 0.35, 0.3, 0.25), (0.95, 0.9, 0.85, 0.8), (0.95, 0.93, 0.91, 0.88)]
)
def test_also_what_is_nearly_too_much_is_done_again_within_ten_seconds(
    overload_s: float, left: tuple[float, ...]
) -> None:
    effort = Effort()
    assert SKIP in under_load(effort, overload_s, (3.0, 2.7, 2.0, 0.98))
    after = under_load(effort, 60, left, start=START + overload_s)
    assert set(after[100:]) == {NO}


def test_what_keeps_it_as_busy_as_the_overload_did_is_done_again_within_25_seconds() -> None:
    effort = Effort()
    assert SKIP in under_load(effort, 200, (3.0, 2.7, 2.0, 0.98))
    after = under_load(effort, 60, (0.97, 0.96, 0.96, 0.95), start=START + 200)
    assert set(after[250:]) == {NO}


def test_an_overload_that_lasts_does_not_swing() -> None:
    steps = under_load(Effort(), 300, (2.0, 1.8, 1.3, 0.9))
    assert set(steps[30:]) == {SKIP, SMALLER}
    tried = [
        k / 10 for k, (a, b) in enumerate(itertools.pairwise(steps)) if (a, b) == (SKIP, SMALLER)
    ]
    pauses = [b - a for a, b in itertools.pairwise(tried)]
    assert pauses[:2] == sorted(pauses[:2])
    assert min(pauses[3:]) >= 20
    assert steps[600:].count(SMALLER) / len(steps[600:]) < 0.05


class NotingPipeline(ScriptedPipeline):
    """Takes its time; says what it was told to leave out."""

    degraded = NO


@pytest.fixture
def slow(bus: Bus, redis_url: str) -> tuple[Drain, NotingPipeline]:
    pipeline = NotingPipeline()
    drain = Drain(
        bus,
        Jobs(redis_url),
        cast("Pipeline", pipeline),
        name="worker",
        staleness_s=5.0,
        timeline_s=60.0,
    )
    return drain, pipeline


def test_a_drain_degrades_tells_it_per_feed_and_then_takes_the_newest_frames(
    bus: Bus, slow: tuple[Drain, NotingPipeline]
) -> None:
    drain, pipeline = slow
    seen = []
    deadline = time.monotonic() + 10
    while pipeline.degraded is not SKIP:
        assert time.monotonic() < deadline
        put(bus, "cam")
        time.sleep(0.2)
        drain.turn()
        seen.append(bus.statuses(["cam"])["cam"].degraded)
    assert list(dict.fromkeys(seen)) == [NO, DETECT_LESS, SMALLER, SKIP]
    put(bus, "cam", *[b"jpeg"] * 3)
    before = bus.statuses(["cam"])["cam"]
    drain.turn()
    after = bus.statuses(["cam"])["cam"]
    assert (after.analysed - before.analysed, after.dropped - before.dropped) == (1, 2)


def test_who_is_served_by_a_worker_with_time_is_not_degraded(
    bus: Bus, redis_url: str, slow: tuple[Drain, NotingPipeline]
) -> None:
    put(bus, "cam")
    (claim,) = bus.claim("other", max_feeds=1, max_frames=1, staleness_s=5)
    bus.publish(
        [(claim, {}, builders.outcomes(claim))],
        labels=builders.LABELS,
        unsure_below=0,
        timeline_s=60,
        degraded=SMALLER,
    )
    assert bus.statuses(["cam"])["cam"].degraded is SMALLER
    put(bus, "cam")
    make_drain(bus, redis_url, ScriptedPipeline()).turn()
    assert bus.statuses(["cam"])["cam"].degraded is NO
