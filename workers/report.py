"""The report of a recorded video: what people look at, download and compute with.

`derive` makes it from the tracked frames and what the user made of the people (names, numbers that
are one person): `results.json` and `results.csv` (every face of every frame), `summary.json` with
`boxes/NNNNN.json` and `faces/N.jpg` (what a page needs, small however long the video is). The same
frames and the same edits give the same bytes: there is nothing of the run in them.

It streams: memory grows with the number of people, not with the length of the video. Each file
appears whole or not at all, `summary.json` last.

Not here: finding, judging and numbering faces (`workers.video`), drawn exports (`workers.annotate`,
`workers.summary`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any, BinaryIO, TypeAlias

import cv2

from shared.errors import NotFound, SourceError
from shared.media import Media
from shared.schema import Face
from shared.video import (
    People,
    ReportExtra,
    Video,
    frames_path,
    plan_path,
    report_path,
    source_path,
)
from workers import footage
from workers.footage import Plan
from workers.pipeline import face_of
from workers.video import Seen, frames_analysed, frames_missing, read_frames
from workers.vision.classifier import ModelCard
from workers.vision.detector import BoxXYWH, ImageBGR

BOXES_S = 10.0
"""Seconds of video in one file of boxes."""
_TIMELINE_POINTS = 12_000  # over all people: 0.7 MB
_PERSON_POINTS = 12  # what the rest of a person's summary takes, counted in points
_FINEST_BUCKET_S = 1 / 32
_GAP_S = 1.0  # a line over a longer gap would show what nobody saw
_PICTURES = 64  # people with a face picture, those seen longest
_PICTURE_SIDE = 160
_PICTURE_MARGIN = 1.35  # sides of the picture to the longer side of the face's box
_JPEG_QUALITY = 88
# Before a picture can be decoded, all since its key frame must be (150 ms for ten seconds): a
# moment that is better by less than this for each second since then is not worth it.
_WORTH_PER_S, _WORTH_AT_MOST = 0.02, 0.2

_encoded = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def derive(
    media: Media,
    video: Video,
    people: People,
    model: ModelCard,
    *,
    extras: Collection[ReportExtra] = tuple(ReportExtra),
) -> None:
    """Write the report of a tracked video, with these extras: all for a page, which shows them.

    Raises NotFound where plan or frames are missing, MediaError where storage gives trouble.
    """
    summary_path = report_path(video.id, "summary.json")
    basis = _basis(media, video, people, model, extras)
    before = _read_summary(media, summary_path)
    if before and before["basis"] == basis:  # only names have changed, which stand nowhere else
        _write_json(media, summary_path, _renamed(before, people))
        return
    if before:  # until all files fit together again, no later run may build on them
        _write_json(media, summary_path, {**before, "basis": ""})
    plan = Plan.from_json(media.read(plan_path(video.id)))
    analysed = frames_analysed(media, video.id)
    missing = frames_missing(media, video, plan, analysed)
    facts = {
        "name": video.name,
        "duration_s": video.footage.duration_s,
        "fps": video.footage.fps,
        "width": video.footage.width,
        "height": video.footage.height,
        "frames_total": analysed + missing,
        "frames_analysed": analysed,
    }
    survey = _Survey(model, plan)
    _write_frames(media, video, people, model, facts, survey, extras)
    pictures = _write_pictures(media, video, plan, survey) if ReportExtra.FACES in extras else {}
    summary = {
        "revision": people.revision,
        "video": {
            **facts,
            "start_s": video.footage.start_s,
            "playable": video.footage.playable,
            "ended_early": plan.ended_early,
            "frames_missing": missing,
            "sampled_fps": video.options.fps,
            "recorded": asdict(video.recorded) if video.recorded else None,
        },
        "model": {**_model(model), "unsure_below": model.unsure_below},
        "people": [
            {
                "id": person.number,
                "name": people.names.get(person.number),
                "merged": sorted(n for n, into in people.merged.items() if into == person.number),
                **person.summary(model),
                "face": pictures.get(person.number),
            }
            for person in survey.people
        ],
        "together": sorted(survey.together),
        "timeline": survey.timeline.rows(),
        "boxes_s": BOXES_S,
        "basis": basis,
    }
    _write_json(media, summary_path, summary)


def _basis(
    media: Media, video: Video, people: People, model: ModelCard, extras: Collection[ReportExtra]
) -> str:
    """What a report is made of, but for the names: equal where nothing else has changed.

    Of the frames the CRC-32 and length that end a gzip file; of the extras those that are lacking.
    """
    with media.open(frames_path(video.id)) as file:
        file.seek(-8, io.SEEK_END)
        frames = file.read().hex()
    merged = " ".join(f"{n}>{into}" for n, into in sorted(people.merged.items()))
    lacking = "".join(f" -{extra}" for extra in ReportExtra if extra not in extras)
    made_by = f"{model.name} {model.version} {model.unsure_below}"
    return f"{frames} {made_by} {video.name} {merged}{lacking}"


def _read_summary(media: Media, path: str) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = json.loads(media.read(path))
    except NotFound:
        return None
    return summary


def _renamed(summary: dict[str, Any], people: People) -> dict[str, Any]:
    rows = [{**row, "name": people.names.get(row["id"])} for row in summary["people"]]
    return {**summary, "revision": people.revision, "people": rows}


def _model(model: ModelCard) -> dict[str, Any]:
    """`model` of the contract."""
    return {"name": model.name, "version": model.version, "labels": list(model.labels)}


@dataclass(slots=True)
class _Person:
    """What is gathered of one person over all frames."""

    number: int
    start_s: float
    scores: list[float]  # summed over frames
    shown: list[int]  # frames in which each label was the answer
    end_s: float = 0.0
    frames: int = 0
    unsure: int = 0
    seconds_seen: float = 0.0
    strongest: dict[int, tuple[float, float]] = field(default_factory=dict)  # confidence, time
    best: tuple[float, float, BoxXYWH] = (-1.0, 0.0, (0.0, 0.0, 0.0, 0.0))  # worth, time, place

    def see(self, t: float, face: Seen, unsure_below: float, ease: float) -> None:
        self.end_s = t
        self.frames += 1
        self.scores = [a + b for a, b in zip(self.scores, face.scores, strict=True)]
        confidence = max(face.scores)
        label = face.scores.index(confidence)
        if confidence < unsure_below:
            self.unsure += 1
        else:
            self.shown[label] += 1
            if confidence > self.strongest.get(label, (-1.0,))[0]:
                self.strongest[label] = (confidence, t)
        worth = ease * face.quality * math.sqrt(face.box_xywh[2] * face.box_xywh[3])
        if worth > self.best[0]:
            self.best = (worth, t, face.box_xywh)

    def mean_scores(self, labels: Sequence[str]) -> dict[str, float]:
        means = [round(total / self.frames, 4) for total in self.scores]
        return dict(zip(labels, means, strict=True))

    def track(self, labels: Sequence[str]) -> dict[str, Any]:
        """One of `tracks` of the contract."""
        means = self.mean_scores(labels)
        return {
            "id": self.number,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "frames": self.frames,
            "dominant": max(labels, key=lambda label: means[label]),
            "mean_scores": means,
        }

    def summary(self, model: ModelCard) -> dict[str, Any]:
        facts = self.track(model.labels)
        shares = {
            label: round(shown / self.frames, 4)
            for label, shown in zip(model.labels, self.shown, strict=True)
        }
        return {
            **{key: facts[key] for key in ("start_s", "end_s", "frames")},
            "seconds_seen": round(self.seconds_seen, 3),
            "dominant": facts["dominant"],
            "mean_scores": facts["mean_scores"],
            "shares": {**shares, "unsure": round(self.unsure / self.frames, 4)},
            "moments": [
                {"label": model.labels[label], "t": t, "confidence": confidence}
                for label, (confidence, t) in sorted(self.strongest.items())
            ],
        }


class _Eases:
    """How easily the picture of a moment is had, from 1 down to 0.8: asked in order of time."""

    def __init__(self, plan: Plan) -> None:
        first = plan.segments[0].pts[:1]  # where the file begins there may be no key frame known
        keys = {segment.starts[0].pts for segment in plan.segments if segment.starts[0]}
        self._key_times = deque(map(plan.time_s, sorted({*first, *keys})))
        self._key_t = -math.inf

    def at(self, t: float) -> float:
        while self._key_times and self._key_times[0] <= t:
            self._key_t = self._key_times.popleft()
        return 1 - min(_WORTH_PER_S * (t - self._key_t), _WORTH_AT_MOST)


class _Survey:
    """What all frames together tell: the people, who is together, the timeline."""

    def __init__(self, model: ModelCard, plan: Plan) -> None:
        self.together: set[tuple[int, int]] = set()
        self.timeline = _Timeline()
        self._known: dict[int, _Person] = {}
        self._labels = len(model.labels)
        self._unsure_below = model.unsure_below
        self._eases = _Eases(plan)
        self._last: tuple[float, set[int]] | None = None
        self._step_s = 0.0

    @property
    def people(self) -> list[_Person]:
        return [self._known[number] for number in sorted(self._known)]

    def see(self, t: float, faces: Sequence[tuple[int, Seen]]) -> None:
        """Take in a frame, in order: the people's numbers with their faces."""
        if self._last is not None:
            last_t, last_seen = self._last
            # A frame is on the screen until the next one, if that comes soon.
            self._step_s = t - last_t if 0 <= t - last_t <= _GAP_S else 0.0
            self._show_for(last_seen, self._step_s)
        ease = self._eases.at(t)
        seen = set()
        for number, face in faces:
            person = self._known.get(number)
            if person is None:
                person = _Person(number, t, [0.0] * self._labels, [0] * self._labels)
                self._known[number] = person
            person.see(t, face, self._unsure_below, ease)
            self.timeline.add(number, t, face.scores)
            seen.add(number)
        if len(seen) > 1:
            self.together.update(combinations(sorted(seen), 2))
        self._last = (t, seen)

    def end(self) -> None:
        """There are no further frames: the last one is shown as long as the one before."""
        if self._last is not None:
            self._show_for(self._last[1], self._step_s)

    def _show_for(self, numbers: Iterable[int], seconds: float) -> None:
        for number in numbers:
            self._known[number].seconds_seen += seconds


