"""Unfinished uploads on this machine's disk: what has arrived of each, and for how long it stays.

A part is a file below ``uploads`` in the data folder, named by a secret number and never by what
a user calls it. One that can be resumed has a note beside it (``.json``) that says what it will be;
how much of it has arrived is the file's own size, so nothing is lost when this process is killed.
Bytes go to the disk as they come, whatever the size: memory stays flat.

One request at a time holds a part. A client that comes back after its connection broke does not
wait for the old one to be found dead: the newcomer ends it.

Parts lie on the disk of the web process that took them. With several web processes on several
machines, send a client always to the same one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from shared.errors import ConfigError, NotFound
from shared.video import VideoOptions
from web.problem import Refused

EXPIRES_AFTER_S = 24 * 3600.0  # of an upload that nobody continues
_FORM_EXPIRES_AFTER_S = (
    900.0  # of a form's file, which nobody can continue: left by a killed process
)
_SWEEP_EVERY_S = 600.0
_TAKE_OVER_S = 5.0  # how long a newcomer waits for the one before it
_SPARE_BYTES = 64 * 1024 * 1024  # left free on the disk, so that what else is on it goes on
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_WAITING = 512  # parts on the disk that something is still to come of
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Part:
    """An upload that can be resumed: its whole length, what it is called, and what is wanted of it.

    `video` is the id of the video that it became; "" until then. `refusal` is why it became none.
    """

    id: str
    length: int
    name: str
    options: VideoOptions
    video: str = ""
    refusal: str = ""


class Hold:
    """One request's hold on a part; `ended` once another request asked for the part."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self.ended = False

    def end(self) -> None:
        """Make the holder see the end of what its client sends."""
        self.ended = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)


