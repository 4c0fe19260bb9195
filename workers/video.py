"""Recorded videos: what is in each segment, and then who is who over all of them.

`analyse_segment` finds and judges the faces of one segment, which knows nothing of the others: any
worker may do any segment, in any order, twice, and it comes out the same. `track` goes through all
segments in order of time, numbers the people and smooths their scores. So what comes out depends on
the video and its plan alone, never on how many workers there were or which of them died.

Both stream: memory does not grow with the length of the video.

Files, in the video's folder: `segments/NNNNN.json.gz`, a line of JSON a frame, `[t, [face, …]]`
with a face `[[x, y, width, height], score, frontal, [scores], colours]`, and at the end how many
frames could not be decoded, `{"missing": 0}`; and `frames.jsonl.gz`, which `read_frames` reads.
Boxes are pixels of the video as displayed, with one decimal; scores have four.

Not here: decoding and cutting into segments (`workers.footage`), the report (`workers.report`), and
the order of the work (`workers.keeper` over RQ, `workers.analysis` on the command line).
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, Any, NamedTuple

from shared.media import Media
from shared.video import Video, frames_path, segment_path
from workers.footage import Plan, Reader, Segment
from workers.pipeline import Pipeline, Sighting
from workers.tracking import Tracker
from workers.vision.detector import BoxXYWH, Detection

# Frames that are decoded, searched and judged together, if they take no more memory than this.
_TOGETHER, _TOGETHER_BYTES = 16, 12_500_000
_encoded = json.JSONEncoder(separators=(",", ":")).encode
_GZIP_LEVEL = 3  # 1.3 times the size of level 9 in a fifth of the time

# A face is shown only when it has been seen surely enough, which may take some frames; when it is,
# its sightings of this long before are its own too.
_LOOK_BACK_S = 1.0
_LOOK_BACK_GAP_S = 0.35
_LOOK_BACK_FRAMES = 300


class Seen(NamedTuple):
    """One face in one frame, numbered.

    `scores` are smoothed over the track's past, in the order of the model's labels. `quality`, 0 to
    1, is how sure and how frontal a face it is: what a picture of the person is chosen by.
    """

    track: int
    box_xywh: BoxXYWH
    quality: float
    scores: list[float]


def analyse_segment(
    pipeline: Pipeline,
    reader: Reader,
    segment: Segment,
    *,
    between: Callable[[int], None],
) -> bytes:
    """Find and judge the faces in one segment; return the segment's file.

    `between` is called after each frame with how many are done; what it raises ends the work.
    Raises SourceError where the file cannot be read.
    """
    tracker = Tracker(search_every_s=reader.plan.search_every_s)
    done = 0
    packed = io.BytesIO()
    sampled = reader.frames(segment)
    decoded = sampled.undeveloped()
    frame_bytes = 1.5 * reader.plan.width * reader.plan.height  # brightness, and colour halved
    together = max(1, min(_TOGETHER, int(_TOGETHER_BYTES / frame_bytes)))
    with gzip.GzipFile(
        fileobj=packed, mode="wb", compresslevel=_GZIP_LEVEL, filename="", mtime=0
    ) as lines:
        while judged := pipeline.judge_frames(
            islice(decoded, together), tracker, partial(between, done)
        ):
            for t, sightings in judged:
                rows = [_row(sighting, reader.plan.scale) for sighting in sightings]
                lines.write(_json_line([t, rows]))
            done += len(judged)
            between(done)
        lines.write(_json_line({"missing": sampled.missing}))
    return packed.getvalue()


def _row(sighting: Sighting, scale: float) -> list[Any]:
    """A face as the segment's file has it; `scale` makes pixels of the video."""
    face = sighting.detection
    return [
        [round(value * scale, 1) for value in face.box_xywh],
        round(face.score, 4),
        frontality(face),
        [round(score, 4) for score in sighting.scores],
        sighting.colours,
    ]


def track(
    media: Media,
    video: Video,
    plan: Plan,
    *,
    smoothing_s: float,
    ready: Callable[[Segment], bool] | None = None,
) -> None:
    """Number and smooth the faces of all segments; write `frames.jsonl.gz`.

    `ready` is asked before each segment, in order, and may wait: False leaves the segment out.
    Without it those that are not there are left out.
    Raises NotFound or MediaError where storage gives trouble.
    """

    def is_there(segment: Segment) -> bool:
        return media.exists(segment_path(video.id, segment.index))

    found = read_segments(media, video.id, filter(ready or is_there, plan.segments))
    with (
        media.create(frames_path(video.id)) as file,
        gzip.GzipFile(
            fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL, filename="", mtime=0
        ) as lines,
    ):
        for t, faces in number_faces(found, smoothing_s=smoothing_s):
            lines.write(_json_line([t, faces]))


def frames_analysed(media: Media, video_id: str) -> int:
    """Return how many frames `read_frames` gives, without looking at them."""
    with media.open(frames_path(video_id)) as file:
        return sum(1 for _ in _lines(file))


