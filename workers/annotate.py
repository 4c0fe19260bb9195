"""Copies of a recorded video to take away: with what was found drawn in, or with faces hidden.

`annotate` writes H.264 in MP4 of the part that was analysed, with boxes, names or numbers and
emotions drawn into each frame, and the sound. `preview` writes such a copy of the whole video with
nothing drawn in, for browsers that cannot play the file itself.

Promises: every frame of the source appears once, upright, at its own time (counted from the file's
first moment, or that of the part), with what was found in that very frame; picture and sound keep
their places to each other. Sizes are even, as H.264 wants them: an odd one gains a pixel. What
browsers can play is copied of the sound, everything else becomes AAC. Nothing is written to `out`
before all of it is done, and `between` is called at every frame: what it raises ends the work.

A blurred copy hides every face that was found, also one that nobody's number was given to, and the
moments in between at which it was not found: see `_Veil`. It shows numbers and no names. A face
that the detector does not find at all cannot be hidden.

Memory does not grow with the length of the video. Not here: what is found (`workers.video`),
decoding (`workers.footage`), writing (`workers.mp4`), and how boxes and labels look
(`shared.overlay`).
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import av
import av.error
import cv2
import numpy as np
from PIL import Image

from shared import overlay
from shared.config import PROJECT_DIR
from shared.errors import SourceError
from shared.media import Media
from shared.schema import Face
from shared.video import Video, plan_path, report_path, segment_path, source_path
from workers import footage
from workers.footage import ImageBGR, Opened, Plan
from workers.mp4 import Pictures, Sound
from workers.pipeline import face_of, silent_native_libraries
from workers.video import Seen, read_frames, read_segments
from workers.vision.detector import BoxXYWH, FaceDetector, load_detector

Between = Callable[[int, int], None]
"""Called with the frames done and how many there are, or will be as far as is known."""
_Draw = Callable[[float, ImageBGR], ImageBGR]

PREVIEW_WIDTH = 1280  # pixels; wider pictures are scaled down
ANNOTATED_WIDTH = 3840
_ROWS_KEPT = 2000  # frames to either side, however they are timed

_HOLD_S = 0.5  # a face is hidden for so long before and after it was found
_BRIDGE_S = 3.0  # and all the while between two times at which the same person's was
_MARGIN = 0.25  # of a face's box, on each side
_CELLS = 5  # across a hidden face and its margins: too few to know anybody by


def annotate(
    media: Media, video: Video, out: BinaryIO, *, blur: bool, between: Between, threads: int = 1
) -> None:
    """Write the analysed part of a video with its faces drawn in, or also hidden.

    Needs the video's report. Raises NotFound where that or the video is missing, SourceError where
    no picture can be decoded, MediaError where storage gives trouble.
    """
    plan = Plan.from_json(media.read(plan_path(video.id)))
    copy = _Copy(media, video, plan, ANNOTATED_WIDTH, threads)
    copy.write(out, lambda: _Overlay(media, video, plan, copy.scale, blur=blur), between)


def preview(
    media: Media, video: Video, out: BinaryIO, *, between: Between, threads: int = 1
) -> None:
    """Write a copy of the whole video that browsers play; raises as `annotate` does."""
    plan = Plan.from_json(media.read(plan_path(video.id)))
    if plan.fps or plan.start_s is not None or plan.end_s is not None:
        plan = replace(plan, fps=plan.rate, start_s=None, end_s=None, segments=())
    copy = _Copy(media, video, plan, PREVIEW_WIDTH, threads)
    copy.write(out, lambda: lambda _, image_bgr: image_bgr, between)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy of the part of a video that a plan is about, at most `max_width` pixels wide."""

    media: Media
    video: Video
    plan: Plan
    max_width: int
    threads: int

    @property
    def size_wh(self) -> tuple[int, int]:
        return footage.fitted_wh(self.plan.width, self.plan.height, self.max_width)

    @property
    def scale(self) -> float:
        """Pixels of the video as displayed times this are pixels of the copy."""
        return self.size_wh[0] / self.plan.width

    def write(self, out: BinaryIO, drawing: Callable[[], _Draw], between: Between) -> None:
        """Write it, each picture as what `drawing` gives returns it."""
        with _draft() as draft:
            try:
                self._encode(draft, drawing(), between, may_copy=True)
            except av.error.FFmpegError:
                # Damaged sound cannot always be copied; what can be decoded of it can be written.
                self._encode_decoded(draft, drawing(), between)
            with draft.open("rb") as finished:
                shutil.copyfileobj(finished, out, 1 << 20)

    def _encode_decoded(self, draft: Path, draw: _Draw, between: Between) -> None:
        try:
            self._encode(draft, draw, between, may_copy=False)
        except av.error.FFmpegError as error:
            raise SourceError(
                f"This video cannot be written as MP4 ({error.strerror}): "
                "its times or its sound may be damaged."
            ) from error

    def _encode(self, draft: Path, draw: _Draw, between: Between, *, may_copy: bool) -> None:
        plan, total = self.plan, self._frames()
        start = plan.segments[0].starts[-1] if plan.segments else None
        with contextlib.ExitStack() as stack:
            # One handle for pictures and one for sound, so that neither waits for the other.
            path = source_path(self.video.id)
            files = [stack.enter_context(self.media.open(path)) for _ in range(2)]
            source = stack.enter_context(Opened(files[0], threads=self.threads))
            audible = stack.enter_context(Opened(files[1], everything=True))
            target = stack.enter_context(
                av.open(draft, "w", format="mp4", container_options={"movflags": "+faststart"})
            )
            begins_s = source.start_s if plan.start_s is None else plan.start_s
            sound = Sound(target, audible, plan, begins_s=begins_s, may_copy=may_copy)
            upright = footage.Upright(self.size_wh)
            pictures: Pictures | None = None
            done = 0
            for t, frame in source.timed_frames(plan, start):
                if plan.end_s is not None and t >= plan.end_s:
                    if plan.timed_by == "packets":
                        break
                    continue
                if plan.start_s is not None and t < plan.start_s:
                    continue
                if pictures is None:
                    pictures = Pictures(
                        target,
                        source,
                        frame,
                        self.size_wh,
                        begins_s=begins_s,
                        rate=plan.rate,
                        threads=self.threads,
                    )
                target.mux(pictures.encode(t, frame, draw(t, upright.image_bgr(frame))))
                target.mux(sound.until(t - begins_s))
                done += 1
                between(done, max(done, total))
            if pictures is None:
                raise SourceError(
                    "No picture in this part of the video can be decoded: "
                    "check that the file plays, or analyse another part."
                )
            target.mux(pictures.flush())
            target.mux(sound.until(math.inf))

    def _frames(self) -> int:
        """How many frames there are, or about how many where not all are analysed."""
        plan, facts = self.plan, self.video.footage
        if plan.fps is None:
            return plan.frames_total
        ends_s = facts.start_s + (facts.duration_s or 0)
        part_s = min(plan.end_s or ends_s, ends_s) - (plan.start_s or facts.start_s)
        return round(part_s * plan.rate)


