"""The records that cross process borders, and their wire form.

Frozen, checked when built, JSON on the wire (pictures as raw JPEG beside it). Times are epoch
seconds, boxes are ``[x, y, width, height]`` in pixels of the frame they belong to, scores are
probabilities that sum to 1. Contract keys (`box`, `scores`, …) are what clients see, so they stay.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from shared.errors import Conflict
from shared.records import build, json_object, require
from shared.source import Source, SourceKind

_FEED_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
MAX_FPS = 60.0
MIN_WIDTH, MAX_WIDTH = 64, 3840
MAX_NAME_LENGTH = 80
GLIMPSES = "glimpses"
"""The part of a tracker's state that shows something: it is kept no longer than pictures are."""


class FeedState(StrEnum):
    """What a feed is doing, as the page and the API say it."""

    STARTING = "starting"
    LIVE = "live"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    ERROR = "error"
    DISABLED = "disabled"  # on purpose, by a person: nothing is captured


class Trouble(StrEnum):
    """The kind of a feed's error: for programs, and for pages in other languages than English."""

    NO_CAPTURE = "no_capture"  # no process captures
    CAPTURE_FAILED = "capture_failed"  # the feed's process ended, and starts again
    HUNG = "hung"
    ENDED = "ended"
    NO_PICTURE = "no_picture"  # nothing comes, or nothing that is one
    BROWSER_SILENT = "browser_silent"
    NO_WEBCAM = "no_webcam"
    WEBCAM_DENIED = "webcam_denied"  # to this user
    WEBCAM_BUSY = "webcam_busy"
    WEBCAM_GONE = "webcam_gone"
    NO_FILE = "no_file"
    FILE_DENIED = "file_denied"
    IS_FOLDER = "is_folder"  # and a file was named
    NO_VIDEO = "no_video"
    NO_IMAGE = "no_image"  # in a folder
    FOLDER_UNREADABLE = "folder_unreadable"
    LOGIN = "login"  # user and password are missing or wrong
    DENIED = "denied"  # to this user and password
    CODEC = "codec"
    ADDRESS_KIND = "address_kind"
    NO_PATH = "no_path"  # behind the host
    REFUSED = "refused"  # the connection
    BROKEN_OFF = "broken_off"
    CLOSED = "closed"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    TOO_MANY = "too_many"  # connections
    BAD_REQUEST = "bad_request"
    CAMERA_FAILED = "camera_failed"


class Drop(StrEnum):
    """Why a live frame was not analysed."""

    OVERRUN = "overrun"  # newer frames were waiting; the newest win
    STALE = "stale"  # older than the staleness budget when its turn came
    CORRUPT = "corrupt"  # could not be decoded or analysed; set aside with its reason
    TOO_FAST = "too_fast"  # a browser sent more frames a second than its feed takes


class Degraded(StrEnum):
    """What a worker leaves out of live frames while more come than it can analyse; from little on.

    Each holds what those before it hold.
    """

    NO = ""
    DETECT_LESS = "detect_less"  # whole pictures are searched less often
    SMALLER = "smaller"  # they are searched at half the width: small faces are missed
    SKIP = "skip"  # of each feed only the newest frame is taken


