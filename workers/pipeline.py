"""From captured frames to results: decode, detect, track, crop, classify, smooth.

`Pipeline.analyse` takes the claims of several feeds and puts all their faces through the classifier
in one batch. It keeps nothing between calls: a feed's tracker comes with the claim and goes back
with the results, so that any worker may serve any feed. A frame that is no picture is a counted
outcome, not an error.

`Pipeline.judge_frames` is the same for frames of a recording, but for the numbers and the
smoothing, which come when all frames are known (`workers.video`).

Not here: where frames come from and results go (`workers.live`), and the models (`workers.vision`).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import simplejpeg

from shared import PROJECT_DIR
from shared.schema import Claim, Degraded, Face, Frame, FrameResult, Outcome
from workers.tracking import Colours, Tracked, Tracker
from workers.vision.classifier import Classifier, ModelCard, load_classifier
from workers.vision.crop import Crop, crop_for
from workers.vision.detector import Detection, FaceDetector, ImageBGR, load_detector

if TYPE_CHECKING:
    from shared.config import Settings
    from workers.crew import PipelineSettings

# Under overload: a third as many searches, or such a time apart where every frame is searched.
_DETECT_LESS = 3
_SEARCH_EVERY_S = 0.2
MAX_PIXELS = 3840 * 2160  # a picture larger than 4K is refused before it fills the memory
# Exif has to come first, behind JFIF's 18 bytes at most (Exif 2.32, 4.5.4): it may tell to turn.
_EXIF, _EXIF_WITHIN = b"Exif\0\0", 64


@dataclass
class WorkDone:
    """What a pipeline has done since it was made."""

    frames: int = 0
    batches: int = 0
    faces: int = 0
    stage_seconds: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "detect": 0.0, "classify": 0.0}
    )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face in one frame of a recording: found and judged, but nobody's yet."""

    detection: Detection
    colours: Colours
    scores: list[float]


@dataclass(slots=True)
class _Seen:
    """One frame on its way through a batch."""

    frame: Frame
    tracker: Tracker
    size_hw: tuple[int, int]
    faces: list[Tracked]
    crops: list[Crop]
    stages_ms: dict[str, float]


