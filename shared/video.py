"""The records of recorded videos, their stored form, and the paths of what is kept of each.

Frozen, checked when built, JSON in storage and Redis. Times of the day are epoch seconds; times in
a video are seconds as its frames carry them; sizes are pixels as displayed, after rotation.

Not here: where they are kept (`shared.videos`), and what a video shows (`workers`).
"""

from __future__ import annotations

import json
import math
import re
import secrets
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeVar

from shared.errors import InvalidRecord
from shared.recordings import Ending
from shared.records import build, json_object, require

MAX_NAME_LENGTH = 120
MAX_PERSON_NAME_LENGTH = 60
MAX_SAMPLED_FPS = 240.0
_VIDEO_ID = re.compile(r"[0-9a-f]{16}")
_JOINER = "\u200d"  # makes one emoji of several

E = TypeVar("E", bound=StrEnum)


class VideoStatus(StrEnum):
    """How far the analysis of a video is, as the page and the API say it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (VideoStatus.DONE, VideoStatus.FAILED, VideoStatus.CANCELLED)


class ExportKind(StrEnum):
    """The files that are made when first asked for."""

    ANNOTATED = "annotated"
    ANNOTATED_BLURRED = "annotated-blurred"
    PREVIEW = "preview"
    SUMMARY = "summary"

    @property
    def file_name(self) -> str:
        """Its name in the folder of exports."""
        return f"{self}.pdf" if self is ExportKind.SUMMARY else f"{self}.mp4"

    @property
    def shows_people(self) -> bool:
        """Whether it holds names or numbers of people, so that an edit makes it stale."""
        return self is not ExportKind.PREVIEW


class ReportExtra(StrEnum):
    """A part of a report that no other is made from, by its name in the report's folder."""

    TABLE = "results.csv"
    BOXES = "boxes"
    FACES = "faces"


class ExportState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Export:
    """How far one file is: `progress` from 0 to 1, `error` where it failed."""

    state: ExportState
    progress: float = 0.0
    error: str = ""

    def __post_init__(self) -> None:
        require(0.0 <= self.progress <= 1.0, "a progress of 0 to 1", self.progress)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        return build(cls, {**row, "state": _member(ExportState, row.get("state"))})


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """What of a video is analysed.

    `fps` frames per second (None: every frame), from `start_s` up to `end_s` (None: its end),
    counted from the video's first moment.
    """

    fps: float | None = None
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        require(
            self.fps is None or 0 < self.fps <= MAX_SAMPLED_FPS,
            f"frames per second above 0 and up to {MAX_SAMPLED_FPS:g}",
            self.fps,
        )
        require(0 <= self.start_s < math.inf, "a start of 0 seconds or more", self.start_s)
        require(
            self.end_s is None or self.start_s < self.end_s < math.inf,
            f"an end after the start at {self.start_s:g} s",
            self.end_s,
        )

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        return build(cls, row)


@dataclass(frozen=True, slots=True)
class Footage:
    """What a look into the file found.

    `duration_s` and `fps` are None where the file does not say. `width` and `height` are pixels as
    displayed. `playable`: browsers play the file as it is. `start_s` is the time of the first
    moment: files need not begin at 0.
    """

    duration_s: float | None
    fps: float | None
    width: int
    height: int
    codec: str
    container: str
    has_sound: bool
    playable: bool
    start_s: float = 0.0

    def __post_init__(self) -> None:
        require(self.width > 0 and self.height > 0, "a size above 0", (self.width, self.height))
        require(
            self.duration_s is None or 0 <= self.duration_s < math.inf,
            "a duration of 0 seconds or more",
            self.duration_s,
        )
        require(self.fps is None or 0 < self.fps < math.inf, "frames per second above 0", self.fps)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        return build(cls, row)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        return cls.from_dict(json_object(text))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a video that was recorded from a live feed, and not handed in.

    `feed` is the feed's name, `began_at` when its first frame was captured (epoch seconds).
    `missed`: frames that were captured meanwhile and are not in it.
    """

    feed: str
    began_at: float
    missed: int
    ending: Ending

    def __post_init__(self) -> None:
        require(self.missed >= 0, "0 missed frames or more", self.missed)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        return build(cls, {**row, "ending": _member(Ending, row.get("ending"))})


@dataclass(frozen=True, slots=True)
class Video:
    """A recorded video that somebody handed in, or that was recorded from a live feed.

    `error` says in one sentence why it failed. `frames_total` is None until the video is planned.
    `updating`: edits of its people are not in the report yet.
    """

    id: str
    name: str
    created_at: float
    size_bytes: int
    options: VideoOptions
    footage: Footage
    status: VideoStatus = VideoStatus.QUEUED
    error: str = ""
    finished_at: float | None = None
    frames_total: int | None = None
    frames_done: int = 0
    updating: bool = False
    exports: Mapping[ExportKind, Export] = field(default_factory=dict)
    recorded: Recorded | None = None

    def __post_init__(self) -> None:
        require(bool(_VIDEO_ID.fullmatch(self.id)), "a video id of 16 hex digits", self.id)
        require(
            self.name == clean_name(self.name),
            f"a name of 1 to {MAX_NAME_LENGTH} printable characters, without a path",
            self.name,
        )
        require(self.size_bytes >= 0, "a size of 0 bytes or more", self.size_bytes)
        require(self.frames_done >= 0, "0 frames done or more", self.frames_done)

    @classmethod
    def new(
        cls,
        name: str,
        *,
        size_bytes: int,
        footage: Footage,
        options: VideoOptions | None = None,
        video_id: str | None = None,
        recorded: Recorded | None = None,
    ) -> Self:
        """A video of now. `name` may be anything a user's file is called: it is cleaned."""
        return cls(
            id=video_id or new_video_id(),
            name=clean_name(name),
            created_at=time.time(),
            size_bytes=size_bytes,
            options=options or VideoOptions(),
            footage=footage,
            recorded=recorded,
        )

    @property
    def progress(self) -> float:
        """From 0 to 1: 1 only when done."""
        if self.status is VideoStatus.DONE:
            return 1.0
        if not self.frames_total:
            return 0.0
        return min(0.99, self.frames_done / self.frames_total)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        try:
            row["options"] = VideoOptions.from_dict(row["options"])
            row["footage"] = Footage.from_dict(row["footage"])
            row["status"] = _member(VideoStatus, row["status"])
            row["exports"] = {
                _member(ExportKind, kind): Export.from_dict(export)
                for kind, export in row["exports"].items()
            }
            recorded = row.get("recorded")  # not there in records of older videos
            row["recorded"] = None if recorded is None else Recorded.from_dict(recorded)
        except (KeyError, AttributeError, TypeError) as error:
            raise InvalidRecord(f"expected the fields of a video, got {sorted(row)}") from error
        return build(cls, row)