@contextlib.contextmanager
def _draft() -> Iterator[Path]:
    """A file to write and to read again, as FFmpeg does to move an MP4's index to its beginning.

    It has no name where the system can open a file without: so nothing of the pictures stays on
    disk, however this process ends.
    """
    if sys.platform == "linux":
        with tempfile.TemporaryFile() as file:
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        with tempfile.TemporaryDirectory(prefix="moodline-copy-") as folder:
            yield Path(folder, "copy.mp4")


@dataclass(frozen=True, slots=True)
class _Row:
    """What was found in one frame: the faces of people, and boxes that are nobody's."""

    t: float
    seen: list[Seen]
    nobodys: list[BoxXYWH]


class _Found:
    """What was found in each frame, for one who goes through all frames in order.

    `row` is that of the frame that was asked for, None if it was not analysed; `past` and `coming`
    are those before and after it, newest and next first to the middle, as far as they are kept.
    """

    def __init__(self, rows: Iterator[_Row], plan: Plan, keep_s: float) -> None:
        self._rows = rows
        self._rises = plan.timed_by == "packets"
        self._keep_s = keep_s
        self.row: _Row | None = None
        self.past: deque[_Row] = deque(maxlen=_ROWS_KEPT)
        self.coming: deque[_Row] = deque()

    def seek(self, t: float) -> None:
        """Go on to the frame of this time."""
        if self.row is not None:
            self.past.append(self.row)
        while self.past and t - self.past[0].t > self._keep_s:
            self.past.popleft()
        self._look_ahead(t)
        while self._rises and self.coming and self.coming[0].t < t:
            self.past.append(self.coming.popleft())  # a frame that did not come this time
            self._look_ahead(t)
        self.row = None
        if self.coming and self.coming[0].t == t:
            self.row = self.coming.popleft()

    def _look_ahead(self, t: float) -> None:
        while len(self.coming) < _ROWS_KEPT and (
            not self.coming or self.coming[-1].t - t <= self._keep_s
        ):
            row = next(self._rows, None)
            if row is None:
                return
            self.coming.append(row)


class _Overlay:
    """Draws into each frame what was found in it."""

    def __init__(self, media: Media, video: Video, plan: Plan, scale: float, *, blur: bool) -> None:
        summary = json.loads(media.read(report_path(video.id, "summary.json")))
        model, people = summary["model"], summary["people"]
        self._labels: list[str] = model["labels"]
        self._unsure_below: float = model["unsure_below"]
        self._person = {track: row["id"] for row in people for track in row["merged"]}
        names = {row["id"]: row["name"] for row in people if row["name"]}
        self._names: dict[int, str] = {} if blur else names
        self._scale = scale
        step_s = 1 / (plan.fps or plan.rate)
        self._shown_s = 1.5 * step_s
        self._veil = _Veil(plan, step_s) if blur else None
        keep_s = self._veil.keep_s if self._veil else self._shown_s
        self._found = _Found(_rows(media, video, plan, nobodys=blur), plan, keep_s)

    def __call__(self, t: float, image_bgr: ImageBGR) -> ImageBGR:
        found = self._found
        found.seek(t)
        if self._veil:
            self._veil.hide(found, t, image_bgr, self._scale)
        row = found.row
        if row is None and found.past and t - found.past[-1].t < self._shown_s:
            row = found.past[-1]
        if row is None or not row.seen:
            return image_bgr
        picture = Image.fromarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB))
        overlay.draw_faces(picture, [self._face(seen) for seen in row.seen], self._names)
        return cast("ImageBGR", cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR))

    def _face(self, seen: Seen) -> Face:
        person = self._person.get(seen.track, seen.track)
        x, y, width, height = (side * self._scale for side in seen.box_xywh)
        box_xywh = (x, y, width, height)
        return face_of(person, box_xywh, seen.scores, self._labels, self._unsure_below)


