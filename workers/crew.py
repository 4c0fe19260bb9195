"""The processes that analyse the segments of one video, for as long as a command runs.

A `Crew` hands segments out to whoever is done with one, and tells when a segment is there. Whoever
has begun at a key frame goes on with what follows it, because then nothing is decoded twice; when
no key frame is left to begin at, who is idle takes half of what somebody else has before him. What
is found goes into the storage; messages are numbers.

The libraries are loaded in this process, once (`load_to_fork`), and then it forks into the workers
(`workers.forks`: where that is safe): loading them takes as long as half a second of a video does.
Elsewhere each worker is started anew and loads them for itself.

Promises: the workers end with this process, however it ends (each sees its connection close), and
the folder that they worked in then goes with them, also when they were dismissed before: the first
one stays for that, and computes nothing.

Not here: what is found in a segment (`workers.video`), and what comes of all (`workers.analysis`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from shared import PROJECT_DIR
from shared.errors import MoodlineError
from shared.media import Media
from shared.video import plan_path, segment_path, source_path
from workers import forks

if TYPE_CHECKING:
    from shared.config import Settings
    from workers.footage import Plan, Segment


_NEEDED = ("workers.pipeline", "workers.video")
_TELL_EVERY_FRAMES = 20  # what is told wakes the other side, which takes a worker's processor


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """The settings that a pipeline needs: to read them all takes a worker a tenth of a second."""

    model: Path
    backend: str
    yunet_model: Path | None
    threads: int
    smoothing_s: float
    search_every_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(*(getattr(settings, name) for name in cls.__slots__))


@dataclass(slots=True)
class _Member:
    number: int
    process: BaseProcess | subprocess.Popen[bytes]
    connection: Connection

    def end(self) -> int | None:
        """Wait for the process to end; return its exit status."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.wait()
        self.process.join()
        return self.process.exitcode


