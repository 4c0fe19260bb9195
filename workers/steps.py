"""One step of a recorded video, done by this worker while it stays alive to everything else.

A thread says every `_HOLD_EVERY_S` that the worker is still at it, and hears whether the step is
still wanted. The work itself looks in at `Watch.check` between frames and at each access to the
storage: there it stops when the video was cancelled or deleted, when the step went to somebody
else, or when the worker is told to end; and there live feeds get their turns.

Whatever happens to a step, this returns: failures are counted and said in `shared.videos`.

Not here: what is to be done next (`shared.videos`), and how (`workers.footage`, `workers.video`,
`workers.report`, `workers.annotate`, `workers.summary`).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from shared.errors import BusError, MoodlineError, SourceError
from shared.media import Media
from shared.video import ExportKind, Video, export_path, plan_path, segment_path, source_path
from shared.video_bus import Hold
from shared.videos import Step, Videos
from workers import footage, report
from workers import video as recorded
from workers.footage import Plan
from workers.pipeline import Pipeline
from workers.vision.classifier import ModelCard

_log = structlog.get_logger(__name__)

_HOLD_EVERY_S = 0.25
_EXPORT_REPORT_EVERY_S = 0.5
# Work that did not look in for so long hangs: its lease is let go, and another worker tries.
_HANGS_AFTER_S = 600.0


class _Stopped(Exception):
    """Leads out of the work on a step that is not wanted, or not wanted here."""


class Steps:
    """Does steps with the models of this process."""

    def __init__(
        self,
        videos: Videos,
        pipeline: Pipeline,
        card: ModelCard,
        *,
        smoothing_s: float,
        live_turn: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._videos = videos
        self._pipeline = pipeline
        self._card = card
        self._smoothing_s = smoothing_s
        self._live_turn = live_turn
        self._stopping = stopping
        self._plan: tuple[str, Plan] | None = None

    def run(self, video_id: str, step_name: str) -> None:
        """Do a step, if it is still to be done."""
        step, token = Step(step_name), secrets.token_hex(8)
        try:
            video = self._videos.begin(video_id, step, token)
            if video is not None:
                self._run(video, step, token)
        except MoodlineError as error:
            # Nothing is lost: the lease runs out, and a keeper asks for the step again.
            _log.warning("a step ended early", video=video_id, step=step_name, error=str(error))

    def _run(self, video: Video, step: Step, token: str) -> None:
        watch = Watch(self._videos, video.id, step, token, self._live_turn, self._stopping)
        reason, for_good = "", False
        with watch:
            try:
                self._do(video, step, watch)
            except _Stopped:
                pass
            except MoodlineError as error:
                reason = str(error)
                # A file that cannot be planned will not become better.
                for_good = isinstance(error, SourceError) and step.name == "plan"
            except Exception as error:  # noqa: BLE001 - counted, said, and tried again
                _log.exception("a step failed", video=video.id, step=step.name)
                reason = f"{type(error).__name__}: {error}"[:300]
        if watch.ask() is Hold.DELETED:
            self._videos.forget_late(video.id)
        elif watch.stopped:
            self._videos.give_back(video.id, step, token)
        elif reason:
            _log.warning("a step failed", video=video.id, step=step.name, reason=reason)
            self._videos.failed(video.id, step, token, reason, for_good=for_good)
        else:
            self._videos.done(video.id, step, token)

    def _do(self, video: Video, step: Step, watch: Watch) -> None:
        media = self._videos.media.watched(watch.check)
        if step.name == "plan":
            with media.open(source_path(video.id)) as file:
                plan = footage.plan(
                    file, video.options, search_every_s=self._pipeline.search_every_s
                )
            media.write(plan_path(video.id), plan.to_json().encode())
        elif step.segment is not None:
            plan = self._plan_of(media, video.id)
            with (
                media.open(source_path(video.id)) as file,
                footage.Reader(file, plan) as reader,
            ):
                found = recorded.analyse_segment(
                    self._pipeline, reader, plan.segments[step.segment], between=watch.frames
                )
            media.write(segment_path(video.id, step.segment), found)
        elif step.name == "track":
            plan = self._plan_of(media, video.id)
            recorded.track(media, video, plan, smoothing_s=self._smoothing_s)
        elif step.name == "derive":
            people = self._videos.people(video.id)
            # After its people: whoever renames a video writes the name first.
            report.derive(media, self._videos.one(video.id), people, self._card)
            self._videos.reported(video.id, people.revision)
        elif step.export is not None:
            self._export(media, video, step.export, watch)

    def _export(self, media: Media, video: Video, kind: ExportKind, watch: Watch) -> None:
        # Imported here: Matplotlib and an encoder are not what a worker needs to start.
        from workers import annotate, summary  # noqa: PLC0415

        revision = self._videos.people(video.id).revision
        with media.create(export_path(video.id, kind)) as file:
            if kind is ExportKind.SUMMARY:
                summary.summary_pdf(media, video, file)
            elif kind is ExportKind.PREVIEW:
                annotate.preview(media, video, file, between=watch.share)
            else:
                blur = kind is ExportKind.ANNOTATED_BLURRED
                annotate.annotate(media, video, file, blur=blur, between=watch.share)
        self._videos.exported(video.id, kind, revision)

    def _plan_of(self, media: Media, video_id: str) -> Plan:
        """The plan of a video; kept, because segments of one video mostly follow each other."""
        if self._plan is None or self._plan[0] != video_id:
            self._plan = (video_id, Plan.from_json(media.read(plan_path(video_id))))
        return self._plan[1]


class Watch:
    """Holds a step for the length of a ``with`` block. `check` is for the thread that works."""

    def __init__(
        self,
        videos: Videos,
        video_id: str,
        step: Step,
        token: str,
        live_turn: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._videos = videos
        self._video_id = video_id
        self._step = step
        self._token = token
        self._live_turn = live_turn
        self._stopping = stopping
        self._answer = Hold.HELD
        self._frames = 0
        self._checked_at = self._heard_at = self._reported_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="hold", daemon=True)
        self.stopped = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Look in: give live feeds their turn; raise where the work is to stop."""
        self._checked_at = time.monotonic()
        if self._answer is not Hold.HELD or self._stopping():
            self.stopped = True
            raise _Stopped
        self._live_turn()

    def frames(self, done: int) -> None:
        """Look in, with so many frames of a segment done."""
        self._frames = done
        self.check()

    def share(self, done: int, total: int) -> None:
        """Look in, with such a share of a file done."""
        now = time.monotonic()
        if self._step.export and now - self._reported_at > _EXPORT_REPORT_EVERY_S:
            self._reported_at = now
            progress = min(1.0, done / total) if total else 0.0
            self._videos.exporting(self._video_id, self._step.export, progress)
        self.check()

    def ask(self) -> Hold:
        """What the step's state is now."""
        return self._videos.hold(self._video_id, self._step, self._token, frames=self._frames)

    def _hold(self) -> None:
        """Renew the lease until the work ends or hangs."""
        while not self._ended.wait(_HOLD_EVERY_S):
            now = time.monotonic()
            if now - self._checked_at > _HANGS_AFTER_S:
                _log.warning("a step hangs", video=self._video_id, step=self._step.name)
                return
            try:
                self._answer = self.ask()
            except BusError:
                # A Redis that is restarted: what is being made is good all the same.
                continue
            if self._answer is not Hold.HELD:
                return
