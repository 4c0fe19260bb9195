"""The whole engine without transport, against the bare loop: what tracking and records cost.

Both get the same JPEG pictures: frames of a clip as capture makes them. The engine is
`Pipeline.analyse` as a busy worker calls it, four frames of a feed at a time, the tracker's state
going out and in as it does through Redis. The bare loop decodes, detects and classifies. They work
in turns of 16 frames, each before the other as often as after it.

The bare loop searches every picture; the engine does, or searches some and follows faces between,
as `detect` says. `ratio` is the median over all turns of the bare loop's time by the engine's, so
that what else the machine does in some turns counts little; `fps` and `bare_fps` come from medians
too. `stages_ms` is the engine's time a frame: `detect` holds tracking and cropping, `rest` is
smoothing and records.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import cv2
import numpy as np

from bench import cores
from bench.bare import BareLoop
from shared.config import Settings
from shared.errors import SourceError
from shared.schema import Claim, Frame
from shared.video import VideoOptions
from workers import footage
from workers.live import MAX_FRAMES
from workers.pipeline import Pipeline, decode_jpeg, load_pipeline
from workers.vision.detector import ImageBGR

_TURN_FRAMES = 4 * MAX_FRAMES
_MOST_FRAMES = 900  # of the clip, kept as JPEG: some 30 MB
_FEWEST_TURNS = 4


def measure(
    clip: Path, settings: Settings, *, detect: Sequence[str], seconds: float
) -> list[dict[str, Any]]:
    """Run both in turns for `seconds` with each way to detect; one row each.

    `detect` are values of the setting of that name. Raises SourceError or ModelError with the
    remedy.
    """
    cv2.setNumThreads(settings.threads)
    frames = _as_captured(clip, settings)
    bare = BareLoop.load(settings)
    ways = [settings.model_copy(update={"detect": way}) for way in detect]
    return [_row(clip, frames, bare, way, seconds=seconds) for way in ways]


def _row(
    clip: Path, frames: Sequence[_Captured], bare: BareLoop, settings: Settings, *, seconds: float
) -> dict[str, Any]:
    pipeline = load_pipeline(settings)
    turns = _turns(frames)
    engine = _Engine(pipeline)
    decode_s = 0.0
    for warming in itertools.islice(turns, 2):  # interpreters are made for the sizes that come
        engine.turn(warming)
        _bare_turn(bare, warming)
    before = dict(pipeline.work_done().stage_seconds)
    bare.stage_seconds = dict.fromkeys(bare.stage_seconds, 0.0)
    engine_s: list[float] = []
    bare_s: list[float] = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at or len(engine_s) < _FEWEST_TURNS:
        turn = next(turns)
        bare_first = len(engine_s) % 2 == 0
        if bare_first:
            spent_s, decoding_s = _bare_turn(bare, turn)
        engine_s.append(engine.turn(turn))
        if not bare_first:
            spent_s, decoding_s = _bare_turn(bare, turn)
        bare_s.append(spent_s)
        decode_s += decoding_s
    count = len(engine_s) * _TURN_FRAMES
    after = pipeline.work_done().stage_seconds
    stages = {stage: after[stage] - before[stage] for stage in after}
    stages["rest"] = sum(engine_s) - sum(stages.values())
    height, width = frames[0][2]
    return {
        "detect": settings.detect,
        "clip": clip.name,
        "size": f"{width}x{height}",
        "threads": settings.threads,
        "cores": cores(),
        "frames": count,
        "fps": round(_TURN_FRAMES / median(engine_s), 1),
        "bare_fps": round(_TURN_FRAMES / median(bare_s), 1),
        "ratio": round(median(b / e for b, e in zip(bare_s, engine_s, strict=True)), 3),
        "stages_ms": {stage: round(spent / count * 1000, 2) for stage, spent in stages.items()},
        "bare_stages_ms": {
            stage: round(spent / count * 1000, 2)
            for stage, spent in {"decode": decode_s, **bare.stage_seconds}.items()
        },
    }


_Captured = tuple[float, bytes, tuple[int, int]]
"""Time in the clip, JPEG, height and width."""


def _as_captured(clip: Path, settings: Settings) -> list[_Captured]:
    """The clip's frames as a capture process hands them over."""
    plan = footage.plan(clip, VideoOptions())
    sampled = itertools.chain.from_iterable(
        footage.frames(clip, plan, segment) for segment in plan.segments
    )
    captured = []
    for t, image_bgr in itertools.islice(sampled, _MOST_FRAMES):
        height, width = image_bgr.shape[:2]
        size_wh = footage.fitted_wh(width, height, settings.width)
        fitted = image_bgr
        if size_wh != (width, height):
            fitted = cast("ImageBGR", cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA))
        _, jpeg = cv2.imencode(".jpg", fitted, [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
        captured.append((t, np.asarray(jpeg).tobytes(), (size_wh[1], size_wh[0])))
    if not captured:
        raise SourceError(f"{clip} has no frame that can be decoded: give another --clip.")
    return captured


def _turns(frames: Sequence[_Captured]) -> Iterator[list[Frame]]:
    """Give the clip over and over, its times going on."""
    lasts_s = frames[-1][0] - frames[0][0] + 0.1

    def endless() -> Iterator[Frame]:
        for number in itertools.count():
            rounds, index = divmod(number, len(frames))
            t, jpeg, _ = frames[index]
            yield Frame("bench", f"{number}-0", number + 1, 1e9 + rounds * lasts_s + t, jpeg)

    source = endless()
    while True:
        yield list(itertools.islice(source, _TURN_FRAMES))


class _Engine:
    """A worker's share of the work on one feed."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._state: str | None = None

    def turn(self, frames: Sequence[Frame]) -> float:
        """Analyse the frames; return the seconds that it took."""
        started = time.perf_counter()
        for first in range(0, len(frames), MAX_FRAMES):
            state = json.loads(self._state) if self._state else None
            claim = Claim("bench", 1, state, tuple(frames[first : first + MAX_FRAMES]))
            ((_, kept, outcomes),) = self._pipeline.analyse([claim])
            self._state = json.dumps(kept)
            for outcome in outcomes:
                if outcome.result is not None:
                    outcome.result.to_json()
        return time.perf_counter() - started


def _bare_turn(bare: BareLoop, frames: Sequence[Frame]) -> tuple[float, float]:
    """Judge the frames; return the seconds that it took, and those of them for decoding."""
    started = time.perf_counter()
    decoding_s = 0.0
    for frame in frames:
        begun = time.perf_counter()
        image_bgr = decode_jpeg(frame.jpeg)
        decoding_s += time.perf_counter() - begun
        if image_bgr is not None:
            bare.judge(image_bgr)
    return time.perf_counter() - started, decoding_s
