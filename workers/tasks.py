"""What RQ calls, by dotted path. Thin: a worker process has all ready before it listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.jobs import DRAIN_SLICE_S

if TYPE_CHECKING:  # who installs engines has imported them
    from workers.live import Drain
    from workers.steps import Steps

_engines: tuple[Drain, Steps] | None = None


def install(drain: Drain, steps: Steps) -> None:
    """Give this process's tasks their engines, models loaded and warm."""
    global _engines  # noqa: PLW0603 - RQ calls plain functions; one set a process is the point
    _engines = drain, steps


def drain() -> None:
    """Serve ready feeds for a slice of time."""
    _installed()[0].run(DRAIN_SLICE_S)


def video_step(video_id: str, step: str) -> None:
    """Do one step of a recorded video."""
    _installed()[1].run(video_id, step)


def _installed() -> tuple[Drain, Steps]:
    if _engines is None:
        raise RuntimeError("this process was not started by `moodline worker`")
    return _engines
