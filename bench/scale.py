"""The transport alone: how much of many workers' time Redis, RQ and the leases leave to the work.

Real Redis (one of its own on a Unix socket), real RQ workers in processes of their own, the real
drain with its claims and publishing; the analysis of a frame is a sleep, and pictures are tiny.
What is left out: pictures' bytes, viewers, and the processor time that real analysis would take.

`ideal_frames_per_s` is what sleeping alone allows, or what the cameras are asked for where that is
less; `captured_per_s` is what they gave. `fairness` is the slowest feed's rate by the mean.
`busy_cores` says where the processor time went; `machine` in it is the whole machine's, whoever
used it. Frames are counted when they are published, up to 16 of a worker at once: give a single
worker 20 seconds and more.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench import cores
from shared import redis_server
from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.errors import MoodlineError
from shared.schema import Feed
from shared.source import Source
from workers.supervisor import Supervisor

_START_TIMEOUT_S = 60.0
_WARM_UP_S = 3.0  # two slices of a drain: all workers have been asked for by then
_STOP_GRACE_S = 2.0


def measure(
    *, workers: int, feeds: int, fps: float, cost_ms: float, seconds: float
) -> dict[str, Any]:
    """Let `workers` serve `feeds` for `seconds`; raises MoodlineError where they do not come up."""
    with (
        tempfile.TemporaryDirectory(prefix="moodline-bench-") as folder,
        _Fleet(Path(folder)) as fleet,
    ):
        for number in range(1, feeds + 1):
            fleet.bus.put_feed(
                Feed.new(Source.parse("demo"), name=f"feed {number}", fps=fps, width=64)
            )
        fleet.start_workers(workers, cost_ms / 1000)
        fleet.add("cameras", str(fps * feeds))
        fleet.wait(_WARM_UP_S)
        feed_ids = [feed.id for feed in fleet.bus.feeds()]
        before, cpu_before = fleet.bus.statuses(feed_ids), fleet.cpu_seconds()
        started = time.monotonic()
        psutil.cpu_percent()
        fleet.wait(seconds)
        machine = psutil.cpu_percent() / 100 * (os.cpu_count() or 1)
        after, cpu_after = fleet.bus.statuses(feed_ids), fleet.cpu_seconds()
        elapsed_s = time.monotonic() - started
    analysed = [after[feed].analysed - before[feed].analysed for feed in feed_ids]
    captured = sum(after[feed].captured - before[feed].captured for feed in feed_ids)
    frames_per_s, ideal = sum(analysed) / elapsed_s, workers * 1000 / cost_ms
    ideal = min(ideal, feeds * fps)
    delays = [status.latency_p50_ms for status in after.values()]
    return {
        "workers": workers,
        "feeds": feeds,
        "fps": fps,
        "cost_ms": cost_ms,
        "seconds": round(elapsed_s, 1),
        "captured_per_s": round(captured / elapsed_s, 1),
        "frames_per_s": round(frames_per_s, 1),
        "ideal_frames_per_s": round(ideal, 1),
        "ratio": round(frames_per_s / ideal, 3),
        "fairness": round(min(analysed) * feeds / sum(analysed), 3) if any(analysed) else 0.0,
        "dropped": sum(after[feed].dropped - before[feed].dropped for feed in feed_ids),
        "delay_p50_ms": round(median(delay for delay in delays if delay is not None), 1)
        if any(analysed)
        else None,
        "busy_cores": {
            role: round((spent - cpu_before[role]) / elapsed_s, 2)
            for role, spent in cpu_after.items()
        }
        | {"machine": round(machine, 2)},
        "cores": cores(),
    }


class _Fleet:
    """A Redis with simulated workers and cameras, for the length of a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url = redis_server.url(folder)
        self._roles: list[str] = []
        # Whatever folder the user is in: Moodline's own packages and no others of their names.
        self._supervisor = Supervisor({**os.environ, "PYTHONPATH": str(PROJECT_DIR)})
        self.bus = Bus(self._url)

    def __enter__(self) -> _Fleet:
        try:
            self._supervisor.add("redis", redis_server.command(self._folder))
            redis_server.wait_until_up(self._url)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.bus.close()
        self._supervisor.stop(_STOP_GRACE_S, last=["redis"])
        redis_server.socket_path(self._folder).unlink(missing_ok=True)

    def add(self, role: str, *numbers: str) -> None:
        command = [sys.executable, "-P", "-m", "bench.simulated", role, self._url, *numbers]
        self._supervisor.add(role, command)
        self._roles.append(role)

    def start_workers(self, count: int, cost_s: float) -> None:
        self.add("workers", str(count), str(cost_s))
        deadline = time.monotonic() + _START_TIMEOUT_S
        while (there := len(self.bus.workers())) < count:
            if time.monotonic() > deadline:
                raise MoodlineError(
                    f"Of {count} workers {there} came up within {_START_TIMEOUT_S:g} s: "
                    "give fewer --workers."
                )
            self.wait(0.05)

    def wait(self, seconds: float) -> None:
        """Let them work; raises MoodlineError where any of them has ended."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(0.5, left_s))
            running = self._supervisor.pids()
            for role in ("redis", "workers", "cameras"):
                if role in self._roles and role not in running:
                    raise MoodlineError(
                        f"The {role} ended in the middle of the measurement: if memory is short, "
                        "give fewer --workers or --feeds."
                    )

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of each role's processes so far."""
        spent = {}
        for role, pid in self._supervisor.pids().items():
            parent = psutil.Process(pid)
            times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
            spent[role] = sum(each.user + each.system for each in times)
        return spent