class Parts:
    """All parts of this process. Safe to share between threads; `close` ends its sweeping."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "uploads"
        self._held: dict[str, Hold] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_now_and_then, daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        self._closing.set()
        self._sweeper.join()

    def require_room(self, size_bytes: int) -> None:
        """Raise Refused (507) where the disk has no room for so much."""
        self._make_folder()
        if shutil.disk_usage(self._folder).free < size_bytes + _SPARE_BYTES:
            raise _full(self._folder)

    def new(self, length: int, name: str, options: VideoOptions) -> Part:
        """A part of which nothing has arrived yet; raises Refused (503) where too many wait."""
        self._make_folder()
        # Each costs next to nothing, but who announces for ever would fill the folder.
        if self._waiting() >= MAX_WAITING:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MAX_WAITING} uploads are unfinished already, and more are not kept: finish or "
                "delete some. Those that nobody continues go after a day.",
                retry_after_s=60,
            )
        part = Part(secrets.token_hex(16), length, name, options)
        self.put(part)
        return part

    def put(self, part: Part) -> None:
        """Keep what is known of a part."""
        draft = self._folder / f"{part.id}.draft"
        with _disk(self._folder):
            draft.write_text(json.dumps(asdict(part)))
            draft.replace(self._note(part.id))

    @contextlib.contextmanager
    def hold(self, part_id: str, connection: socket.socket | None) -> Iterator[tuple[Part, Hold]]:
        """One part for one request alone; `connection` is ended when another asks for it.

        Raises NotFound where there is no such part (any more), and Refused (423) where the one
        before does not let go: it is looking into a file that has arrived.
        """
        hold = Hold(connection)
        self._note_of(part_id)
        with self._changed:
            deadline = time.monotonic() + _TAKE_OVER_S
            while (holder := self._held.get(part_id)) is not None:
                holder.end()
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Refused(
                        HTTPStatus.LOCKED,
                        "Another request is working on this upload: try again in some seconds.",
                        retry_after_s=2,
                    )
            self._held[part_id] = hold
        try:
            yield self._note_of(part_id), hold
        finally:
            with self._changed:
                del self._held[part_id]
                self._changed.notify_all()

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A file for what cannot be resumed; gone at the end of the block, if not moved before."""
        self._make_folder()
        part_id = secrets.token_hex(16)
        with self._changed:
            self._held[part_id] = Hold(None)
        try:
            yield self.path(part_id)
        finally:
            with self._changed:
                del self._held[part_id]
            self.path(part_id).unlink(missing_ok=True)

    def path(self, part_id: str) -> Path:
        """The file of what has arrived of a part."""
        return self._folder / part_id

    def offset(self, part_id: str) -> int:
        """How many bytes of a part have arrived."""
        try:
            return self.path(part_id).stat().st_size
        except FileNotFoundError:
            return 0

    def expires_at(self, part_id: str) -> float:
        """When (epoch seconds) a part goes if nobody continues it."""
        times = [self._note(part_id).stat().st_mtime]
        with contextlib.suppress(FileNotFoundError):
            times.append(self.path(part_id).stat().st_mtime)
        return max(times) + EXPIRES_AFTER_S

    def refuse(self, part: Part, reason: str) -> None:
        """Forget what has arrived; whoever asks once more gets the same reason."""
        self.path(part.id).unlink(missing_ok=True)
        self.put(replace(part, refusal=reason))

    def remove(self, part_id: str) -> None:
        """Forget a part and all that has arrived of it."""
        for path in (self.path(part_id), self._note(part_id)):
            path.unlink(missing_ok=True)

    def sweep(self, now: float) -> None:
        """Remove what nobody continued for too long; `now` in epoch seconds."""
        with contextlib.suppress(FileNotFoundError):
            for path in list(self._folder.iterdir()):
                part_id = path.name.partition(".")[0]
                with self._changed, contextlib.suppress(FileNotFoundError):
                    if part_id in self._held:
                        continue
                    resumable = self._note(part_id).exists()
                    left = EXPIRES_AFTER_S if resumable else _FORM_EXPIRES_AFTER_S
                    newest = max(
                        (
                            each.stat().st_mtime
                            for each in (path, self._note(part_id), self.path(part_id))
                            if each.exists()
                        ),
                        default=now,  # another web process was faster
                    )
                    if newest + left < now:
                        path.unlink()

    def _waiting(self) -> int:
        """How many parts something is still to come of; at most as many as there are notes."""
        notes = list(self._folder.glob("*.json"))
        if len(notes) < MAX_WAITING:
            return len(notes)
        waiting = 0
        for note in notes:
            with contextlib.suppress(NotFound):
                part = self._note_of(note.stem)
                waiting += not (part.video or part.refusal)
        return waiting

    def _sweep_now_and_then(self) -> None:
        while True:
            self.sweep(time.time())
            if self._closing.wait(_SWEEP_EVERY_S):
                return

    def _note(self, part_id: str) -> Path:
        return self._folder / f"{part_id}.json"

    def _note_of(self, part_id: str) -> Part:
        unknown = NotFound(
            "There is no such upload (any more): unfinished ones are kept for a day. Send it anew."
        )
        if not _ID.fullmatch(part_id):
            raise unknown
        try:
            row: dict[str, Any] = json.loads(self._note(part_id).read_text())
        except FileNotFoundError:
            raise unknown from None
        return Part(**{**row, "options": VideoOptions.from_dict(row["options"])})

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The folder for uploads {self._folder} cannot be made ({error.strerror}): "
                "give this user the right to write there, or set MOODLINE_DATA_DIR."
            ) from error


def append(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `chunks` to the end of a file as they come; what came before an error stays.

    Raises Refused (507) where the disk is full, and whatever `chunks` raise.
    """
    with _disk(path.parent), path.open("ab", buffering=0) as file:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _full(folder) from error
        raise


def _full(folder: Path) -> Refused:
    return Refused(
        HTTPStatus.INSUFFICIENT_STORAGE,
        f"The server's disk has no room for this file (in {folder}): delete videos that are done "
        "with, or make room there, and send it again.",
        retry_after_s=60,
    )
