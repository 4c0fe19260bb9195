"""One recorded video without a server: the segments over a few processes, then the report.

`analysed` gives the same files as the workers of a running Moodline do, in a folder that is gone
afterwards. The processes are started anew rather than forked: neither LiteRT nor OpenCV survives a
fork in the middle of its work. Each takes the next segment when it is done with one, and writes
what it found; this process numbers the faces as the segments come in.

The processes end with this one, however it ends: each sees its connection close.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from shared.config import PROJECT_DIR, Settings
from shared.errors import MediaError, MoodlineError, SourceError, SourceRefused
from shared.media import Media
from shared.video import People, Video, VideoOptions, plan_path, segment_path, source_path

if TYPE_CHECKING:
    from workers.footage import Plan, Segment

_MOST_WORKERS = 8  # without being asked for more: each takes 150 MB


@contextlib.contextmanager
def analysed(
    path: Path,
    options: VideoOptions,
    settings: Settings,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[Media, Video]]:
    """Analyse a video file; give a storage that holds its report, for the length of the block.

    `workers` is the number of processes, by default one a core. `progress` is called with the
    frames done and the frames there are. Raises SourceError where the file is no video that can be
    analysed, ModelError where a model cannot be loaded.
    """
    if not path.is_file():
        raise SourceRefused(f"There is no file {path}: check the name.")
    with (
        tempfile.TemporaryDirectory(prefix="moodline-analysis-") as folder,
        _Crew(folder, settings, workers or _cores()) as crew,
    ):
        # Imported while the processes start, which takes them as long.
        from workers import footage, report  # noqa: PLC0415
        from workers import video as recorded  # noqa: PLC0415
        from workers.vision.classifier import read_card  # noqa: PLC0415

        model = read_card(settings.model)
        media = Media(folder)
        try:
            found = footage.probe(path)
            plan = footage.plan(path, options, search_every_s=settings.search_every_s)
        except SourceError as error:
            raise SourceError(f"{path}: {error}") from error
        if found.duration_s is not None and options.start_s >= found.duration_s:
            raise SourceError(
                f"{path} is {found.duration_s:.1f} s long, so nothing is left of it from "
                f"{options.start_s:g} s on: give an earlier start."
            )
        video = Video.new(path.name, size_bytes=path.stat().st_size, footage=found)
        source = Path(folder, source_path(video.id))
        source.parent.mkdir(parents=True)
        source.symlink_to(path.absolute())
        media.write(plan_path(video.id), plan.to_json().encode())
        crew.begin(video.id, plan, progress)
        recorded.track(media, video, plan, smoothing_s=settings.smoothing_s, ready=crew.wait_for)
        crew.dismiss()
        report.derive(media, video, People(), model)
        yield media, video


def require_writable(outputs: Sequence[Path]) -> None:
    """Raise MediaError where a file could not be written in the end: before the work, not after."""
    for path in outputs:
        folder = path.parent
        if not folder.is_dir():
            raise MediaError(f"{path} cannot be written (there is no folder {folder}): make it.")
        needed = [folder, path] if _is_plain(path) else [path]
        if not all(os.access(each, os.W_OK) for each in needed if each.exists()):
            raise MediaError(f"{path} cannot be written (no permission): give another place.")


def _is_plain(path: Path) -> bool:
    """Whether a file of this name is one, or free to be one; links, pipes and devices are not."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A seekable file to write to, which takes its place when the block ends without an error.

    What is no plain file (``/dev/null``, a pipe, a link) stays what it is: it is written into.
    """
    folder = path.parent if _is_plain(path) else Path(tempfile.gettempdir())
    draft = folder / f".moodline-{secrets.token_hex(8)}"
    try:
        with draft.open("wb") as file:
            yield file
        if _is_plain(path):
            draft.replace(path)
        else:
            with draft.open("rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be written ({error.strerror or error}): give another place."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def save(media: Media, stored: str, path: Path) -> None:
    """Copy a stored file to where the user wants it; raises MediaError where it cannot be."""
    with media.open(stored) as source, written(path) as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _MOST_WORKERS)


@dataclass(slots=True)
class _Member:
    process: subprocess.Popen[bytes]
    connection: Connection


class _Crew:
    """The processes that analyse segments."""

    def __init__(self, folder: str, settings: Settings, count: int) -> None:
        self._members = [_start(folder, settings) for _ in range(count)]
        self._waiting: list[int] = []
        self._frames_done: dict[int, int] = {}
        self._frames_total = 0
        self._done: set[int] = set()
        self._progress: Callable[[int, int], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """End the processes, whatever they do: nothing that they hold must be put away."""
        for member in self._members:
            member.process.kill()
        for member in self._members:
            member.process.wait()
            member.connection.close()
        self._members.clear()

    def begin(self, video_id: str, plan: Plan, progress: Callable[[int, int], None]) -> None:
        """Hand out the first segments; raises MoodlineError where a process has ended."""
        self._frames_total = plan.frames_total
        self._progress = progress
        self._waiting = [segment.index for segment in reversed(plan.segments)]
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
        if self._waiting:
            self._send(member, self._waiting.pop())

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


def _start(folder: str, settings: Settings) -> _Member:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        # Whatever folder the user is in: Moodline's own packages and no others of their names.
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
        start_new_session=True,  # so that Ctrl-C reaches this process alone, which then ends them
    )
    theirs.close()
    ours.send((folder, settings))
    return _Member(process, ours)


def _serve(connection: Connection) -> None:
    """Analyse the segments that come in, until the other side is gone."""
    # Imported here, because the side that starts this process needs none of it at once.
    import cv2  # noqa: PLC0415

    from workers.footage import Plan  # noqa: PLC0415
    from workers.pipeline import load_pipeline  # noqa: PLC0415
    from workers.video import analyse_segment  # noqa: PLC0415

    with contextlib.suppress(EOFError, OSError):
        folder, settings = connection.recv()
        media = Media(folder)
        try:
            cv2.setNumThreads(settings.threads)
            pipeline = load_pipeline(settings)
            video_id = connection.recv()
            plan = Plan.from_json(media.read(plan_path(video_id)))
            while True:
                segment = plan.segments[connection.recv()]
                frames = 0

                def between(done: int, index: int = segment.index) -> None:
                    nonlocal frames
                    if done > frames:
                        frames = done
                        connection.send((index, done, False))

                with media.open(source_path(video_id)) as file:
                    found = analyse_segment(pipeline, file, plan, segment, between=between)
                media.write(segment_path(video_id, segment.index), found)
                connection.send((segment.index, frames, True))
        except MoodlineError as error:
            connection.send(error)
            connection.recv()  # nothing more comes: the other side ends this process


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