@dataclass(slots=True)
class _Bucket:
    """The frames of one person within a piece of time."""

    index: int
    first_t: float
    last_t: float
    frames: int
    sum_t: float
    scores: list[float]

    def take(self, last_t: float, frames: int, sum_t: float, scores: list[float]) -> None:
        self.last_t = last_t
        self.frames += frames
        self.sum_t += sum_t
        self.scores = [a + b for a, b in zip(self.scores, scores, strict=True)]


class _Timeline:
    """Every person's scores over time, in buckets that grow until there are few enough."""

    def __init__(self) -> None:
        self._bucket_s = _FINEST_BUCKET_S
        self._people: dict[int, list[_Bucket]] = {}
        self._buckets = 0

    def add(self, person: int, t: float, scores: list[float]) -> None:
        index = math.floor(t / self._bucket_s)
        row = self._people.setdefault(person, [])
        if row and row[-1].index == index:
            row[-1].take(t, 1, t, scores)
            return
        row.append(_Bucket(index, t, t, 1, t, scores))
        self._buckets += 1
        if self._buckets > _TIMELINE_POINTS:
            self._coarsen()

    def rows(self) -> dict[str, list[list[float | None]]]:
        """Per person `[t, score, …]`, and `[t, null, …]` where nobody saw them for a while."""
        room = max(0, _TIMELINE_POINTS - _PERSON_POINTS * len(self._people))
        while True:
            rows = {str(number): self._row(number) for number in sorted(self._people)}
            if sum(map(len, rows.values())) <= room or self._buckets == len(self._people):
                return rows
            self._coarsen()

    def _row(self, person: int) -> list[list[float | None]]:
        row: list[list[float | None]] = []
        before: _Bucket | None = None
        for bucket in self._people[person]:
            if before and bucket.first_t - before.last_t > max(_GAP_S, self._bucket_s):
                middle = (before.last_t + bucket.first_t) / 2
                row.append([round(middle, 3), *[None] * len(bucket.scores)])
            means = [round(total / bucket.frames, 3) for total in bucket.scores]
            row.append([round(bucket.sum_t / bucket.frames, 3), *means])
            before = bucket
        return row

    def _coarsen(self) -> None:
        """Join neighbours to buckets of twice the length."""
        self._bucket_s *= 2
        self._buckets = 0
        for person, row in self._people.items():
            joined: list[_Bucket] = []
            for bucket in row:
                bucket.index //= 2
                if joined and joined[-1].index == bucket.index:
                    joined[-1].take(bucket.last_t, bucket.frames, bucket.sum_t, bucket.scores)
                else:
                    joined.append(bucket)
            self._people[person] = joined
            self._buckets += len(joined)


