"""Keep every wanted recording recorded: one child process each, and none lost.

A part of the capture process. What is recorded lies in a folder of its own below the data folder,
its `Draft`, until it is a video in the storage; the folder is there before the recording begins and
goes when it is saved. So whatever is killed in between, the next start of capture finds the folder
and starts a process for it, which goes on recording where that is still wanted, and else saves what
there is. A file lock lets one process at a time work on a folder.

Several capture processes, on several machines, share the recordings: the first to take one has it.

Not here: what such a process does (`workers.recorder`); nothing here imports OpenCV or FFmpeg.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import structlog

from shared.bus import Bus
from shared.config import Settings
from shared.errors import MoodlineError
from shared.recording_bus import RecordingBus
from shared.recordings import Ending, Recording, Saved
from shared.records import build, json_object
from shared.schema import Feed
from shared.video import new_video_id

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 2.0  # for folders that nobody works on
_STOP_GRACE_S = 2.0
_STEADY_S = 10.0  # a process that ran for so long is started again at once
_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Draft:
    """A recording on this machine's disk: `about.json` in its folder.

    `video` is the id that its video will have, so that it becomes one once, however often that is
    begun. `feed_name` and `fps` (frames per second) are the feed's when it was asked for,
    `asked_at` is epoch seconds, `name` what the video is to be called ("": made of the feed's and
    the time). `software` tells the encoder that writes its pictures, "" before there can be any;
    `ending` is None while it goes on.
    """

    id: str
    video: str
    feed: str
    feed_name: str
    name: str
    fps: float
    asked_at: float
    software: str = ""
    ending: Ending | None = None

    @classmethod
    def from_json(cls, text: str) -> Self:
        row = json_object(text)
        ending = row.get("ending")
        return build(cls, {**row, "ending": None if ending is None else Ending(ending)})


class Drafts:
    """The folders of recordings on this machine, readable by this user alone."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "recordings"

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.data_dir)

    def folder(self, recording_id: str) -> Path:
        return self._root / recording_id

    def ids(self) -> list[str]:
        """The recordings that are not saved yet."""
        found = (path.parent.name for path in self._root.glob("*/about.json"))
        return sorted(name for name in found if not name.startswith("."))

    def create(self, draft: Draft) -> None:
        """Make the folder of a new recording; raises OSError where that cannot be."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(dir=self._root, prefix="."))  # this user's alone
        try:
            _write(folder, draft)
            folder.rename(self.folder(draft.id))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def read(self, recording_id: str) -> Draft:
        """Raises OSError where there is none, InvalidRecord where it cannot be read."""
        return Draft.from_json((self.folder(recording_id) / "about.json").read_text("utf-8"))

    def write(self, draft: Draft) -> None:
        """Replace what is said of a recording, as a whole."""
        _write(self.folder(draft.id), draft)

    def remove(self, recording_id: str) -> None:
        """The recording is saved. What says what it is goes first: nobody then takes it up."""
        folder = self.folder(recording_id)
        (folder / "about.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def held(self, recording_id: str) -> Iterator[bool]:
        """Be the only one who works on a folder; False where somebody else does, or none is."""
        try:
            file = (self.folder(recording_id) / "lock").open("w")
        except OSError:
            yield False
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _write(folder: Path, draft: Draft) -> None:
    handle, name = tempfile.mkstemp(dir=folder, prefix=".about.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(draft), file)
    Path(name).replace(folder / "about.json")


def owner_of(settings: Settings) -> str:
    """Who records, in the leases: this machine and folder, whichever process it is."""
    return f"{socket.gethostname()}:{settings.data_dir.absolute()}"


class _Child:
    """The process of one recording, and when to start it again."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._start_at = 0.0
        self._failures = 0

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start_if_due(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        now = time.monotonic()
        if self._process is None and now >= self._start_at:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
            self._started_at = now

    def reap(self) -> None:
        """Notice the end of the process."""
        if self._process is None or self._process.poll() is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        code, self._process = self._process.returncode, None
        now = time.monotonic()
        if now - self._started_at > _STEADY_S:
            self._failures = 0
        self._start_at = now + _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        if code:
            _log.warning("a recording's process ended", exit_code=code)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Recorders:
    """Follows what is to be recorded; one turn looks at everything once."""

    def __init__(
        self,
        bus: Bus,
        recordings: RecordingBus,
        drafts: Drafts,
        *,
        owner: str,
        command: Callable[[str], Sequence[str]],
        environment: Mapping[str, str],
    ) -> None:
        self._bus = bus
        self._recordings = recordings
        self._drafts = drafts
        self._owner = owner
        self._command = command
        self._environment = environment
        self._children: dict[str, _Child] = {}
        self._look_at = self._kill_at = 0.0
        self._in_trouble = ""

    def turn(self) -> None:
        """Begin what is asked for, and look after what goes on."""
        trouble = ""
        try:
            self._take_wanted()
        except (MoodlineError, OSError) as error:
            trouble = str(error)
        if trouble and trouble != self._in_trouble:
            _log.warning("recordings cannot begin", error=trouble)
        self._in_trouble = trouble
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            for recording_id in self._drafts.ids():
                self._children.setdefault(recording_id, _Child())
        for recording_id, child in list(self._children.items()):
            child.reap()
            if not child.runs and not (self._drafts.folder(recording_id) / "about.json").exists():
                del self._children[recording_id]
                continue
            child.start_if_due(self._command(recording_id), self._environment)

    def begin_to_stop(self) -> None:
        """Tell all children to end their recordings and save them, and do not wait."""
        self._kill_at = time.monotonic() + _STOP_GRACE_S
        for child in self._children.values():
            child.stop()

    def stop(self) -> None:
        """End all children, two seconds after they were told to: the next start saves the rest."""
        while time.monotonic() < self._kill_at and any(
            child.runs for child in self._children.values()
        ):
            for child in self._children.values():
                child.reap()
            time.sleep(0.02)
        for child in self._children.values():
            child.kill()
        self._children.clear()

    def _take_wanted(self) -> None:
        feeds = {feed.id: feed for feed in self._bus.feeds()}
        for feed_id, (recording, _) in self._recordings.seen(list(feeds)).items():
            if recording is None or recording.ending is not None:
                continue
            if recording.id in self._children or self._drafts.folder(recording.id).exists():
                continue
            if self._recordings.own(feed_id, recording.id, self._owner):
                self._begin(feeds[feed_id], recording)

    def _begin(self, feed: Feed, recording: Recording) -> None:
        draft = Draft(
            id=recording.id,
            video=new_video_id(),
            feed=feed.id,
            feed_name=feed.name,
            name=recording.name,
            fps=feed.fps,
            asked_at=recording.asked_at,
        )
        try:
            self._drafts.create(draft)
        except OSError:
            nothing = Saved("", recording.name, Ending.DISK, 0, 0)
            self._recordings.end(feed.id, recording.id, nothing, self._owner)
            raise
        _log.info("a feed is being recorded", feed=feed.id, recording=recording.id)
        self._children[recording.id] = _Child()


def recorders(
    settings: Settings, bus: Bus, *, command: Callable[[str], Sequence[str]]
) -> Recorders:
    """The recordings of one capture process, whose children get its settings and `bus`'s Redis."""
    return Recorders(
        bus,
        RecordingBus(bus.url),
        Drafts.of(settings),
        owner=owner_of(settings),
        command=command,
        environment={**os.environ, "REDIS_URL": bus.url},
    )