def read_frames(media: Media, video_id: str) -> Iterator[tuple[float, list[Seen]]]:
    """Give each analysed frame's time and faces, in order; raises NotFound before `track`."""
    with media.open(frames_path(video_id)) as file:
        for line in _lines(file):
            t, rows = json.loads(line)
            yield t, [Seen(track, tuple(box), *rest) for track, box, *rest in rows]


@dataclass(slots=True)
class Found:
    """One frame as a segment's file has it; `numbers` says whose each face is, 0: nobody's."""

    t: float
    faces: list[Detection]
    frontal: list[float]
    scores: list[list[float]]
    colours: list[Any]
    numbers: list[int]

    @classmethod
    def of(cls, row: list[Any]) -> Found:
        t, rows = row
        return cls(
            t,
            [Detection(tuple(row[0]), row[1]) for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            [tuple(part and tuple(part) for part in row[4]) for row in rows],
            [0] * len(rows),
        )


def number_faces(
    frames: Iterable[Found], *, smoothing_s: float
) -> Iterator[tuple[float, list[Seen]]]:
    """Say whose every face is; give time and faces of each frame, in the order they come in.

    Faces that stay nobody's (seen too unsurely, too seldom) are left out.
    """
    tracker = Tracker(smoothing_s=smoothing_s)
    highest = 0
    waiting: deque[Found] = deque()
    for frame in frames:
        while waiting and (
            not 0 <= frame.t - waiting[0].t <= _LOOK_BACK_S or len(waiting) >= _LOOK_BACK_FRAMES
        ):
            yield _smoothed(waiting.popleft(), tracker)
        for shown in tracker.update(frame.faces, frame.t, frame.colours):
            index = next(i for i, face in enumerate(frame.faces) if face is shown.detection)
            frame.numbers[index] = shown.track
            if shown.track > highest:
                _look_back(waiting, shown.track, shown.detection, frame.t)
        highest = max(highest, *frame.numbers, 0)
        waiting.append(frame)
    while waiting:
        yield _smoothed(waiting.popleft(), tracker)


def _look_back(waiting: Sequence[Found], number: int, face: Detection, t: float) -> None:
    """Give a person who is new at `t` the sightings that led to it."""
    for frame in reversed(waiting):
        if t - frame.t > _LOOK_BACK_GAP_S:
            return
        near = [
            (away, index)
            for index, (other, owner) in enumerate(zip(frame.faces, frame.numbers, strict=True))
            if owner == 0 and (away := _away(face.box_xywh, other.box_xywh)) < 0.6
        ]
        if near:
            _, index = min(near)
            frame.numbers[index] = number
            face, t = frame.faces[index], frame.t


def _away(a: BoxXYWH, b: BoxXYWH) -> float:
    """Return how far two boxes are apart, in face sizes; far where their sizes differ by half."""
    size, other_size = math.sqrt(a[2] * a[3]), math.sqrt(b[2] * b[3])
    if abs(math.log(size / other_size)) > 0.4:
        return math.inf
    return math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2) / max(
        size, other_size
    )


def _smoothed(frame: Found, tracker: Tracker) -> tuple[float, list[Seen]]:
    seen = []
    for number, face, frontal, scores in zip(
        frame.numbers, frame.faces, frame.frontal, frame.scores, strict=True
    ):
        if number:
            row = [round(score, 4) for score in tracker.smooth(number, scores, frame.t)]
            seen.append(Seen(number, face.box_xywh, round(face.score * frontal, 3), row))
    seen.sort()
    return frame.t, seen


def read_segments(media: Media, video_id: str, segments: Iterable[Segment]) -> Iterator[Found]:
    """Give what was found in each frame of these segments, nobody's faces too; raises NotFound."""
    for segment in segments:
        with media.open(segment_path(video_id, segment.index)) as file:
            for line in _lines(file):
                row = json.loads(line)
                if isinstance(row, list):
                    yield Found.of(row)


def frames_missing(media: Media, video: Video, plan: Plan, analysed: int) -> int:
    """Return how many frames there should be besides those analysed: damaged, or not got to.

    Where only the decoder tells what there is, those that it could not read.
    """
    if plan.timed_by == "packets":
        return plan.frames_total - analysed
    missing = 0
    for segment in plan.segments:
        path = segment_path(video.id, segment.index)
        if media.exists(path):
            with media.open(path) as file:
                last = deque(_lines(file), maxlen=1).pop()
            missing += json.loads(last)["missing"]
    return missing


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        yield from unpacked


def _json_line(row: object) -> bytes:
    return _encoded(row).encode() + b"\n"


def frontality(face: Detection) -> float:
    """Return how much a face looks this way, from 0 (profile) to 1: where the nose lies.

    Seen from the front it is half-way between the eyes; by how much it lies nearer to one of them,
    measured along the line through both, tells how far the head is turned.
    """
    if not face.landmarks_xy:
        return 1.0
    (ax, ay), (bx, by), (nose_x, nose_y), *_ = face.landmarks_xy
    along_x, along_y = bx - ax, by - ay
    apart = along_x**2 + along_y**2
    if apart == 0:
        return 0.0
    part = ((nose_x - ax) * along_x + (nose_y - ay) * along_y) / apart
    return round(max(0.0, 1 - 2 * abs(part - 0.5)), 2)