class Pipeline:
    """The models of one process. Not for more than one thread, but for `work_done`."""

    def __init__(
        self,
        detector: FaceDetector,
        classifier: Classifier,
        *,
        smoothing_s: float,
        search_every_s: float = 0.0,
    ) -> None:
        self._detector = detector
        self._classifier = classifier
        self._smoothing_s = smoothing_s
        self._smaller = detector.smaller()
        self.search_every_s = search_every_s
        self.degraded = Degraded.NO  # what to leave out of live frames
        self._done = WorkDone()
        self.labels = tuple(classifier.card.labels)
        self.unsure_below = classifier.card.unsure_below
        self.model = f"{classifier.card.name} {classifier.card.version}"

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._classifier.card

    def warm(self) -> None:
        """Run every network once, so that the first frame is as quick as the others."""
        self._detector.detect(np.full((480, 640, 3), 128, np.uint8))
        self._classifier.warm()

    def work_done(self) -> WorkDone:
        return self._done

    def analyse(
        self, claims: Sequence[Claim], between: Callable[[], None] = lambda: None
    ) -> list[tuple[Claim, Mapping[str, Any], list[Outcome]]]:
        """Analyse all frames of all claims; return each claim with its new state and outcomes.

        `between` is called after each frame: a batch may outlast a lease.
        """
        every_s = self.search_every_s
        if self.degraded is not Degraded.NO:
            every_s = _DETECT_LESS * every_s or _SEARCH_EVERY_S
        trackers = {
            claim.feed: Tracker.from_state(
                claim.state, smoothing_s=self._smoothing_s, search_every_s=every_s
            )
            for claim in claims
        }
        seen: dict[str, _Seen] = {}
        for claim in claims:
            for frame in claim.frames:
                look = self._look(frame, trackers[claim.feed])
                if look is not None:
                    seen[_key(frame)] = look
                between()
        started = time.perf_counter()
        crops = [crop for look in seen.values() for crop in look.crops]
        scores = iter(self._judged(crops))
        classify_s = time.perf_counter() - started
        self._done.frames += sum(len(claim.frames) for claim in claims)
        self._done.batches += 1
        self._done.faces += len(crops)
        self._done.stage_seconds["classify"] += classify_s
        analysed: list[tuple[Claim, Mapping[str, Any], list[Outcome]]] = []
        for claim in claims:
            rows = []
            for frame in claim.frames:
                found = seen.get(_key(frame))
                if found is None:
                    rows.append(Outcome(frame, None, "not a picture that can be decoded"))
                    continue
                found.stages_ms["classify"] = classify_s * 1000
                rows.append(Outcome(frame, self._result(found, scores)))
            analysed.append((claim, trackers[claim.feed].state(), rows))
        return analysed

    def judge_frames(
        self,
        frames: Iterable[tuple[float, Callable[[], ImageBGR]]],
        tracker: Tracker,
        between: Callable[[], None] = lambda: None,
    ) -> list[tuple[float, list[Sighting]]]:
        """Find and judge the faces in a few frames of a recording: times, and what makes pictures.

        All are decoded first, because a decoder between networks finds nothing of its own in the
        processor's caches (a fifth more time); each is made a picture when its turn comes, and all
        their faces go through the classifier together.
        `tracker` only tells where to look twice: who is who is decided when
        the whole recording is known. `between` is called after each frame, and may analyse others.
        """
        found: list[tuple[float, list[tuple[Detection, Colours]]]] = []
        crops = []
        started = time.perf_counter()
        decoded = list(frames)
        self._done.stage_seconds["decode"] += time.perf_counter() - started
        for t, picture in decoded:
            started = time.perf_counter()
            image_bgr = picture()
            made = time.perf_counter()
            faces, colours = tracker.find(self._detector, image_bgr, t)
            tracker.update(faces, t, colours)
            crops += [crop_for(self.card, image_bgr, face) for face in faces]
            found.append((t, list(zip(faces, colours, strict=True))))
            self._done.stage_seconds["decode"] += made - started
            self._done.stage_seconds["detect"] += time.perf_counter() - made
            between()
        started = time.perf_counter()
        scores = iter(self._judged(crops))
        self._done.stage_seconds["classify"] += time.perf_counter() - started
        self._done.frames += len(found)
        self._done.batches += 1
        self._done.faces += len(crops)
        return [
            (t, [Sighting(face, colours, next(scores)) for face, colours in faces])
            for t, faces in found
        ]

    def judge_still(self, image_bgr: ImageBGR) -> list[Face]:
        """Find and judge the faces of one picture, without past: numbered from left to right."""
        found = sorted(self._detector.detect(image_bgr), key=lambda face: face.box_xywh[0])
        rows = self._judged([crop_for(self.card, image_bgr, face) for face in found])
        return [
            face_of(number, face.box_xywh, scores, self.labels, self.unsure_below)
            for number, (face, scores) in enumerate(zip(found, rows, strict=True), 1)
        ]

    def _judged(self, crops: Sequence[Crop]) -> list[list[float]]:
        """The scores of each crop."""
        return self._classifier.predict(np.stack(crops)).tolist() if crops else []

    def _look(self, frame: Frame, tracker: Tracker) -> _Seen | None:
        """Decode a frame, find and number its faces, and cut them out."""
        started = time.perf_counter()
        queued_ms = (time.time() - frame.captured_at) * 1000
        image_bgr = decode_jpeg(frame.jpeg)
        decoded = time.perf_counter()
        if image_bgr is None:
            return None
        small = self.degraded in (Degraded.SMALLER, Degraded.SKIP)
        detector = self._smaller if small else self._detector
        faces = tracker.follow(detector, image_bgr, frame.captured_at)
        crops = [crop_for(self.card, image_bgr, face.detection) for face in faces]
        detected = time.perf_counter()
        self._done.stage_seconds["decode"] += decoded - started
        self._done.stage_seconds["detect"] += detected - decoded
        stages_ms = {
            "queue": queued_ms,
            "decode": (decoded - started) * 1000,
            "detect": (detected - decoded) * 1000,
        }
        height, width = image_bgr.shape[:2]
        return _Seen(frame, tracker, (height, width), faces, crops, stages_ms)

    def _result(self, seen: _Seen, scores: Iterator[list[float]]) -> FrameResult:
        faces = []
        for tracked in seen.faces:
            smoothed = seen.tracker.smooth(tracked.track, next(scores), seen.frame.captured_at)
            box_xywh = tracked.detection.box_xywh
            faces.append(face_of(tracked.track, box_xywh, smoothed, self.labels, self.unsure_below))
        return FrameResult(
            feed=seen.frame.feed,
            seq=seen.frame.seq,
            captured_at=seen.frame.captured_at,
            analysed_at=time.time(),
            width=seen.size_hw[1],
            height=seen.size_hw[0],
            faces=tuple(faces),
            stages_ms={stage: round(spent, 2) for stage, spent in seen.stages_ms.items()},
        )


