"""One recorded video without a server: the segments over a few processes, then the report.

`analysed` gives the same files as the workers of a running Moodline do, in a folder that is gone
afterwards. Other processes analyse the segments (`workers.crew`); this one numbers the faces as the
segments come in. The settings are read aside while the libraries are loaded, and the video is
planned while the others load their models: a short video takes hardly longer than that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from shared.errors import MediaError, SourceError, SourceRefused
from shared.media import Media
from shared.video import Footage, People, ReportExtra, Video, VideoOptions, plan_path, source_path
from workers import forks
from workers.crew import Crew, PipelineSettings, load_to_fork

if TYPE_CHECKING:
    from shared.config import Settings
    from workers.footage import Plan

_MOST_WORKERS = 8  # without being asked for more: each takes 150 MB


@contextlib.contextmanager
def analysed(
    path: Path,
    options: VideoOptions,
    settings: Callable[[], Settings],
    *,
    workers: int | None = None,
    extras: Collection[ReportExtra] = (),
    progress: Callable[[int, int], None],
) -> Iterator[tuple[Media, Video]]:
    """Analyse a video file; give a storage that holds its report, for the length of the block.

    `settings` is asked while the libraries are loaded. `workers` is how many processes analyse, by
    default one a core; `extras` what the report has besides what is always there. `progress` is
    called with the frames done and the frames there are. Raises what `settings` does, SourceError
    where the file is no video that can be analysed, ModelError where a model cannot be loaded,
    MoodlineError where a process cannot be started or ends.
    """
    if not path.is_file():
        raise SourceRefused(f"There is no file {path}: check the name.")
    # numpy's threads are of no use here, and beside them nothing could be forked.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with forks.signals_kept_back():
        tempfile.gettempdir()  # finds it out with a file, which stays where this is interrupted
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(forks.aside(lambda: PipelineSettings.of(settings())))
        load_to_fork("workers.footage")
        looked_into = stack.enter_context(forks.aside(lambda: _looked_into(path, options)))
        load_to_fork()
        # Named first and made last: whatever ends this process, somebody knows what to tidy up.
        folder = Path(tempfile.gettempdir(), f"moodline-analysis-{secrets.token_hex(8)}")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        crew = stack.enter_context(Crew(folder, workers or _cores()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)  # while a worker still watches
        folder.mkdir(mode=0o700)
        chosen = asked()
        crew.prepare(chosen)
        media = Media(str(folder))
        found, plan = looked_into()
        plan = replace(plan, search_every_s=chosen.search_every_s)
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
        from workers import report  # noqa: PLC0415
        from workers import video as recorded  # noqa: PLC0415
        from workers.vision.classifier import read_card  # noqa: PLC0415

        model = read_card(chosen.model)
        recorded.track(media, video, plan, smoothing_s=chosen.smoothing_s, ready=crew.wait_for)
        crew.dismiss()
        report.derive(media, video, People(), model, extras=extras)
        yield media, video


def _looked_into(path: Path, options: VideoOptions) -> tuple[Footage, Plan]:
    from workers import footage  # noqa: PLC0415

    try:
        with forks.signals_kept_back():
            return footage.probe(path), footage.plan(path, options)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error


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