_Add: TypeAlias = Callable[[int, float, Sequence[Face]], None]
"""Takes a frame's number, time and faces, in order."""


def _write_frames(
    media: Media,
    video: Video,
    people: People,
    model: ModelCard,
    facts: Mapping[str, Any],
    survey: _Survey,
    extras: Collection[ReportExtra],
) -> None:
    """Write what has a row for every frame: `results.json`, and table and boxes if asked for.

    The survey is taken on the way.
    """
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(media.create(report_path(video.id, "results.json")))
        others = [
            stack.enter_context(written(media, video.id, model.labels))
            for extra, written in ((ReportExtra.TABLE, _table), (ReportExtra.BOXES, _boxes))
            if extra in extras
        ]
        results.write(b'{"video":%b,\n"model":%b,\n' % (_json(facts), _json(_model(model))))
        results.write(b'"frames":[')
        for index, (t, seen) in enumerate(read_frames(media, video.id)):
            numbered = [(people.person(face.track), face) for face in seen]
            survey.see(t, numbered)
            faces = [
                face_of(number, face.box_xywh, face.scores, model.labels, model.unsure_below)
                for number, face in numbered
            ]
            row = {"index": index, "t": t, "faces": [face.to_dict() for face in faces]}
            results.write(b",\n" if index else b"\n")
            results.write(_json(row))
            for add in others:
                add(index, t, faces)
        survey.end()
        results.write(b'\n],\n"tracks":[')
        tracks = [b"\n" + _json(person.track(model.labels)) for person in survey.people]
        results.write(b",".join(tracks))
        results.write(b"\n]}\n")


