"""The door for videos: a file that has arrived becomes a video, or is refused with the reason.

What a file is called and what its sender says it is count for nothing. A child process with limits
of its own opens it and decodes its first picture (`workers.probe`); it gets neither this
process's settings nor its secrets, and a wall clock. A file that makes the child run away, crash or
fall silent is refused like any other that is no video.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from shared.config import PROJECT_DIR
from shared.errors import InvalidRecord, MoodlineError, NotFound
from shared.video import Footage, Video, VideoOptions, folder_path, source_path
from shared.videos import Videos
from web.problem import BadField, Refused

_PROBE_S = 30.0  # on a busy machine; the child's own limit is of processor time
_LONGEST_WAIT_S = 120.0
_MAX_PROBES = 2  # at once; each is a process that decodes
_MAX_REASON_LENGTH = 500
# All that a child needs of this process's surroundings.
_SURROUNDINGS = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Counts:
    """Files that became videos, with their bytes, and files that were refused for what they are."""

    taken: int
    refused: int
    taken_bytes: int


class Intake:
    """Takes files in. Safe to share between threads; `close` ends what it runs."""

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._turns = threading.BoundedSemaphore(_MAX_PROBES)
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._taken, self._refused, self._taken_bytes = 0, 0, 0
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()

    @property
    def counts(self) -> Counts:
        """What became of the files so far."""
        with self._lock:
            return Counts(self._taken, self._refused, self._taken_bytes)

    def accept(self, path: Path, name: str, options: VideoOptions) -> Video:
        """Make a video of a file, which moves into the storage; its analysis begins.

        Raises Refused with the reason where it is none, BadField where the options do not fit it,
        and MediaError or BusError where it cannot be kept; the file is then mostly where it was.
        """
        try:
            video = self._accept(path, name, options)
        except Refused as refusal:
            with self._lock:
                self._refused += refusal.retry_after_s is None
            raise
        with self._lock:
            self._taken += 1
            self._taken_bytes += video.size_bytes
        return video

    def _accept(self, path: Path, name: str, options: VideoOptions) -> Video:
        size_bytes = path.stat().st_size if path.exists() else 0
        if size_bytes == 0:
            raise _no_video("The file is empty: choose a video.")
        footage = self._probe(path)
        _require_fit(options, footage)
        video = Video.new(name, size_bytes=size_bytes, footage=footage, options=options)
        self._require_redis(video.id)
        try:
            self._videos.media.put_file(source_path(video.id), path)
            self._videos.add(video)
        except MoodlineError:
            with contextlib.suppress(MoodlineError):
                self._videos.delete(video.id)
            with contextlib.suppress(MoodlineError):
                self._videos.media.delete(folder_path(video.id))
            raise
        return video

    def _require_redis(self, new_id: str) -> None:
        """Raise BusError while the file has not moved yet: then it need not be sent once more."""
        with contextlib.suppress(NotFound):
            self._videos.one(new_id)

    def _probe(self, path: Path) -> Footage:
        if not self._turns.acquire(timeout=_LONGEST_WAIT_S):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many files wait to be looked into: send this one again in a minute.",
                retry_after_s=60,
            )
        try:
            answer = self._ask_child(path)
        finally:
            self._turns.release()
        error = answer.get("error")
        if isinstance(error, str) and error:
            raise _no_video(error[:_MAX_REASON_LENGTH])
        footage = answer.get("footage")
        try:
            return Footage.from_dict(footage if isinstance(footage, dict) else {})
        except InvalidRecord as broken:
            raise _no_video(
                "The file is so damaged that it cannot be opened: send another copy of it."
            ) from broken

    def _ask_child(self, path: Path) -> dict[str, object]:
        """What the child says; nothing where it ended without a word."""
        with self._lock:
            if self._closed:
                raise Refused(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Moodline is ending: send the file again when it is back.",
                    retry_after_s=10,
                )
            child = subprocess.Popen(
                [sys.executable, "-m", "workers.probe", str(path.absolute())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=PROJECT_DIR,
                env={name: os.environ[name] for name in _SURROUNDINGS if name in os.environ},
                start_new_session=True,  # Ctrl-C is for this process to pass on
            )
            self._children.add(child)
        try:
            said, _ = child.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired as late:
            raise _no_video(
                f"The file could not be read within {_PROBE_S:g} s: it is damaged or far too "
                "complex. Send another copy, or convert it to MP4 (H.264) first."
            ) from late
        finally:
            child.kill()
            child.communicate()
            with self._lock:
                self._children.discard(child)
        try:
            answer = json.loads(said)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}


def _require_fit(options: VideoOptions, footage: Footage) -> None:
    if footage.duration_s is not None and options.start_s >= footage.duration_s:
        raise BadField(
            "start",
            f"'start' lies behind the end of this video, which is {footage.duration_s:.1f} s long.",
        )


def _no_video(reason: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, reason, field="file")
