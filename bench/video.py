"""Recorded video: the engine of `moodline analyze` by number of workers, against the bare loop.

`fps` is all frames by all the time until the report is there: starting the processes, loading the
libraries and models, cutting, tracking and writing are in it, and `start_s` tells how long it took
until the first frames were done. Each runs in a process of its own, which has loaded no more by
then than the command has. The bare loop has its models loaded already; it decodes, detects and
classifies in one process. It runs just before each number of workers, as `bare_fps`, and `ratio` is
`fps` by it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import av
import av.error
import cv2

from bench import cores
from bench.bare import BareLoop
from bench.timed import timed
from shared.config import Settings
from shared.errors import SourceError
from shared.video import VideoOptions
from workers.footage import ANALYSIS_WIDTH, fitted_wh
from workers.vision.detector import ImageBGR


def measure(
    path: Path,
    settings: Settings,
    *,
    workers: Sequence[int],
    detect: Sequence[str],
    seconds: float | None,
) -> list[dict[str, Any]]:
    """Analyse a video once for each number of workers with each way to detect; one row each.

    `detect` are values of the setting of that name; the bare loop searches every frame. `seconds`
    is how much of the video is taken, from its beginning; None: all.
    Raises SourceError where it is no video that can be analysed, ModelError for the models.
    """
    cv2.setNumThreads(settings.threads)
    bare = BareLoop.load(settings)
    options = VideoOptions(end_s=seconds)
    ways = [settings.model_copy(update={"detect": way}) for way in detect]
    return [_row(path, way, options, bare, count) for way in ways for count in workers]


def _row(
    path: Path, settings: Settings, options: VideoOptions, bare: BareLoop, workers: int
) -> dict[str, Any]:
    bare_frames, bare_s = _bare(path, bare, options.end_s)
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        frames, spent_s, start_s = fresh.submit(timed, path, options, settings, workers).result()
    if not frames or not bare_frames:
        raise SourceError(f"{path} has no frame that can be decoded: give another video.")
    fps, bare_fps = frames / spent_s, bare_frames / bare_s
    return {
        "detect": settings.detect,
        "workers": workers,
        "frames": frames,
        "fps": round(fps, 1),
        "bare_fps": round(bare_fps, 1),
        "ratio": round(fps / bare_fps, 2),
        "start_s": round(start_s, 2),
        "cores": cores(),
    }


def _bare(path: Path, bare: BareLoop, end_s: float | None) -> tuple[int, float]:
    """Decode, detect and classify in one thread; return the frames and the seconds."""
    frames = 0
    started = time.perf_counter()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise SourceError(f"{path} holds no video: give one.")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            stop_s = math.inf if end_s is None else end_s
            start_s: float | None = None
            for frame in container.decode(stream):
                if frame.time is not None:
                    start_s = frame.time if start_s is None else start_s
                    if frame.time - start_s >= stop_s:
                        break
                width, height = fitted_wh(frame.width, frame.height, ANALYSIS_WIDTH)
                picture = frame.to_ndarray(format="bgr24", width=width, height=height)
                bare.judge(cast("ImageBGR", picture))
                frames += 1
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"{path} cannot be read ({error}): give a video file.") from error
    return frames, time.perf_counter() - started
