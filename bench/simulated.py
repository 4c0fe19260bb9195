"""Many workers and cameras with nothing to see: the processes of `bench scale`.

A worker here is RQ's, with the real drain over the real bus, and a classifier that sleeps. No
model, no OpenCV and no numpy is loaded, and all processes are forked from one that has imported
everything, before it speaks to anybody: so that 64 of them start in a second and fit in memory.

Run as `python -m bench.simulated workers|cameras REDIS_URL …` by `bench.scale`, in a process group
of its own: it ends with all it has forked on SIGTERM, or when any of them ends.
"""

from __future__ import annotations

import gc
import io
import itertools
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from PIL import Image
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker import DequeueStrategy

from shared.bus import Bus
from shared.connection import connect
from shared.jobs import LIVE_QUEUE, Jobs
from shared.schema import Claim, Face, Frame, FrameResult, Outcome, WorkerReport
from workers import tasks
from workers.live import Drain

if TYPE_CHECKING:
    from workers.pipeline import Pipeline
    from workers.steps import Steps

# As the shipped model's, so that results are as long.
_LABELS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
_TICK_EVERY_S = 1.0  # as capture does
_CAMERA_FRAMES_PER_S = 1500.0  # what one process of cameras is asked for at most


class Sleeper:
    """Stands in for a pipeline: each frame takes `cost_s` and shows one face."""

    labels = _LABELS
    unsure_below = 0.5

    def __init__(self, cost_s: float) -> None:
        self._cost_s = cost_s

    def analyse(
        self, claims: Sequence[Claim], between: Callable[[], None]
    ) -> list[tuple[Claim, Mapping[str, Any], list[Outcome]]]:
        analysed: list[tuple[Claim, Mapping[str, Any], list[Outcome]]] = []
        for claim in claims:
            rows = []
            for frame in claim.frames:
                time.sleep(self._cost_s)
                rows.append(Outcome(frame, self._result(frame)))
                between()
            # About as long as a tracker's state with one face.
            analysed.append((claim, {"tracks": [[0.123] * 24], "next": 2}, rows))
        return analysed

    @staticmethod
    def _result(frame: Frame) -> FrameResult:
        scores = dict.fromkeys(_LABELS, 0.125)
        return FrameResult(
            feed=frame.feed,
            seq=frame.seq,
            captured_at=frame.captured_at,
            analysed_at=time.time(),
            width=16,
            height=16,
            faces=(Face(1, (2, 2, 10, 10), "neutral", 0.125, scores, unsure=True),),
        )


def _work(url: str, number: int, cost_s: float) -> None:
    name = f"simulated-{number}"
    bus = Bus(url)
    drain = Drain(
        bus,
        Jobs(url),
        cast("Pipeline", Sleeper(cost_s)),
        name=name,
        staleness_s=0.5,
        timeline_s=600,
    )
    tasks.install(drain, cast("Steps", None))  # no video comes: it serves the live queue alone
    bus.report_worker(WorkerReport(name, "simulated", _LABELS, time.time()))
    worker = SimpleWorker(
        [LIVE_QUEUE], name=name, connection=connect(url), serializer=JSONSerializer
    )
    worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)


def _film(url: str, part: int, parts: int, ticks: bool) -> None:
    """Be the cameras of every `parts`-th feed, evenly spread over time."""
    bus, jobs = Bus(url), Jobs(url)
    feeds = bus.feeds()[part::parts]
    every_s = 1 / sum(feed.fps for feed in feeds)
    packed = io.BytesIO()
    Image.new("RGB", (16, 16), "grey").save(packed, "JPEG")
    jpeg = packed.getvalue()
    started = ticked = time.monotonic()
    for number, feed in enumerate(itertools.cycle(feeds)):
        now = time.monotonic()
        if (ahead_s := started + number * every_s - now) > 0:
            time.sleep(ahead_s)
        wake = bus.put_frame(feed, jpeg, time.time()).wake
        if ticks and now - ticked > _TICK_EVERY_S:
            wake |= bus.tick()
            ticked = now
        if wake:
            jobs.enqueue_drain()


def _fork(runs: Sequence[Callable[[], None]]) -> None:
    """Run each in a process of its own until any of them ends, then end them all."""
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    gc.freeze()
    for run in runs:
        if os.fork() == 0:
            run()
            os._exit(0)
    os.wait()
    os.killpg(0, signal.SIGKILL)


def main(role: str, url: str, *numbers: str) -> None:
    """Be all workers (their count, and seconds a frame) or all cameras (frames/s of all)."""
    if role == "workers":
        count, cost_s = int(numbers[0]), float(numbers[1])
        _fork([lambda i=i: _work(url, i, cost_s) for i in range(count)])  # type: ignore[misc]
    else:
        parts = math.ceil(float(numbers[0]) / _CAMERA_FRAMES_PER_S)
        _fork([lambda i=i: _film(url, i, parts, i == 0) for i in range(parts)])  # type: ignore[misc]


if __name__ == "__main__":
    main(*sys.argv[1:])