def face_of(
    track: int,
    box_xywh: tuple[float, float, float, float],
    scores: Sequence[float],
    labels: Sequence[str],
    unsure_below: float,
) -> Face:
    """Build the record of one face: whole pixels, four decimals, the most likely label.

    `unsure` is told from the confidence as it is written, so that a reader comes to the same.
    """
    x, y, width, height = box_xywh
    rounded = [round(p, 4) for p in scores]
    best = scores.index(max(scores))
    confidence = rounded[best]
    return Face(
        track=track,
        box_xywh=(round(x), round(y), max(1, round(width)), max(1, round(height))),
        emotion=labels[best],
        confidence=confidence,
        scores=dict(zip(labels, rounded, strict=True)),
        unsure=confidence < unsure_below,
    )


def decode_jpeg(jpeg: bytes) -> ImageBGR | None:
    """Decode a JPEG to (height, width, 3), BGR, upright; None where it is none, or larger than 4K.

    The size is read from the header first: a few bytes can claim gigapixels.
    """
    if _EXIF not in jpeg[:_EXIF_WITHIN]:
        with contextlib.suppress(ValueError, KeyError):
            height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
            if width * height > MAX_PIXELS:
                return None
            return cast("ImageBGR", simplejpeg.decode_jpeg(jpeg, "BGR"))
    return _decode_rare(jpeg)


def _decode_rare(jpeg: bytes) -> ImageBGR | None:
    """As `decode_jpeg`, for what lies on its side, is damaged, or is unlike what cameras send.

    The same library decodes both, to the same values; OpenCV takes a sixth longer by its way there.
    """
    from PIL import Image  # noqa: PLC0415  a hundredth of a second, and seldom needed

    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as header:
            width, height = header.size
        if width * height > MAX_PIXELS:
            return None
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, ValueError, Image.DecompressionBombError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def load_pipeline(
    settings: Settings | PipelineSettings, *, search_width: int | None = None
) -> Pipeline:
    """Load and warm detector and classifier; raises ModelError with the remedy.

    `search_width` is the width in pixels at which faces are searched; the detector's own for video.
    """
    with silent_native_libraries():
        pipeline = Pipeline(
            load_detector(
                "yunet" if settings.yunet_model else "mtcnn",
                models_dir=PROJECT_DIR / "models",
                yunet_path=settings.yunet_model,
                max_width=search_width,
                threads=settings.threads,
            ),
            load_classifier(settings.model, settings.backend, settings.threads),
            smoothing_s=settings.smoothing_s,
            search_every_s=settings.search_every_s,
        )
        pipeline.warm()
    return pipeline


@contextlib.contextmanager
def silent_native_libraries() -> Iterator[None]:
    """Drop what C++ writes to stderr by itself: LiteRT greets, and has no switch for it.

    What goes wrong comes as a Python exception all the same.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _key(frame: Frame) -> str:
    return f"{frame.feed} {frame.id}"
