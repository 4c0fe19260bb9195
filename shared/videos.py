"""Recorded videos: what is kept of each, and what is to be done next.

The storage is the truth; Redis is the transport and a cache of it. Work goes on by looking, not by
remembering: `Videos.advance` compares what is there with what there should be and asks for the
steps in between. It is called whenever something has happened, and every other second by a keeper,
so that nothing depends on any one message: not on a job, a worker, or Redis's memory.

A video's steps, each done by one RQ job: ``plan``, ``segment-0`` …, ``track``, ``derive``; then
``export-annotated`` and others when asked for. A step that is done twice gives the same files. One
that fails is tried `MAX_ATTEMPTS` times; then the video fails with its reason, once all that can be
made without it is made.

Not here: what the steps do (`workers.steps`).
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import structlog

from shared.bus import Bus
from shared.errors import (
    BusError,
    Conflict,
    InvalidRecord,
    MediaError,
    MoodlineError,
    NotFound,
)
from shared.jobs import Jobs
from shared.media import Media
from shared.records import json_object, require
from shared.video import (
    Export,
    ExportKind,
    ExportState,
    People,
    Video,
    VideoStatus,
    clean_name,
    export_path,
    folder_path,
    frames_path,
    people_path,
    plan_path,
    report_path,
    source_path,
    video_path,
)
from shared.video_bus import Ended, Hold, VideoBus, Work

_log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 3
_MAX_LOST_SEGMENTS = 5  # so many that fail for good mean that the others would too
_FINISHED_EVERY_S = 10.0  # finished videos change by what people ask for, which acts at once
_CLEAN_EVERY_S = 3600.0
_ABANDONED_S = 24 * 3600.0  # an upload or a draft that nobody finished in this time
_READERS = 8  # records read at once when the list is restored

_PLAN, _TRACK, _DERIVE = "plan", "track", "derive"
_SEGMENT, _EXPORT = "segment-", "export-"
_SHOWING_PEOPLE = [kind for kind in ExportKind if kind.shows_people]


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work on a video, by its name."""

    name: str

    @property
    def segment(self) -> int | None:
        """The number of the segment, where it is one."""
        return int(self.name.removeprefix(_SEGMENT)) if self.name.startswith(_SEGMENT) else None

    @property
    def export(self) -> ExportKind | None:
        """The file that is made, where it is one."""
        is_export = self.name.startswith(_EXPORT)
        return ExportKind(self.name.removeprefix(_EXPORT)) if is_export else None


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do: videos by status, and the steps of those that are not finished.

    `held` steps are being done, or pause before the next attempt; `failed` ones have failed at
    least once and are not done yet. Frames are those of unfinished videos whose plan is made.
    """

    videos: Mapping[VideoStatus, int]
    held: int
    failed: int
    frames_total: int
    frames_done: int


class Videos:
    """The verbs for videos. Safe to share between threads; make a new one after a fork."""

    def __init__(self, url: str, media: Media, jobs: Jobs) -> None:
        self.media = media
        self._bus = VideoBus(url)
        self._live_bus = Bus(url)
        self._jobs = jobs
        # Never: the clock counts from the machine's start, which may be a minute ago.
        self._finished_looked_at = self._cleaned_at = -math.inf

    def close(self) -> None:
        self._bus.close()
        self._live_bus.close()

    # For the web

    def add(self, video: Video) -> None:
        """Keep a video whose file is at ``source_path(video.id)``, and begin its analysis."""
        self._bus.put(video)
        try:
            self.media.write(video_path(video.id), video.to_json().encode())
        except MediaError:
            self._bus.withdraw(video.id)
            raise
        self.advance(video.id)

    def all(self) -> list[Video]:
        """All videos, newest first."""
        self._restore()
        videos = sorted(self._bus.videos(), key=lambda v: (v.created_at, v.id), reverse=True)
        work = self._bus.work([video.id for video in videos])
        return [_seen(video, work[video.id]) for video in videos]

    def load(self) -> Load:
        """How much work there is; reads nothing but the list for finished videos."""
        videos = self._bus.videos()
        unfinished = [video for video in videos if not video.status.is_final]
        work = self._bus.work([video.id for video in unfinished])
        seen = [_seen(video, work[video.id]) for video in unfinished]
        statuses = Counter(video.status for video in videos if video.status.is_final)
        statuses.update(video.status for video in seen)
        return Load(
            {status: statuses[status] for status in VideoStatus},
            held=sum(len(each.held) for each in work.values()),
            failed=sum(len(each.reasons) for each in work.values()),
            frames_total=sum(video.frames_total or 0 for video in seen),
            frames_done=sum(video.frames_done for video in seen),
        )

    def one(self, video_id: str) -> Video:
        """One video; raises NotFound."""
        video = self._kept(video_id)
        return _seen(video, self._work(video))

    def rename(self, video_id: str, name: str) -> Video:
        """Give a video another name (cleaned; a slash is no path here); raises NotFound."""
        cleaned = clean_name(re.sub(r"[/\\]", "-", name))
        with self._bus.locked(video_id):
            video = replace(self._kept(video_id), name=cleaned)
            self._write(video)
            if _has_report(self._work(video)):  # it says the name too
                self._edit(video_id, self._people(video_id), stale=[ExportKind.SUMMARY])
        self.advance(video_id)
        return self.one(video_id)

    def cancel(self, video_id: str) -> Video:
        """Stop the analysis; what is there is kept for `retry`. Fine where it has ended already."""
        with self._bus.locked(video_id):
            video = self._kept(video_id)
            if not video.status.is_final:
                self._write(replace(video, status=VideoStatus.CANCELLED, finished_at=time.time()))
        return self.one(video_id)

    def retry(self, video_id: str) -> Video:
        """Go on with a failed or cancelled video; raises Conflict for any other."""
        with self._bus.locked(video_id):
            video = self._kept(video_id)
            if video.status not in (VideoStatus.FAILED, VideoStatus.CANCELLED):
                raise Conflict(
                    f"The video is {self.one(video_id).status}: "
                    "only a failed or cancelled one can be tried again."
                )
            # What was made without the segments that are now tried again is void.
            for path in (report_path(video_id, "summary.json"), frames_path(video_id)):
                self.media.delete(path)
            self._remove_exports(video_id, _SHOWING_PEOPLE)
            self._bus.mark(video_id, {"report": -1})
            self._bus.forget_attempts(video_id)
            self._write(replace(video, status=VideoStatus.QUEUED, error="", finished_at=None))
        self.advance(video_id)
        return self.one(video_id)

    def delete(self, video_id: str) -> None:
        """Remove a video and all that was made of it; raises NotFound."""
        self._kept(video_id)
        self._bus.remove(video_id)
        # The record first: without it, nothing of the video comes back if this is cut off here.
        self.media.delete(video_path(video_id))
        self.media.delete(folder_path(video_id))

    def people(self, video_id: str) -> People:
        """The user's edits; raises NotFound."""
        self._kept(video_id)
        return self._people(video_id)

    def put_people(self, video_id: str, people: People) -> People:
        """Keep edits and update the report; returns them with their new revision.

        `people` is what `people()` gave, edited: raises Conflict where somebody else edited
        meanwhile (its revision is not the present one), or where there is no report yet.
        """
        with self._bus.locked(video_id):
            video = self._kept(video_id)
            self._require_report(video, self._work(video))
            if people.revision != self._people(video_id).revision:
                raise Conflict("Somebody else edited these people meanwhile: load the page again.")
            people = self._edit(video_id, people, stale=_SHOWING_PEOPLE)
            if video.status is VideoStatus.DONE and video.error:
                self._write(replace(video, error=""))
        self.advance(video_id)
        return people

    def export(self, video_id: str, kind: ExportKind) -> Export:
        """How far a file is; asking starts it. Raises Conflict where there is no report yet.

        A preview needs no report, only a plan. A file that failed says so for a minute; asked for
        after that, it is tried again.
        """
        video = self._kept(video_id)
        work = self._work(video)
        if kind.shows_people:
            self._require_report(video, work)
        if kind in work.exports:
            return work.exports[kind]
        export = Export(ExportState.RUNNING)
        with self._bus.locked(video_id):
            self._bus.forget_attempts(video_id, f"{_EXPORT}{kind}")
            self._bus.put_export(video_id, kind, export)
        self.advance(video_id)
        return export

    def eta_s(self, video: Video) -> float | None:
        """Seconds until a running video is done; None while that cannot be told."""
        if video.status is not VideoStatus.RUNNING or video.frames_total is None:
            return None
        rate = self._bus.frames_per_s(video.id)
        return max(0, video.frames_total - video.frames_done) / rate if rate else None

    # For workers

    def begin(self, video_id: str, step: Step, token: str) -> Video | None:
        """Take a step; None where it is done, held by another, or no longer wanted."""
        attempt = self._bus.begin(video_id, step.name, token)
        if not attempt:
            return None
        try:
            video = self._bus.video(video_id)
            missing = self._missing_steps(video, self._work(video))
            if step.name in missing and attempt <= MAX_ATTEMPTS:
                return video
        except NotFound:
            pass
        self._bus.end(video_id, step.name, token, Ended.GIVEN_BACK)
        return None

    def hold(self, video_id: str, step: Step, token: str, *, frames: int) -> Hold:
        """Keep a step; says whether it is still wanted. Call it at least every second."""
        return self._bus.hold(
            video_id,
            step.name,
            token,
            segment=step.segment,
            frames=frames,
            cancellable=step.export is None,
        )

    def done(self, video_id: str, step: Step, token: str) -> None:
        """A step's files are there."""
        self._bus.end(video_id, step.name, token, Ended.DONE)
        self.advance(video_id)

    def failed(
        self, video_id: str, step: Step, token: str, reason: str, *, for_good: bool = False
    ) -> None:
        """A step has failed, with a sentence that says why; `for_good`: trying again is no use."""
        if for_good:
            self._bus.set_attempts(video_id, step.name, MAX_ATTEMPTS)
        self._bus.end(video_id, step.name, token, Ended.FAILED, reason)
        self.advance(video_id)

    def give_back(self, video_id: str, step: Step, token: str) -> None:
        """A worker that is told to stop lets others do its step."""
        self._bus.end(video_id, step.name, token, Ended.GIVEN_BACK)
        self.advance(video_id)

    def reported(self, video_id: str, revision: int) -> None:
        """The report is there, with the edits of this revision."""
        self._bus.mark(video_id, {"report": revision})

    def exported(self, video_id: str, kind: ExportKind, revision: int) -> None:
        """A file is there; void, and made again if still wanted, where people changed meanwhile."""
        with self._bus.locked(video_id):
            if kind.shows_people and self._people(video_id).revision != revision:
                self.media.delete(export_path(video_id, kind))
            else:
                self._bus.put_export(video_id, kind, Export(ExportState.DONE, 1.0))

    def exporting(self, video_id: str, kind: ExportKind, progress: float) -> None:
        """A file is so far done, from 0 to 1."""
        self._bus.report_export(video_id, kind, progress)

    def forget_late(self, video_id: str) -> None:
        """Remove what was written of a video that was deleted meanwhile."""
        self._bus.sweep(video_id)
        self.media.delete(folder_path(video_id))

    def advance(self, video_id: str) -> None:
        """Look at a video and ask for the steps that are to be done next; fine at any time.

        Not all at once: a window of steps per video lets several videos take turns.
        """
        with self._bus.locked(video_id):
            try:
                video = self._bus.video(video_id)
            except NotFound:
                return
            work = self._work(video)
            steps = self._missing_steps(video, work)
            if not steps:
                self._conclude(video, work)
                return
            waiting = self._jobs.waiting_steps(video_id)
            room = 2 * max(1, len(self._live_bus.workers())) + 2 - len(waiting | work.held)
            for step in steps:
                if room > 0 and step not in waiting and step not in work.held:
                    self._jobs.enqueue_step(video_id, step)
                    room -= 1

    # For keepers

    def lead(self, keeper: str) -> bool:
        """Whether this keeper is the one that looks after the videos, for some seconds more."""
        return self._bus.lead(keeper)

    def keep(self, *, retention_s: float | None) -> None:
        """Look after all videos once: restore, go on, delete what is past its time."""
        self._restore()
        now = time.monotonic()
        with_finished = now - self._finished_looked_at > _FINISHED_EVERY_S
        for video in self._bus.videos():
            try:
                self._keep_one(video, retention_s, with_finished=with_finished)
            except BusError:
                raise
            except MoodlineError as error:  # the other videos still get their turn
                _log.warning("a video cannot go on", video=video.id, error=str(error))
        if with_finished:
            self._finished_looked_at = now
            for video_id in self._bus.deleted():
                if self.media.list(folder_path(video_id)):
                    self.forget_late(video_id)
        if now - self._cleaned_at > _CLEAN_EVERY_S:
            self._cleaned_at = now
            self._clean()

    def _keep_one(self, video: Video, retention_s: float | None, *, with_finished: bool) -> None:
        if not video.status.is_final:
            work = self._bus.work([video.id])[video.id]
            self._bus.sample_rate(video.id, sum(work.frames.values()))
            self.advance(video.id)
        elif retention_s is not None and time.time() - (video.finished_at or 0) > retention_s:
            _log.info("a video is past its retention time and deleted", video=video.id)
            self.delete(video.id)
        elif with_finished:
            self.advance(video.id)

    def _clean(self) -> None:
        """Remove what nobody will finish: drafts, and files whose video was never added."""
        self.media.sweep_drafts(_ABANDONED_S)
        known = {video.id for video in self._bus.videos()}
        for video_id in self.media.list("videos"):
            if video_id not in known:
                try:
                    age_s = self.media.age_s(source_path(video_id))
                except NotFound:
                    continue
                if age_s > _ABANDONED_S:
                    self.media.delete(folder_path(video_id))

    # What there is, and what there should be

    def _kept(self, video_id: str) -> Video:
        """The record of a video, from a list that is complete; raises NotFound."""
        self._restore()
        return self._bus.video(video_id)

    def _write(self, video: Video) -> None:
        self.media.write(video_path(video.id), video.to_json().encode())
        self._bus.put(video)

    def _restore(self) -> None:
        """Fill the list of a Redis that is new, or was restarted, from the storage."""
        if self._bus.is_restored():
            return
        with ThreadPoolExecutor(_READERS) as readers:
            found = readers.map(self._stored, self.media.list("videos"))
            self._bus.restore([video for video in found if video is not None])

    def _stored(self, video_id: str) -> Video | None:
        try:
            return Video.from_json(self.media.read(video_path(video_id)))
        except NotFound:
            return None  # being added or deleted
        except InvalidRecord as error:
            _log.warning("a video's record cannot be read", video=video_id, error=str(error))
            return None

    def _people(self, video_id: str) -> People:
        try:
            return People.from_json(self.media.read(people_path(video_id)))
        except NotFound:
            return People()

    def _summary(self, video_id: str) -> dict[str, Any] | None:
        return self._json(report_path(video_id, "summary.json"), revision=int, video=dict)

    def _json(self, path: str, **parts: type) -> dict[str, Any] | None:
        """What a worker wrote, with these parts; None where it is not there."""
        try:
            row = json_object(self.media.read(path))
        except NotFound:
            return None
        for name, kind in parts.items():
            require(isinstance(row.get(name), kind), f"{name} in {path}", row.get(name))
        return row

    def _work(self, video: Video) -> Work:
        """What is going on with a video; looks into the storage for what Redis does not know."""
        work = self._bus.work([video.id])[video.id]
        if "report" not in work.marks:
            summary = self._summary(video.id)
            self._bus.mark(
                video.id,
                {
                    "people": self._people(video.id).revision,
                    "report": -1 if summary is None else summary["revision"],
                },
            )
            names = self.media.list(f"{folder_path(video.id)}/exports")
            for kind in ExportKind:
                if kind.file_name in names:
                    self._bus.put_export(video.id, kind, Export(ExportState.DONE, 1.0))
        elif "segments" in work.marks:
            return work
        plan = self._json(plan_path(video.id), segments=list, frames_total=int)
        if plan is not None:
            segments, total = len(plan["segments"]), plan["frames_total"]
            self._bus.mark(video.id, {"segments": segments, "frames": total})
            # How many frames each had, Redis has forgotten: an even share is near enough.
            self._bus.put_frames(
                video.id, dict.fromkeys(self._segments(video.id), total // max(1, segments))
            )
        return self._bus.work([video.id])[video.id]

    def _segments(self, video_id: str) -> set[int]:
        """The segments whose results are there."""
        names = self.media.list(f"{folder_path(video_id)}/segments")
        numbers = (name.removesuffix(".json.gz") for name in names)
        return {int(number) for number in numbers if number.isdigit()}

    def _missing_steps(self, video: Video, work: Work) -> Sequence[str]:
        """The steps that can be done now and are not, also those that somebody is at."""
        steps = [] if video.status.is_final else self._analysis_steps(video, work)
        if not steps and work.marks["report"] < work.marks["people"] and _has_report(work):
            steps = [_DERIVE] if not _given_up(_DERIVE, work) else []
        current = _has_report(work) and work.marks["report"] == work.marks["people"]
        planned = "segments" in work.marks
        exports = [
            f"{_EXPORT}{kind}"
            for kind, export in work.exports.items()
            if export.state is ExportState.RUNNING and (current if kind.shows_people else planned)
        ]
        return [*steps, *(step for step in exports if not _given_up(step, work))]

    def _analysis_steps(self, video: Video, work: Work) -> Sequence[str]:
        if "segments" not in work.marks:
            return _unless_given_up([_PLAN], work)
        there = self._segments(video.id)
        missing = [f"{_SEGMENT}{i}" for i in range(work.marks["segments"]) if i not in there]
        open_ = _unless_given_up(missing, work)
        if len(missing) - len(open_) >= _MAX_LOST_SEGMENTS:
            open_ = [step for step in open_ if step in work.held]
        if open_:
            return open_
        if missing and not there:
            return []
        if not self.media.exists(frames_path(video.id)):
            return _unless_given_up([_TRACK], work)
        if not _has_report(work):
            return _unless_given_up([_DERIVE], work)
        return []

    def _conclude(self, video: Video, work: Work) -> None:
        """Nothing is left to do: say so, once."""
        for kind, export in work.exports.items():
            step = f"{_EXPORT}{kind}"
            if export.state is ExportState.RUNNING and _given_up(step, work):
                failed = Export(ExportState.FAILED, export.progress, _reason(step, work))
                self._bus.put_export(video.id, kind, failed)
        given_up = [step for step in work.attempts if _given_up(step, work)]
        analysis = [step for step in given_up if not step.startswith(_EXPORT)]
        if video.status.is_final:
            if _DERIVE in analysis and not video.error:
                error = f"The report could not be updated: {_reason(_DERIVE, work)}"
                self._write(replace(video, error=error))
            return
        summary = self._summary(video.id)
        found = summary["video"] if summary else {}
        self._write(
            replace(
                video,
                status=VideoStatus.FAILED if analysis else VideoStatus.DONE,
                error=_reason(min(analysis, key=_order), work) if analysis else "",
                finished_at=time.time(),
                frames_total=found.get("frames_total", work.marks.get("frames")),
                frames_done=found.get("frames_analysed", sum(work.frames.values())),
            )
        )

    def _require_report(self, video: Video, work: Work) -> None:
        if not _has_report(work):
            status = _seen(video, work).status
            raise Conflict(f"There is no report yet: the video is {status}.")

    def _edit(self, video_id: str, people: People, *, stale: Sequence[ExportKind]) -> People:
        """Keep edits as the next revision, so that the report is derived anew."""
        people = replace(people, revision=people.revision + 1)
        self.media.write(people_path(video_id), people.to_json().encode())
        self._bus.mark(video_id, {"people": people.revision})
        self._bus.forget_attempts(video_id, _DERIVE)
        self._remove_exports(video_id, stale)
        return people

    def _remove_exports(self, video_id: str, stale: Sequence[ExportKind]) -> None:
        """Remove files that show things as they were."""
        for kind in stale:
            self.media.delete(export_path(video_id, kind))
        self._bus.remove_exports(video_id, stale)


def _has_report(work: Work) -> bool:
    return work.marks["report"] >= 0


def _given_up(step: str, work: Work) -> bool:
    return work.attempts.get(step, 0) >= MAX_ATTEMPTS and step not in work.held


def _unless_given_up(steps: Iterable[str], work: Work) -> list[str]:
    return [step for step in steps if not _given_up(step, work)]


def _reason(step: str, work: Work) -> str:
    return work.reasons.get(
        step, f"The worker that did it died {MAX_ATTEMPTS} times ({step}): see the log."
    )


def _order(step: str) -> tuple[int, int]:
    """Steps in the order of their doing."""
    names = (_PLAN, _SEGMENT, _TRACK, _DERIVE)
    kind = next(i for i, name in enumerate(names) if step.startswith(name))
    return kind, Step(step).segment or 0


def _seen(video: Video, work: Work) -> Video:
    """A record with what is going on right now."""
    status = video.status
    if status is VideoStatus.QUEUED and "started_at" in work.marks:
        status = VideoStatus.RUNNING
    is_final = status.is_final and video.frames_total is not None
    total = video.frames_total if is_final else work.marks.get("frames")
    done = video.frames_done if is_final else sum(work.frames.values())
    report = work.marks.get("report", -1)
    return replace(
        video,
        status=status,
        frames_total=total,
        frames_done=done if total is None else min(done, total),
        updating=(
            status.is_final
            and 0 <= report < work.marks.get("people", 0)
            and not _given_up(_DERIVE, work)
        ),
        exports=work.exports,
    )
