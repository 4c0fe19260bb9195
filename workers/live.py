"""Serve live feeds: take the pending frames of ready feeds, analyse them together, publish.

A drain is one RQ job that goes on for a slice of time, so that recorded work gets its turn and stop
signals are heard. The newest frames win; what is too old is dropped and counted by the bus, and
where frames wait too long, less is done for each (`workers.effort`). No
frame can stop a feed: a batch that fails is taken apart until the one frame that fails is alone,
and that one is set aside with its reason.

Not here: what a frame shows (`workers.pipeline`) and the words to Redis (`shared.bus`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from shared.bus import LEASE_S, Bus
from shared.errors import BusError
from shared.jobs import Jobs
from shared.schema import Claim, Degraded, Outcome
from workers.effort import Effort

if TYPE_CHECKING:  # a drain itself needs no model, no OpenCV and no numpy
    from workers.pipeline import Pipeline

_log = structlog.get_logger(__name__)

# On a processor a batch gains nothing (a face costs the same alone), and everything in it waits for
# its last frame: so batches are kept small and many.
MAX_FEEDS = 4
MAX_FRAMES = 4
_IDLE_S = 0.3  # a drain without work ends after this, and another job gets the worker
# Within other work: recorded video keeps a quarter of a worker, however many feeds there are.
_LIVE_TO_OTHER = 3.0
_MOST_CREDIT_S = 0.3
_TURN_EVERY_S = 0.008  # a look at Redis takes 0.2 ms
_LOOK_FOR_VIDEO_S = 0.1  # a look at the queue takes as long as a twentieth of a frame
_WAIT_S = 0.25  # shorter than a lease: a waiting drain must go on counting as alive

Analysis = tuple[Claim, Mapping[str, Any], Sequence[Outcome]]


class Delays:
    """Counts frames by their time from capture to result, for the metrics."""

    BOUNDS_S = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, math.inf)

    def __init__(self) -> None:
        self.counts = dict.fromkeys(map(str, self.BOUNDS_S), 0)
        self.sum_s = 0.0

    def add(self, delay_s: float) -> None:
        # Clocks of two machines differ: a frame from the future took no time.
        self.sum_s += max(0.0, delay_s)
        self.counts[str(next(bound for bound in self.BOUNDS_S if delay_s <= bound))] += 1


class Drain:
    """One worker's loop over ready feeds. `name` is unique among all workers."""

    def __init__(
        self,
        bus: Bus,
        jobs: Jobs,
        pipeline: Pipeline,
        *,
        name: str,
        staleness_s: float,
        timeline_s: float,
        serves_video: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bus = bus
        self._jobs = jobs
        self._pipeline = pipeline
        self._name = name
        self._staleness_s = staleness_s
        self._timeline_s = timeline_s
        self._serves_video = serves_video
        self._stopping = stopping
        self.delays = Delays()
        self.idle_s = 0.0  # spent waiting for feeds
        self._effort = Effort()

    def run(self, slice_s: float) -> None:
        """Serve for `slice_s`, or until nothing came for a while; then pass the baton on.

        Where work on a video waits, it gets this worker at once: within it, live feeds have their
        turns (`Turns`).
        """
        try:
            self._bus.drain_started()
            ends_at = time.monotonic() + slice_s
            busy_at = time.monotonic()
            look_at = busy_at
            while not self._stopping() and (now := time.monotonic()) < ends_at:
                if self.turn():
                    busy_at = time.monotonic()
                elif now - busy_at > _IDLE_S:
                    break
                else:
                    self._bus.wait_ready(_WAIT_S)
                    self.idle_s += time.monotonic() - now
                if self._serves_video and now >= look_at:
                    look_at = now + _LOOK_FOR_VIDEO_S
                    if self._jobs.video_work_waits():
                        break
            if self._bus.drain_ended(self._name):
                self._jobs.enqueue_drain()
        except BusError as error:
            # Nothing is lost: the leases run out, and the next frame asks for the next drain.
            _log.warning("a drain ended early", error=str(error))

    def turn(self) -> bool:
        """Analyse one batch; False if no feed was ready."""
        claims = self._bus.claim(
            self._name,
            max_feeds=MAX_FEEDS,
            max_frames=1 if self._effort.degraded is Degraded.SKIP else MAX_FRAMES,
            staleness_s=self._staleness_s,
        )
        if not claims:
            return False
        started = time.monotonic()
        self._effort.claimed(max(claim.waited_s for claim in claims), started)
        self._pipeline.degraded = self._effort.degraded
        analysed = self._analyse(claims, _Renewal(self._bus, self._name, claims))
        lost = self._bus.publish(
            analysed,
            labels=self._pipeline.labels,
            unsure_below=self._pipeline.unsure_below,
            timeline_s=self._timeline_s,
            degraded=self._effort.degraded,
        )
        self._effort.worked(time.monotonic() - started)
        for error in lost:
            _log.warning("results came too late", error=str(error))
        for _, _, outcomes in analysed:
            for outcome in outcomes:
                if outcome.result is not None:
                    self.delays.add(outcome.result.latency_ms / 1000)
        return True

    def _analyse(self, claims: Sequence[Claim], between: Callable[[], None]) -> Sequence[Analysis]:
        try:
            return self._pipeline.analyse(claims, between)
        except BusError:
            raise
        except Exception:  # noqa: BLE001 - one bad frame must not sink a batch: find it
            frames = {claim.feed: [frame.seq for frame in claim.frames] for claim in claims}
            _log.warning("a batch failed and is taken apart", frames=frames, exc_info=True)
        return [self._analyse_alone(claim, between) for claim in claims]

    def _analyse_alone(self, claim: Claim, between: Callable[[], None]) -> Analysis:
        """Analyse one feed's frames one by one; set aside those that fail."""
        state: Mapping[str, Any] | None = claim.state
        outcomes: list[Outcome] = []
        for frame in claim.frames:
            one = replace(claim, state=dict(state) if state is not None else None, frames=(frame,))
            try:
                ((_, state, rows),) = self._pipeline.analyse([one], between)
                outcomes += rows
            except BusError:
                raise
            except Exception as error:  # noqa: BLE001 - as above, and this is the one frame
                _log.exception("a frame is set aside", feed=claim.feed, seq=frame.seq)
                outcomes.append(Outcome(frame, None, f"{type(error).__name__}: {error}"[:200]))
        return claim, state or {}, outcomes


class Turns:
    """Gives live feeds their turns within other work of the same worker.

    Calling it serves what is ready. Live feeds get as much of the worker as they need, up to
    `_LIVE_TO_OTHER` times what the other work gets.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._credit_s = 0.0
        self._left_at = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._left_at < _TURN_EVERY_S:
            return
        earned_s = _LIVE_TO_OTHER * (now - self._left_at)
        self._credit_s = min(_MOST_CREDIT_S, self._credit_s + earned_s)
        try:
            while self._credit_s > 0 and self._drain.turn():
                ended_at = time.monotonic()
                self._credit_s -= ended_at - now
                now = ended_at
        except BusError as error:
            _log.warning("live feeds missed a turn", error=str(error))
        self._left_at = time.monotonic()


class _Renewal:
    """Called between frames: keeps the leases of a batch that takes long."""

    def __init__(self, bus: Bus, drain: str, claims: Sequence[Claim]) -> None:
        self._bus, self._drain, self._claims = bus, drain, claims
        self._renewed_at = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._renewed_at > LEASE_S / 3:
            self._bus.renew(self._drain, self._claims)
            self._renewed_at = now
