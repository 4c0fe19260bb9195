"""`moodline analyze` with a clock, for a process that has loaded no more than the command has.

So nothing that computes is imported here.
"""

from __future__ import annotations

import time
from pathlib import Path

from shared.config import Settings
from shared.video import VideoOptions
from workers.analysis import analysed


def timed(
    path: Path, options: VideoOptions, settings: Settings, workers: int
) -> tuple[int, float, float]:
    """Analyse a video; return the frames, the seconds, and the seconds until the first were done.

    Raises what `analysed` does.
    """
    first_at: float | None = None
    frames = 0

    def progress(done: int, _total: int) -> None:
        nonlocal first_at, frames
        frames = max(frames, done)
        if first_at is None:
            first_at = time.perf_counter()

    started = time.perf_counter()
    with analysed(path, options, lambda: settings, workers=workers, progress=progress):
        ended = time.perf_counter()
    return frames, ended - started, (first_at or ended) - started
