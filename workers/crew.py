"""The processes that analyse the segments of one video, for as long as a command runs.

A `Crew` hands segments out to whoever is done with one, and tells when a segment is there. Whoever
has begun at a key frame goes on with what follows it, because then nothing is decoded twice; when
no key frame is left to begin at, who is idle takes half of what somebody else has before him. What
is found goes into the storage; messages are numbers.

One process is started anew and loads the libraries, then it forks into the workers, before anything
in it has computed: neither LiteRT nor OpenCV survives a fork in the middle of its work. So they are
loaded once (which takes as long as half a second of a video does) and lie in memory once. A single
worker is not forked; nor are any where the system's own libraries do not bear it (macOS): there
each is started anew.

Promises: the workers end with this process, however it ends (each sees its connection close), and
the folder that they worked in then goes with them, also when they were dismissed before: the first
process stays for that, and computes nothing. When one worker ends, all do.

Not here: what is found in a segment (`workers.video`), and what comes of all (`workers.analysis`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from shared import PROJECT_DIR
from shared.errors import MoodlineError
from shared.media import Media
from shared.video import plan_path, segment_path, source_path

if TYPE_CHECKING:
    from shared.config import Settings
    from workers.footage import Plan, Segment


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
    process: subprocess.Popen[bytes]  # or the one that it was forked from
    connection: Connection


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
    """`count` workers, whose files lie in `folder`, a storage; they end with the block."""

    def __init__(self, folder: str, count: int) -> None:
        pipes = [Pipe() for _ in range(count)]
        together = [pipes] if sys.platform == "linux" else [[pipe] for pipe in pipes]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._members: list[_Member] = []
        for group in together:
            process = _start(folder, [theirs for _, theirs in group])
            self._processes.append(process)
            for ours, _ in group:
                self._members.append(_Member(len(self._members), process, ours))
        self._frames_done: dict[int, int] = {}
        self._frames_total = 0
        self._done: set[int] = set()
        self._progress: Callable[[int, int], None]
        self._shares: Shares

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for member in self._members:
            member.connection.close()
        for process in self._processes:
            process.wait()

    def dismiss(self) -> None:
        """End the workers, whatever they do: nothing that they hold must be put away.

        Where none was forked the first one stays, idle, because it watches over the folder.
        """
        first, *others = self._processes
        for process in others:
            process.terminate()
        if len(self._members) > len(self._processes):
            first.terminate()

    def prepare(self, settings: Settings) -> None:
        """Have the models loaded; raises MoodlineError where a process has ended."""
        for member in self._members:
            self._send(member, PipelineSettings.of(settings))

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
        status = member.process.wait()
        return MoodlineError(
            f"A worker process ended in the middle of the video (status {status}): "
            "if memory is short, give fewer --workers."
        )


def _start(folder: str, connections: Sequence[Connection]) -> subprocess.Popen[bytes]:
    """Start the process of these connections' other ends, and let go of them here."""
    descriptors = [connection.fileno() for connection in connections]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, folder, *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.PIPE,  # closes with this process, however it ends
        # Whatever folder the user is in: Moodline's own packages and no others of their names.
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
        start_new_session=True,  # so that Ctrl-C reaches this process alone, which then ends them
    )
    for connection in connections:
        connection.close()
    return process


def _work(folder: str, connections: Sequence[Connection]) -> None:
    """Be the workers at these ends of connections, until the other ends are gone."""
    # The libraries are loaded here, because the side that starts this process is not to wait.
    gc.disable()  # what is loaded stays, and is not to be looked through
    import cv2  # noqa: F401, PLC0415

    from workers import pipeline, video  # noqa: F401, PLC0415

    gc.freeze()
    gc.enable()
    connection = connections[0] if len(connections) == 1 else _forked(connections)
    if connection is not None:
        _serve(folder, connection)
    shutil.rmtree(folder, ignore_errors=True)  # nobody is left who would
    os._exit(0)  # there is nothing to put away, and taking all apart takes time


def _forked(connections: Sequence[Connection]) -> Connection | None:
    """Fork a worker for each connection; give it its own, and this process None in the end.

    When one has ended, so do the others: either nobody waits for them, or in vain. Told to end,
    this process ends them, and waits for the end of the one that started it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    workers = []
    for own in connections:
        worker = os.fork()
        if worker == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            for other in connections:
                if other is not own:
                    other.close()
            return own
        workers.append(worker)
    for connection in connections:
        connection.close()
    try:
        signal.signal(signal.SIGTERM, _end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        ended, status = os.wait()
        workers.remove(ended)
    except _Dismissed:
        status = None
    finally:
        for worker in workers:
            # One may have ended and been waited for just as this process was told to end.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(worker, signal.SIGKILL)
                os.waitpid(worker, 0)
    if status is None:
        sys.stdin.buffer.read()
        return None
    code = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(code if code > 0 else 128 - code)  # as a shell tells a signal
    return None


class _Dismissed(Exception):
    """This process was told to end."""


def _end(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Dismissed


def _serve(folder: str, connection: Connection) -> None:
    """Analyse the segments that come in, until the other side is gone."""
    import cv2  # noqa: PLC0415

    from workers.footage import Plan, Reader  # noqa: PLC0415
    from workers.pipeline import load_pipeline  # noqa: PLC0415
    from workers.video import analyse_segment  # noqa: PLC0415

    media = Media(folder)
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
    _work(sys.argv[1], [Connection(int(descriptor)) for descriptor in sys.argv[2:]])