def _rows(media: Media, video: Video, plan: Plan, *, nobodys: bool) -> Iterator[_Row]:
    """What was found in each analysed frame, in order; with `nobodys` all faces ever found."""
    there = (part for part in plan.segments if media.exists(segment_path(video.id, part.index)))
    every = read_segments(media, video.id, there) if nobodys else iter(())
    for t, seen in read_frames(media, video.id):
        found = next((frame for frame in every if frame.t == t), None)
        known = {face.box_xywh for face in seen}
        faces = found.faces if found else []
        yield _Row(t, seen, [face.box_xywh for face in faces if face.box_xywh not in known])


class _Veil:
    """Makes faces unknown: those found in a frame, and those that must be in it all the same.

    Between two frames in which a person's face was found, up to `_BRIDGE_S` apart, it is hidden
    where it would be on the straight way between the two. For `_HOLD_S` before a face was first
    found and after it was last, it is hidden where it was. Frames that were not analysed are
    searched for faces.
    """

    def __init__(self, plan: Plan, step_s: float) -> None:
        self._hold_s = max(_HOLD_S, 1.5 * step_s)
        self._bridge_s = max(_BRIDGE_S, 1.5 * step_s)
        self.keep_s = self._bridge_s
        self._detector: FaceDetector | None = None
        if plan.fps is not None:
            with silent_native_libraries():
                self._detector = load_detector("mtcnn", models_dir=PROJECT_DIR / "models")
                self._detector.detect(np.zeros((240, 320, 3), np.uint8))  # greets when first used

    def hide(self, found: _Found, t: float, image_bgr: ImageBGR, scale: float) -> None:
        """Hide faces in a picture, in place."""
        boxes = self._boxes(found, t)
        if found.row is None and self._detector:
            faces = self._detector.detect(image_bgr)
            _pixelate(image_bgr, [face.box_xywh for face in faces])
        _pixelate(image_bgr, [(x * scale, y * scale, w * scale, h * scale) for x, y, w, h in boxes])

    def _boxes(self, found: _Found, t: float) -> list[BoxXYWH]:
        row = found.row or _Row(t, [], [])
        boxes = [*(face.box_xywh for face in row.seen), *row.nobodys]
        here = {face.track for face in row.seen}
        before = {face.track: (past.t, face.box_xywh) for past in found.past for face in past.seen}
        after = {
            face.track: (next_.t, face.box_xywh)
            for next_ in reversed(found.coming)
            for face in next_.seen
        }
        for track in (before.keys() | after.keys()) - here:
            was, will = before.get(track), after.get(track)
            if was and will and 0 < will[0] - was[0] <= self._bridge_s:
                part = (t - was[0]) / (will[0] - was[0])
                way = zip(was[1], will[1], strict=True)
                x, y, width, height = (a + (b - a) * part for a, b in way)
                boxes.append((x, y, width, height))
                continue
            boxes += [at[1] for at in (was, will) if at and abs(at[0] - t) <= self._hold_s]
        for near in (*found.past, *found.coming):
            if abs(near.t - t) <= self._hold_s:
                boxes += [box for box in near.nobodys if not any(_same(box, o) for o in boxes)]
        return boxes


def _same(one: BoxXYWH, other: BoxXYWH) -> bool:
    """Whether the middle of a box lies in the other: then hiding that one is enough."""
    x, y = one[0] + one[2] / 2, one[1] + one[3] / 2
    left, top, width, height = other
    return left <= x <= left + width and top <= y <= top + height and width >= 0.7 * one[2]


def _pixelate(image_bgr: ImageBGR, boxes: Sequence[BoxXYWH]) -> None:
    """Leave of each face, and what is around it, a few squares of one colour each."""
    for x, y, width, height in boxes:
        left = max(0, math.floor(x - _MARGIN * width))
        top = max(0, math.floor(y - _MARGIN * height))
        part = image_bgr[
            top : max(0, math.ceil(y + (1 + _MARGIN) * height)),
            left : max(0, math.ceil(x + (1 + _MARGIN) * width)),
        ]
        if part.size:
            size_wh = part.shape[1::-1]
            cell = max(size_wh) / _CELLS
            cells_wh = [max(1, min(round(side / cell), side)) for side in size_wh]
            few = cv2.resize(part, cells_wh, interpolation=cv2.INTER_AREA)
            part[:] = cv2.resize(few, size_wh, interpolation=cv2.INTER_NEAREST)