@dataclass(frozen=True, slots=True)
class People:
    """What the user made of the people of a report: names, and numbers that are one person.

    Keys are the numbers of the report's people. `merged` maps a number to the one it belongs to;
    never to itself, and never in a chain: see `merge`. `revision` rises with every edit.
    """

    revision: int = 0
    names: Mapping[int, str] = field(default_factory=dict)
    merged: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.revision >= 0, "a revision from 0", self.revision)
        for person, name in self.names.items():
            require(person > 0, "a person's number from 1", person)
            require(
                0 < len(name) <= MAX_PERSON_NAME_LENGTH
                and name.isprintable()
                and bool(name.strip()),
                f"a name of 1 to {MAX_PERSON_NAME_LENGTH} printable characters",
                name,
            )
        for person, into in self.merged.items():
            require(
                person > 0 and into > 0 and person != into and into not in self.merged,
                "numbers that belong to another person, who belongs to nobody",
                dict(self.merged),
            )

    def person(self, track: int) -> int:
        """The number of the person that a track belongs to."""
        return self.merged.get(track, track)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        try:
            row["names"] = {int(person): str(name) for person, name in row["names"].items()}
            row["merged"] = {int(person): int(into) for person, into in row["merged"].items()}
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise InvalidRecord(f"expected numbers with names, got {sorted(row)}") from error
        return build(cls, row)


def folder_path(video_id: str) -> str:
    """All that is kept of a video lies in this folder of the media root."""
    return f"videos/{video_id}"


def source_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/source"


def video_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/video.json"


def plan_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/plan.json"


def segment_path(video_id: str, index: int) -> str:
    return f"{folder_path(video_id)}/segments/{index:05d}.json.gz"


def people_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/people.json"


def frames_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/frames.jsonl.gz"


def report_path(video_id: str, name: str) -> str:
    """A file of the report, such as ``summary.json`` or ``faces/1.jpg``."""
    return f"{folder_path(video_id)}/report/{name}"


def export_path(video_id: str, kind: ExportKind) -> str:
    return f"{folder_path(video_id)}/exports/{kind.file_name}"


def new_video_id() -> str:
    return secrets.token_hex(8)


def clean_name(text: str) -> str:
    """A name that can be shown and saved: no path, no control characters, no end of space.

    Characters that reverse or hide text (Unicode's format characters) go too, but for the joiner
    that emoji are made with.
    """
    base = re.split(r"[/\\]", text.strip())[-1]
    shown = "".join(
        character if character.isprintable() or character == _JOINER else " "
        for character in base
        if character.isspace() or character == _JOINER or unicodedata.category(character)[0] != "C"
    )
    words = " ".join(unicodedata.normalize("NFC", shown).split())
    name = words[:MAX_NAME_LENGTH].strip()
    return name if name.strip(f". {_JOINER}") else "video"


def _member(kind: type[E], value: object) -> E:
    try:
        return kind(str(value))
    except ValueError as error:
        raise InvalidRecord(f"expected one of {', '.join(kind)}, got {value!r}") from error