@dataclass(frozen=True, slots=True)
class Feed:
    """A camera, stream, file or folder that somebody wants watched.

    `fps` and `width` bound what is captured (frames per second, pixels). A `transient` feed was
    named on a command line and ends with that run, or is a browser's camera and ends with that;
    all others survive restarts. `loop` starts a file or folder again at its end. What is not
    `enabled` is kept and not captured. Feeds are listed by rising `place`.
    """

    id: str
    name: str
    source: Source
    fps: float
    width: int
    loop: bool = True
    transient: bool = False
    created_at: float = 0.0
    enabled: bool = True
    place: float = 0.0

    def __post_init__(self) -> None:
        require(bool(_FEED_ID.fullmatch(self.id)), "a feed id of a-z, 0-9 and -", self.id)
        require(
            0 < len(self.name) <= MAX_NAME_LENGTH and self.name.isprintable(),
            f"a name of 1 to {MAX_NAME_LENGTH} printable characters",
            self.name,
        )
        require(0 < self.fps <= MAX_FPS, f"frames per second up to {MAX_FPS:g}", self.fps)
        require(
            MIN_WIDTH <= self.width <= MAX_WIDTH,
            f"a width of {MIN_WIDTH} to {MAX_WIDTH} pixels",
            self.width,
        )

    @classmethod
    def new(
        cls,
        source: Source,
        *,
        fps: float,
        width: int,
        name: str | None = None,
        loop: bool = True,
        transient: bool = False,
        enabled: bool = True,
    ) -> Self:
        """A feed with an id of its own, named after its source where no name is given."""
        now = time.time()
        return cls(
            id=secrets.token_hex(4),
            name=(name or "").strip() or source.default_name[:MAX_NAME_LENGTH],
            source=source,
            fps=fps,
            width=width,
            loop=loop,
            transient=transient,
            created_at=now,
            enabled=enabled,
            place=now,  # behind all that are there
        )

    def changed(self, **values: Any) -> Self:
        """This feed with other values of its fields.

        It is kept from now on, also if it was named on a command line: somebody cares for it. Of
        a browser's camera all but the name is its page's business: raises Conflict.
        """
        browser = self.source.kind is SourceKind.BROWSER
        if browser and not values.keys() <= {"name"}:
            raise Conflict(
                "This is the camera of somebody's browser, and only its name can be changed: "
                "stop it on the page that it was started on."
            )
        return replace(self, **values, transient=browser)

    def to_json(self) -> str:
        """The stored form: holds the password of the source, so it never leaves Redis and disk."""
        return json.dumps(
            {
                "id": self.id,
                "name": self.name,
                "source": self.source.text,
                "kind": self.source.kind,
                "fps": self.fps,
                "width": self.width,
                "loop": self.loop,
                "transient": self.transient,
                "created_at": self.created_at,
                "enabled": self.enabled,
                "place": self.place,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        row.setdefault("place", row.get("created_at", 0.0))  # of a time when age was the order
        browser = row.pop("kind", None) == SourceKind.BROWSER
        source = Source.browser() if browser else Source.parse(str(row.pop("source", "")))
        row.pop("source", None)
        return build(cls, {**row, "source": source})


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured picture on its way to a worker.

    `id` is its entry in the feed's stream (set by Redis), `seq` rises by one a frame; a gap in
    `seq` is a frame that was dropped.
    """

    feed: str
    id: str
    seq: int
    captured_at: float
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Face:
    """One face in one frame.

    `emotion` is the likeliest label even where `unsure`: then its confidence is below what the
    model's card asks of an answer, and whoever shows it says so.
    """

    track: int
    box_xywh: tuple[int, int, int, int]
    emotion: str
    confidence: float
    scores: Mapping[str, float]
    unsure: bool = False

    def __post_init__(self) -> None:
        require(self.track > 0, "a track number from 1", self.track)
        require(
            len(self.box_xywh) == 4 and self.box_xywh[2] > 0 and self.box_xywh[3] > 0,
            "a box [x, y, width, height] with an area",
            self.box_xywh,
        )
        total = math.fsum(self.scores.values())
        require(abs(total - 1.0) < 1e-3, "scores that sum to 1", total)

    def to_dict(self) -> dict[str, Any]:
        return {
            "track": self.track,
            "box": list(self.box_xywh),
            "emotion": self.emotion,
            "confidence": self.confidence,
            "scores": dict(self.scores),
            "unsure": self.unsure,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        values = dict(row)
        values["box_xywh"] = tuple(values.pop("box", ()))
        return build(cls, values)


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What the workers found in one frame; `stages_ms` tells where its time went."""

    feed: str
    seq: int
    captured_at: float
    analysed_at: float
    width: int
    height: int
    faces: tuple[Face, ...]
    stages_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.width > 0 and self.height > 0, "a size above 0", (self.width, self.height))

    @property
    def latency_ms(self) -> float:
        """Capture to result, in milliseconds."""
        return (self.analysed_at - self.captured_at) * 1000.0

    def to_dict(self) -> dict[str, Any]:
        """The `meta` of the Socket.IO contract."""
        return {
            "feed": self.feed,
            "seq": self.seq,
            "captured_at": self.captured_at,
            "analysed_at": self.analysed_at,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "stages_ms": dict(self.stages_ms),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        row["faces"] = tuple(Face.from_dict(face) for face in row.get("faces", ()))
        return build(cls, row)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to analyse a feed's pending frames, oldest first, while its lease lasts.

    `waited_s` is how long the oldest had been stored when it was claimed.
    """

    feed: str
    fence: int
    state: dict[str, Any] | None
    frames: tuple[Frame, ...]
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one claimed frame: a result, or the reason why there is none."""

    frame: Frame
    result: FrameResult | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What a capture process says of its feed, about once a second.

    `trouble` is the kind of the error, "" where it has none.
    `too_fast` counts what a browser's camera sent and the feed did not take.
    """

    state: FeedState
    error: str = ""
    fps_in: float = 0.0
    reconnects: int = 0
    too_fast: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A source that somebody wants to see the first picture of before it becomes a feed."""

    id: str
    source: Source


@dataclass(frozen=True, slots=True)
class FirstPicture:
    """What a trial gave: a JPEG, or in `problem` why there is none, free of credentials.

    `trouble` is the kind of the problem, "" where it has none.
    `feed` is the feed that has the source open already and whose newest picture this is, if so.
    """

    jpeg: bytes = b""
    problem: str = ""
    feed: str = ""
    trouble: str = ""

    def __post_init__(self) -> None:
        require(bool(self.jpeg) != bool(self.problem), "a picture or a problem", self.problem)


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """All that is known of a running feed; counters run since the feed or Redis started.

    `aside` is why the last frame that could not be analysed could not ("": there was none),
    `trouble` the kind of the error ("": none, or one that a newer version added).
    """

    state: FeedState
    error: str
    fps_in: float
    reconnects: int
    captured: int
    analysed: int
    drops: Mapping[Drop, int]
    fps_analysed: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    viewers: int
    aside: str = ""
    degraded: Degraded = Degraded.NO
    trouble: str = ""

    @property
    def dropped(self) -> int:
        return sum(self.drops.values())


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """The smoothed scores of one track at one moment (`t`: captured_at, epoch seconds).

    It may be the mean of several `frames`; `unsure` is the share of them in which the model was.
    """

    t: float
    track: int
    scores: tuple[float, ...]
    frames: int = 1
    unsure: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The scores of all faces of a feed over a while, and what is needed to read them.

    `labels` is the order of each point's scores; a frame whose largest score is below
    `unsure_below` is *unsure* (0: the model never is).
    """

    labels: tuple[str, ...]
    unsure_below: float
    points: tuple[TimelinePoint, ...]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker has done since it started, for metrics and the ready check.

    `busy_seconds`: the time in which it had something to do. `delays`: live frames by their time
    from capture to result, in seconds: how many were no slower than each bound (``"inf"``: all),
    but slower than the one before; `delay_seconds` is the sum of all.
    """

    name: str
    model: str
    labels: tuple[str, ...]
    started_at: float
    frames: int = 0
    batches: int = 0
    faces: int = 0
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    busy_seconds: float = 0.0
    delays: Mapping[str, int] = field(default_factory=dict)
    delay_seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(
            {
                "name": self.name,
                "model": self.model,
                "labels": self.labels,
                "started_at": self.started_at,
                "frames": self.frames,
                "batches": self.batches,
                "faces": self.faces,
                "stage_seconds": dict(self.stage_seconds),
                "busy_seconds": self.busy_seconds,
                "delays": dict(self.delays),
                "delay_seconds": self.delay_seconds,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a report; what a newer version of Moodline adds to it is passed over."""
        known = {each.name for each in fields(cls)}
        row = {name: value for name, value in json_object(text).items() if name in known}
        row["labels"] = tuple(row.get("labels", ()))
        return build(cls, row)
