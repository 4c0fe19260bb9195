"""What RQ calls, by dotted path. Thin: a worker process has all ready before it listens."""

from __future__ import annotations

from shared.jobs import DRAIN_SLICE_S
from workers.live import Drain

_drain: Drain | None = None


def install(drain: Drain) -> None:
    """Give this process's tasks their engine, models loaded and warm."""
    global _drain  # noqa: PLW0603 - RQ calls plain functions; one engine a process is the point
    _drain = drain


def drain() -> None:
    """Serve ready feeds for a slice of time."""
    if _drain is None:
        raise RuntimeError("this process was not started by `moodline worker`")
    _drain.run(DRAIN_SLICE_S)