class Shares:
    """Who does which segment: each worker what follows a key frame, the last ones half of that."""

    def __init__(self, segments: Sequence[Segment], workers: int) -> None:
        self._waiting = deque(
            deque(segment.index for segment in run)
            for _, run in groupby(segments, key=lambda segment: segment.starts[0])
        )
        self._ahead: list[deque[int]] = [deque() for _ in range(workers)]

    def next_for(self, worker: int) -> int | None:
        """The segment to do next; None where nothing is left that nobody has begun."""
        if not self._ahead[worker]:
            self._ahead[worker] = self._waiting.popleft() if self._waiting else self._half()
        return self._ahead[worker].popleft() if self._ahead[worker] else None

    def _half(self) -> deque[int]:
        """The later half of what the one has before him who has most."""
        longest = max(self._ahead, key=len)
        half = [longest.pop() for _ in range((len(longest) + 1) // 2)]
        return deque(reversed(half))


class Crew:
    """`count` workers, whose files lie in `folder`, a storage; they end with the block.

    The folder may be made after them, so that they tidy up whenever this process is killed. Raises
    MoodlineError where they cannot all be started.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._members: list[_Member] = []
        forked = forks.are_safe()
        try:
            with forks.signals_kept_back():
                for number in range(count):
                    self._members.append(self._begun(number, folder, forked=forked))
        except BaseException:
            self.__exit__()
            raise
        self._frames_done: dict[int, int] = {}
        self._frames_total = 0
        self._done: set[int] = set()
        self._progress: Callable[[int, int], None]
        self._shares: Shares

    def _begun(self, number: int, folder: Path, *, forked: bool) -> _Member:
        ours, theirs = Pipe()
        not_its = [ours, *(member.connection for member in self._members)]
        with theirs:
            process = (
                forks.begin(_work, folder, theirs, not_its) if forked else _anew(folder, theirs)
            )
        return _Member(number, process, ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.process.terminate()
            member.connection.close()
        for member in self._members:
            member.end()

    def dismiss(self) -> None:
        """End the workers, whatever they do: nothing that they hold must be put away.

        The first one stays, idle, because it watches over the folder.
        """
        for member in self._members[1:]:
            member.process.terminate()

    def prepare(self, settings: PipelineSettings) -> None:
        """Have the models loaded; raises MoodlineError where a process has ended."""
        for member in self._members:
            self._send(member, settings)

    def begin(self, video_id: str, plan: Plan, progress: Callable[[int, int], None]) -> None:
        """Hand out the first segments; raises MoodlineError where a process has ended."""
        self._frames_total = plan.frames_total
        self._progress = progress
        self._shares = Shares(plan.segments, len(self._members))
        for member in self._members:
            self._send(member, video_id)
            self._hand_out(member)

    def wait_for(self, segment: Segment) -> bool:
        """Wait until that segment is done, and keep all busy meanwhile."""
        while self._take_in(0):  # all there is: somebody may have been idle for a while
            pass
        while segment.index not in self._done:
            self._take_in(None)
        return True

    def _take_in(self, timeout_s: float | None) -> bool:
        """Take a message of each process that has one; False where none had."""
        connections = {member.connection: member for member in self._members}
        ready = wait(list(connections), timeout_s)
        for connection in ready:
            member = connections[connection]  # type: ignore[index]
            try:
                message = member.connection.recv()
            except (EOFError, OSError) as error:
                raise self._death(member) from error
            if isinstance(message, MoodlineError):
                raise message
            segment, frames, is_done = message
            self._frames_done[segment] = frames
            if is_done:
                self._done.add(segment)
                self._hand_out(member)
            self._progress(sum(self._frames_done.values()), self._frames_total)
        return bool(ready)

    def _hand_out(self, member: _Member) -> None:
        segment = self._shares.next_for(member.number)
        if segment is not None:
            self._send(member, segment)

    def _send(self, member: _Member, message: Any) -> None:
        try:
            member.connection.send(message)
        except OSError as error:
            raise self._death(member) from error

    def _death(self, member: _Member) -> MoodlineError:
        return MoodlineError(
            f"A worker process ended in the middle of the video (status {member.end()}): "
            "if memory is short, give fewer --workers."
        )


def _anew(folder: Path, connection: Connection) -> subprocess.Popen[bytes]:
    """Start a worker that shares nothing with this process but its end of a connection."""
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(folder), str(connection.fileno())],
            pass_fds=[connection.fileno()],
            stdin=subprocess.DEVNULL,
            # Whatever folder the user is in: Moodline's own packages and no others of their names.
            env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends them
        )
    except OSError as error:
        raise forks.no_process(error) from error


def load_to_fork(*modules: str) -> None:
    """Load what workers need, or these of it, so that they are forked with it.

    Nothing where they cannot be.
    """
    if forks.are_safe():
        with forks.signals_kept_back():
            _load(*modules)


def _load(*modules: str) -> None:
    gc.disable()  # what is loaded stays, and is not to be looked through
    for module in modules or _NEEDED:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()


def _work(folder: Path, connection: Connection, not_its: Iterable[Connection] = ()) -> None:
    """Be the worker at this end of a connection, until the other end is gone."""
    for other in not_its:
        other.close()
    _load()
    _serve(folder, connection)
    shutil.rmtree(folder, ignore_errors=True)  # nobody is left who would
    os._exit(0)  # there is nothing to put away, and taking all apart takes time


def _serve(folder: Path, connection: Connection) -> None:
    """Analyse the segments that come in, until the other side is gone."""
    import cv2  # noqa: PLC0415

    from workers.footage import Plan, Reader  # noqa: PLC0415
    from workers.pipeline import load_pipeline  # noqa: PLC0415
    from workers.video import analyse_segment  # noqa: PLC0415

    media = Media(str(folder))
    with contextlib.suppress(EOFError, OSError):
        try:
            settings: PipelineSettings = connection.recv()
            cv2.setNumThreads(settings.threads)
            pipeline = load_pipeline(settings)
            video_id = connection.recv()
            plan = Plan.from_json(media.read(plan_path(video_id)))
            with media.open(source_path(video_id)) as file, Reader(file, plan) as reader:
                while True:
                    segment = plan.segments[connection.recv()]
                    frames = told = 0

                    def between(done: int, index: int = segment.index) -> None:
                        nonlocal frames, told
                        frames = max(frames, done)
                        if frames - told >= _TELL_EVERY_FRAMES:
                            told = frames
                            connection.send((index, frames, False))

                    found = analyse_segment(pipeline, reader, segment, between=between)
                    media.write(segment_path(video_id, segment.index), found)
                    connection.send((segment.index, frames, True))
        except MoodlineError as error:
            connection.send(error)
            while True:  # until the other side ends this process, whatever it still hands out
                connection.recv()


if __name__ == "__main__":
    _work(Path(sys.argv[1]), Connection(int(sys.argv[2])))
