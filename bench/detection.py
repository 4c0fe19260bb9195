"""Both ways to detect against searching each picture afresh: the same faces, and what is saved?

`every-frame` searches every picture and knows the faces of the last one, `adaptive` searches when
something happens; afresh is each picture as if it were the first. All go over the same frames of a
clip, in turns, each with a tracker of its own. `same` is the share of frames in which a way has as
many faces as searching afresh, each within an intersection over union of 0.8 of one of those;
`people` is how many numbers each of the three gave, afresh last. `searches` is how many of the
frames were searched as a whole. `ms` is processor time a frame, tracking included, decoding and
classification not: other work on the machine changes it little.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from shared.config import PROJECT_DIR, Settings
from shared.errors import SourceError
from shared.video import VideoOptions
from workers import footage
from workers.pipeline import silent_native_libraries
from workers.tracking import Tracked, Tracker
from workers.vision.detector import BoxXYWH, Detection, FaceDetector, ImageBGR, load_detector

_SAME_IOU = 0.8


def measure(clips: Sequence[Path], settings: Settings, *, seconds: float | None) -> dict[str, Any]:
    """Compare both on each clip, or on its first `seconds`; one row each.

    Raises SourceError or ModelError with the remedy.
    """
    cv2.setNumThreads(settings.threads)
    with silent_native_libraries():
        detector = load_detector(
            "yunet" if settings.yunet_model else "mtcnn",
            models_dir=PROJECT_DIR / "models",
            yunet_path=settings.yunet_model,
            threads=settings.threads,
        )
    rows = [_row(clip, detector, seconds) for clip in clips]
    frames = sum(row["frames"] for row in rows)
    return {
        "same": round(sum(row["same"] * row["frames"] for row in rows) / frames, 3),
        "rows": rows,
    }


class _Way:
    """One way to detect, with what it found and what that took."""

    def __init__(self, detector: FaceDetector, search_every_s: float) -> None:
        self._detector = detector
        self._tracker = Tracker(search_every_s=search_every_s)
        self.spent_s = 0.0
        self.people: set[int] = set()

    def look(self, image_bgr: ImageBGR, t: float) -> list[Tracked]:
        started = time.process_time()
        faces = self._tracker.follow(self._detector, image_bgr, t)
        self.spent_s += time.process_time() - started
        self.people.update(face.track for face in faces)
        return faces


class _Counting:
    """A detector that counts how often a whole picture was searched, and expects nothing."""

    def __init__(self, detector: FaceDetector) -> None:
        self.searches = 0
        self._detector = detector
        self.verify = detector.verify
        self.follow = detector.follow
        self.search_beside = detector.search_beside
        self.smaller = detector.smaller

    def detect(
        self,
        image_bgr: ImageBGR,
        expected: Sequence[BoxXYWH] = (),  # noqa: ARG002 - each search is one afresh
    ) -> list[Detection]:
        self.searches += 1
        return self._detector.detect(image_bgr)


def _row(clip: Path, detector: FaceDetector, seconds: float | None) -> dict[str, Any]:
    plan = footage.plan(clip, VideoOptions(end_s=seconds))
    sampled = itertools.chain.from_iterable(
        footage.frames(clip, plan, segment) for segment in plan.segments
    )
    counting = _Counting(detector)
    every, afresh = _Way(detector, 0.0), _Way(_Counting(detector), 0.0)
    seldom = _Way(counting, Settings(detect="adaptive").search_every_s)
    frames = same = same_every = 0
    for t, image_bgr in sampled:
        faces = afresh.look(image_bgr, t)
        same_every += _are_same(faces, every.look(image_bgr, t))
        same += _are_same(faces, seldom.look(image_bgr, t))
        frames += 1
    if not frames:
        raise SourceError(f"{clip} has no frame that can be decoded: give another video.")
    return {
        "clip": clip.name,
        "frames": frames,
        "same_every_frame": round(same_every / frames, 3),
        "same": round(same / frames, 3),
        "people": ", ".join(str(len(way.people)) for way in (every, seldom, afresh)),
        "searches": round(counting.searches / frames, 3),
        "every_frame_ms": round(every.spent_s / frames * 1000, 2),
        "adaptive_ms": round(seldom.spent_s / frames * 1000, 2),
        "afresh_ms": round(afresh.spent_s / frames * 1000, 2),
    }


def _are_same(expected: Sequence[Tracked], found: Sequence[Tracked]) -> bool:
    return len(expected) == len(found) and all(
        any(_iou(one.detection.box_xywh, other.detection.box_xywh) >= _SAME_IOU for other in found)
        for one in expected
    )


def _iou(a: BoxXYWH, b: BoxXYWH) -> float:
    """Intersection over union."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