@contextlib.contextmanager
def _table(media: Media, video_id: str, labels: Sequence[str]) -> Iterator[_Add]:
    """`results.csv`: a line for each face of each frame."""
    with media.create(report_path(video_id, ReportExtra.TABLE)) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        table = csv.writer(text, lineterminator="\n")
        columns = ("frame", "t", "track", "x", "y", "width", "height", "emotion", "confidence")
        table.writerow([*columns, *labels])

        def add(index: int, t: float, faces: Sequence[Face]) -> None:
            for face in faces:
                judged = (face.emotion, face.confidence, *face.scores.values())
                table.writerow((index, t, face.track, *face.box_xywh, *judged))

        try:
            yield add
            text.flush()
        finally:
            text.detach()


@contextlib.contextmanager
def _boxes(media: Media, video_id: str, labels: Sequence[str]) -> Iterator[_Add]:
    """`boxes/NNNNN.json`: the boxes of each `BOXES_S` seconds, for drawing over the video."""
    number = 0
    times: list[float] = []
    rows: list[list[list[float]]] = []

    def write() -> None:
        if times:
            path = report_path(video_id, f"{ReportExtra.BOXES}/{number:05d}.json")
            _write_json(media, path, {"t": times, "faces": rows})
            times.clear()
            rows.clear()

    def add(_: int, t: float, faces: Sequence[Face]) -> None:
        nonlocal number
        following = max(0, math.floor(t / BOXES_S))
        if following != number:
            write()
            number = following
        times.append(t)
        rows.append(
            [
                [
                    face.track,
                    *face.box_xywh,
                    labels.index(face.emotion),
                    round(face.confidence, 2),
                    int(face.unsure),
                ]
                for face in faces
            ]
        )

    yield add
    write()


def _write_pictures(media: Media, video: Video, plan: Plan, survey: _Survey) -> dict[int, str]:
    """Cut each person's best face out of the video; return where the pictures lie in the report."""
    folder = report_path(video.id, ReportExtra.FACES)
    longest_seen = sorted(survey.people, key=lambda person: -person.frames)[:_PICTURES]
    wanted: dict[float, list[_Person]] = {}
    for person in longest_seen:
        wanted.setdefault(person.best[1], []).append(person)
    pictures = {}
    with media.open(source_path(video.id)) as file:
        for t, image_bgr in _pictures_at(file, plan, wanted):
            for person in wanted[t]:
                name = f"{ReportExtra.FACES}/{person.number}.jpg"
                picture = _portrait(image_bgr, person.best[2], plan.scale)
                media.write(report_path(video.id, name), picture)
                pictures[person.number] = name
    for name in media.list(folder):  # of people who now are one with others
        if f"{ReportExtra.FACES}/{name}" not in pictures.values():
            media.delete(f"{folder}/{name}")
    return pictures


def _pictures_at(
    file: BinaryIO, plan: Plan, times: Iterable[float]
) -> Iterator[tuple[float, ImageBGR]]:
    """Decode the analysed frames of these times, in order, from the segments they lie in."""
    left = set(times)
    for whole in plan.segments:
        if not left:
            return
        segment = whole
        if plan.timed_by == "packets":  # then what is not asked for need not all be decoded
            segment = replace(
                whole, pts=tuple(pts for pts in whole.pts if plan.time_s(pts) in left)
            )
            if not segment.pts:
                continue
        # A damaged part was left out when it was analysed too.
        with (
            contextlib.suppress(SourceError),
            contextlib.closing(footage.frames(file, plan, segment)) as sampled,
        ):
            for t, image_bgr in sampled:
                if t in left:
                    left.remove(t)
                    yield t, image_bgr
                if not left:
                    break


def _portrait(image_bgr: ImageBGR, box_xywh: BoxXYWH, scale: float) -> bytes:
    """Return the face with some of what is around it, as a square JPEG."""
    x, y, width, height = (value / scale for value in box_xywh)
    side = max(1, round(_PICTURE_MARGIN * max(width, height)))
    square = cv2.getRectSubPix(image_bgr, (side, side), (x + width / 2, y + height / 2))
    shrinking = cv2.INTER_AREA if side > _PICTURE_SIDE else cv2.INTER_CUBIC
    picture = cv2.resize(square, (_PICTURE_SIDE, _PICTURE_SIDE), interpolation=shrinking)
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()


def _write_json(media: Media, path: str, value: object) -> None:
    media.write(path, _json(value))


def _json(value: object) -> bytes:
    return _encoded(value).encode()
