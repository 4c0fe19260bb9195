"""One recording's process: take a feed's frames from Redis as they come, and make a video of them.

It reads the stream that workers read too, and takes nothing from them: so any feed can be recorded,
a browser's camera as well, on whichever machine it is captured. The stream keeps two seconds: who
is that late misses frames, which is counted. A camera that is lost makes a gap in time.

The recording is over for one of the reasons of `Ending`. Then its file moves into the storage of
videos and is analysed like one that was handed in. While that cannot be, it is tried again; what
this process does not come to, the next one does, for all that is needed lies in the draft's folder.

A process that finds a draft with pictures goes on with it, if nobody has ended the recording and
its last process was heard of within a minute; else it saves what there is.

Not here: starting this process (`workers.recorders`), and writing pictures (`workers.reel`).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import threading
import time
from dataclasses import replace
from types import FrameType

import structlog

from shared.bus import Bus
from shared.config import Settings
from shared.errors import BusError, LeaseLost, MoodlineError, NotFound
from shared.jobs import Jobs
from shared.media import Media
from shared.recording_bus import RecordingBus
from shared.recordings import Ending, Recording, Saved
from shared.schema import FeedState, Frame
from shared.video import Recorded, Video, source_path
from shared.videos import Videos
from workers import footage
from workers.recorders import Draft, Drafts, owner_of
from workers.reel import SOFTWARE, Reel

_log = structlog.get_logger(__name__)

_LIMITS_EVERY_S = 0.5
_BLOCK_S = 0.2
_FRAMES_AT_ONCE = 8
_GONE_AFTER_S = 3.0  # a feed that is not listed: Redis may have been restarted a moment ago
_SPARE_BYTES = 256 * 1024 * 1024  # left free on the disk, so that what else is on it goes on
_RETRY_S = 5.0


class Recorder:
    """Records one draft; one turn takes what has come."""

    def __init__(
        self, settings: Settings, bus: Bus, recordings: RecordingBus, draft: Draft
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._recordings = recordings
        self._drafts = Drafts.of(settings)
        self._draft = draft
        self._owner = owner_of(settings)
        self._folder = self._drafts.folder(draft.id)
        self._reel = Reel(self._folder, fps=draft.fps)
        self._resumed_after = self._reel.tally.until
        self._cursor = f"{int(draft.asked_at * 1000)}-0"
        self._limits_at = 0.0
        self._gone_since: float | None = None
        self._trouble = ""

    @property
    def over(self) -> bool:
        return self._draft.ending is not None

    def resume(self) -> None:
        """Find out whether to record, or to save what an earlier process has left."""
        draft = self._draft
        if self.over:
            return
        fits = draft.software in ("", SOFTWARE)
        if not fits or not self._recordings.own(draft.feed, draft.id, self._owner):
            seen, _ = self._recordings.seen([draft.feed])[draft.feed]
            stopped = seen.ending if seen is not None and seen.id == draft.id else None
            self._over(stopped or Ending.INTERRUPTED)
        elif not draft.software:
            self._draft = replace(draft, software=SOFTWARE)
            self._drafts.write(self._draft)

    def turn(self) -> None:
        """Take the frames that have come, and look whether the recording is to go on."""
        try:
            self._step()
            self._tell_trouble("")
        except BusError as error:
            self._tell_trouble(str(error))
            time.sleep(_BLOCK_S)
        except OSError as error:
            self._tell_trouble(f"the recording cannot be written ({error.strerror})")
            self.end(Ending.DISK)

    def end(self, ending: Ending) -> None:
        """End the recording for a reason of this process, with what has come until now."""
        try:
            self._recordings.stop(self._draft.feed, ending, recording_id=self._draft.id)
            self._step()
        except (BusError, NotFound, OSError):
            self._over(ending)

    def pause(self) -> None:
        """Leave the recording to another process."""
        self._reel.close()

    def save(self, videos: Videos) -> None:
        """Make the recording a video; raises MoodlineError or OSError where that cannot be now."""
        tally, draft = self._reel.tally, self._draft
        video_id, name = "", draft.name
        if tally.frames and tally.since is not None:
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(tally.since))
            name = name or f"{draft.feed_name}, {began}"
            video_id = self._add(videos, re.sub(r"[/\\]", "-", name), tally.since)
        saved = Saved(video_id, name, draft.ending or Ending.STOPPED, tally.frames, tally.missed)
        self._recordings.end(draft.feed, draft.id, saved, self._owner)
        self._drafts.remove(draft.id)
        _log.info("a recording is saved", recording=draft.id, frames=tally.frames)

    def _add(self, videos: Videos, name: str, since: float) -> str:
        """The id of the video, which is added once, however often this is begun."""
        draft = self._draft
        try:
            return videos.one(draft.video).id
        except NotFound:
            pass
        whole = self._folder / "whole.mp4"
        self._reel.join(whole)
        video = Video.new(
            name,
            size_bytes=whole.stat().st_size,
            footage=footage.probe(whole),
            video_id=draft.video,
            recorded=Recorded(
                draft.feed_name, since, self._reel.tally.missed, draft.ending or Ending.STOPPED
            ),
        )
        videos.media.put_file(source_path(video.id), whole)
        videos.add(video)
        return video.id

    def _take(self, frames: list[Frame], until: float | None) -> bool:
        """Write frames that were stored up to `until`; False where there are no more."""
        for frame in frames:
            if until is not None and int(frame.id.partition("-")[0]) / 1000 > until:
                return False
            self._cursor = frame.id
            if self._resumed_after is not None:  # what the earlier process has written
                if frame.captured_at <= self._resumed_after:
                    continue
                self._resumed_after = None
            self._reel.add(frame)
        return bool(frames)

    def _step(self) -> None:
        """One turn; raises BusError and OSError.

        Whether somebody has ended the recording is asked after its frames were, and before they are
        written: so none is written that came after the end.
        """
        frames = self._next_frames(_BLOCK_S)
        try:
            seen = self._recordings.hold(self._draft.feed, self._recording(), self._owner)
        except LeaseLost:
            _log.warning("another process records this feed now", recording=self._draft.id)
            self._over(Ending.INTERRUPTED)
            return
        going_on = self._take(frames, seen.ended_at)
        if seen.ending is not None:
            while going_on:
                going_on = self._take(self._next_frames(0.0), seen.ended_at)
            self._over(seen.ending)
        elif time.monotonic() >= self._limits_at:
            self._limits_at = time.monotonic() + _LIMITS_EVERY_S
            ending = self._limit()
            if ending is not None:
                self.end(ending)

    def _next_frames(self, block_s: float) -> list[Frame]:
        return self._bus.frames_after(
            self._draft.feed, self._cursor, block_s=block_s, count=_FRAMES_AT_ONCE
        )

    def _limit(self) -> Ending | None:
        """The reason why the recording cannot go on, if there is one."""
        if time.time() - self._draft.asked_at > self._settings.recording_max_h * 3600:
            return Ending.LONGEST
        # Joining its parts takes as much again.
        if shutil.disk_usage(self._folder).free < self._reel.size_bytes + _SPARE_BYTES:
            return Ending.DISK
        return self._feed_ending()

    def _feed_ending(self) -> Ending | None:
        feed_id = self._draft.feed
        if self._bus.feeds_version() is None:
            return None  # a Redis that was restarted, and is about to be filled again
        try:
            feed = self._bus.feed(feed_id)
        except NotFound:
            self._gone_since = self._gone_since or time.monotonic()
            gone_s = time.monotonic() - self._gone_since
            return Ending.REMOVED if gone_s > _GONE_AFTER_S else None
        self._gone_since = None
        if not feed.enabled:
            return Ending.DISABLED
        ended = self._bus.statuses([feed_id])[feed_id].state is FeedState.ENDED
        return Ending.SOURCE_ENDED if ended else None

    def _over(self, ending: Ending) -> None:
        self._reel.close()
        self._draft = replace(self._draft, ending=ending)
        with contextlib.suppress(OSError):  # a disk without room for a line: saving has to wait
            self._drafts.write(self._draft)
        _log.info("a recording is over", recording=self._draft.id, ending=ending.value)

    def _recording(self) -> Recording:
        tally, draft = self._reel.tally, self._draft
        return Recording(
            draft.id,
            draft.name,
            draft.asked_at,
            since=tally.since,
            frames=tally.frames,
            missed=tally.missed,
        )

    def _tell_trouble(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.warning("a recording is in trouble", recording=self._draft.id, error=trouble)
        self._trouble = trouble


def record(settings: Settings, redis_url: str, recording_id: str) -> None:
    """Record a draft and make it a video.

    Until SIGTERM or SIGINT, which end the recording, or the end of the parent, which holds the
    other end of standard input and leaves the recording to its successor.
    """
    stopped, orphaned = threading.Event(), threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    threading.Thread(target=_watch, args=(orphaned,), name="watch", daemon=True).start()
    drafts = Drafts.of(settings)
    with drafts.held(recording_id) as held:
        if not held:
            return
        try:
            draft = drafts.read(recording_id)
        except FileNotFoundError:  # saved a moment ago
            return
        _record(settings, redis_url, draft, stopped, orphaned)


def _record(
    settings: Settings,
    redis_url: str,
    draft: Draft,
    stopped: threading.Event,
    orphaned: threading.Event,
) -> None:
    bus = Bus(redis_url)
    recorder = Recorder(settings, bus, RecordingBus(redis_url), draft)
    recorder.resume()
    while not (recorder.over or stopped.is_set() or orphaned.is_set()):
        recorder.turn()
    if not recorder.over:
        if orphaned.is_set():
            recorder.pause()
            return
        recorder.end(Ending.SHUT_DOWN)
    videos = Videos(redis_url, Media(settings.media_address), Jobs(redis_url))
    told = ""
    while True:
        try:
            recorder.save(videos)
        except (MoodlineError, OSError) as error:
            if str(error) != told:
                told = str(error)
                _log.warning("a recording waits to be saved", recording=draft.id, error=told)
        else:
            return
        until = time.monotonic() + _RETRY_S
        while time.monotonic() < until:
            if stopped.wait(0.2) or orphaned.is_set():
                return


def _watch(orphaned: threading.Event) -> None:
    """Notice that the parent has gone: its end of the pipe closes however it ends."""
    while True:
        readable, _, _ = select.select([0], [], [], 0.5)
        if readable and not os.read(0, 64):
            orphaned.set()
            return
