"""The records of recording a live feed, as Redis holds them and as everybody sees them.

A recording is asked for, recorded by one process somewhere (`workers.recorder`), ended for one of
the reasons of `Ending`, saved, and then a video like any other. Where a second machine had to go on
with it, the first one's part is a video of its own.

Not here: where they are kept (`shared.recording_bus`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

from shared.records import build, json_object


class Ending(StrEnum):
    """Why a recording is over."""

    STOPPED = "stopped"  # somebody asked for it
    REMOVED = "removed"  # its feed was, or the browser's camera was stopped
    DISABLED = "disabled"  # its feed was
    SOURCE_ENDED = "source_ended"
    LONGEST = "longest"  # it was as long as a recording may be
    DISK = "disk"  # the disk of the machine that recorded was nearly full
    SHUT_DOWN = "shut_down"  # Moodline was ended
    INTERRUPTED = "interrupted"  # power cut or crash, and nobody went on in time


class RecordingState(StrEnum):
    """What a recording is doing, as the page and the API say it."""

    STARTING = "starting"  # asked for; no picture yet
    RECORDING = "recording"
    WAITING = "waiting"  # nobody records: its process has died, and another one is to go on
    SAVING = "saving"  # over; it becomes a video


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that goes on, or is being saved.

    `asked_at` is when it was asked for, `ended_at` when its end was (both epoch seconds by Redis's
    clock, which also tells when a frame came in): a frame between the two is recorded. `since` is
    when its first frame was captured. `frames` are recorded; `missed` came in between and are not.
    """

    id: str
    name: str
    asked_at: float
    state: RecordingState = RecordingState.STARTING
    since: float | None = None
    frames: int = 0
    missed: int = 0
    ending: Ending | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of the last recording of a feed: `video` is its id, "" where nothing came."""

    video: str
    name: str
    ending: Ending
    frames: int
    missed: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        return build(cls, {**row, "ending": Ending(row["ending"])})
