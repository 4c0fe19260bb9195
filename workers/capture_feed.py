"""One feed's capture process: read the source, hand its pictures to the bus, and stay on it.

Three threads. One reads (`workers.sources`) and opens the source anew after a failure, with
growing pauses. The main one hands pictures on and reports once a second; between the two wait the
newest few pictures at most, so that a Redis that is away costs pictures, never memory or delay.
The third watches the other two from outside: when the process that started this one is gone, or
when the reader hangs inside a library that keeps no time limit, it ends this process at once; the
parent starts another.

Not here: which feeds there are, and starting this process again (`workers.capture`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
import traceback
from collections import deque
from types import FrameType
from typing import NoReturn

import cv2
import structlog

from shared.bus import Bus
from shared.config import Settings
from shared.errors import BusError, NotFound, SourceEnded, SourceError, SourceRefused
from shared.jobs import Jobs
from shared.schema import CaptureReport, Feed, FeedState, Trouble
from workers import sources
from workers.capture import EXIT_ENDED, EXIT_GONE, EXIT_HUNG, EXIT_STOPPED, Pauses
from workers.sources import Limits, Picture, Pulse

_log = structlog.get_logger(__name__)

STALLED_AFTER_S = 2.0
HUNG_AFTER_S = sources.NO_FRAME_S + 2.0  # later than every time limit that a library can keep
_REPORT_EVERY_S = 1.0
_RATE_SPAN_S = 3.0
_MAX_WAITING = 4  # pictures between reader and bus: a camera's burst, not a backlog
_STEADY_S = 5.0  # a source that was live for so long starts again without a long pause


class Newest:
    """Hands pictures from one thread to another; who is slow gets the newest few."""

    def __init__(self, size: int) -> None:
        self._pictures: deque[Picture] = deque(maxlen=size)
        self._changed = threading.Condition()

    def put(self, picture: Picture) -> None:
        with self._changed:
            self._pictures.append(picture)
            self._changed.notify()

    def take(self, timeout_s: float) -> Picture | None:
        """The oldest picture that waits, or None after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._pictures), timeout_s)
            return self._pictures.popleft() if self._pictures else None


class FeedReader:
    """Reads one source for ever, in a thread of its own, and knows how it goes."""

    def __init__(self, feed: Feed, pulse: Pulse, *, jpeg_quality: int, reconnects: int) -> None:
        self.pictures = Newest(_MAX_WAITING)
        self.pulse = pulse
        self.stop = threading.Event()
        self.ended = threading.Event()
        self._feed = feed
        self._limits = Limits(feed.fps, feed.width)
        self._jpeg_quality = jpeg_quality
        self._reconnects = reconnects
        self._state = FeedState.RECONNECTING if reconnects else FeedState.STARTING
        self._error = self._trouble = ""
        self._live_since = 0.0
        self._kept_at: deque[float] = deque(maxlen=256)
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def limit(self, fps: float, width: int) -> None:
        """Keep so many pictures a second from now on, and so wide; no picture is missed for it."""
        self._limits.fps, self._limits.width = fps, width

    @property
    def state(self) -> FeedState:
        if self._state is FeedState.LIVE and self.pulse.age_s > STALLED_AFTER_S:
            return FeedState.STALLED
        return self._state

    def report(self) -> CaptureReport:
        """How the source does now; frames/s are counted over the last three seconds at most."""
        now = time.monotonic()
        kept = sum(at >= now - _RATE_SPAN_S for at in self._kept_at.copy())
        state, error, trouble = self.state, self._error, self._trouble
        if state is FeedState.STALLED:
            error = f"No picture for {self.pulse.age_s:.0f} s: check the camera and the network."
            trouble = Trouble.NO_PICTURE
        span_s = min(_RATE_SPAN_S, max(1.0, now - self._live_since))
        return CaptureReport(state, error, kept / span_s, self._reconnects, trouble=trouble)

    def _run(self) -> None:
        try:
            self._read_for_ever()
        except Exception:  # noqa: BLE001 - a defect: say it without credentials, and start afresh
            trace = self._feed.source.scrub(traceback.format_exc())
            _log.error("capture of a feed failed by a defect", feed=self._feed.id, trace=trace)
            os._exit(1)

    def _read_for_ever(self) -> None:
        soon, slowly = Pauses(0.5, 15.0), Pauses(5.0, 30.0)
        while not self.stop.is_set():
            opened_at = time.monotonic()
            try:
                self._read_once()
            except SourceEnded as error:
                self._state, self._error = FeedState.ENDED, str(error)
                self._trouble = error.trouble
                self.ended.set()
                return
            except SourceError as error:
                was_live = self._state is FeedState.LIVE
                if was_live and time.monotonic() - opened_at > _STEADY_S:
                    soon.reset()
                    slowly.reset()
                refused = isinstance(error, SourceRefused)
                state = FeedState.ERROR if refused else FeedState.RECONNECTING
                if (state, str(error)) != (self._state, self._error):
                    _log.warning("a feed gives no pictures", feed=self._feed.id, error=str(error))
                self._state, self._error, self._trouble = state, str(error), error.trouble
                self._pause((slowly if refused else soon).next_s())
                self._reconnects += 1

    def _read_once(self) -> None:
        pictures = sources.read(
            self._feed,
            jpeg_quality=self._jpeg_quality,
            pulse=self.pulse,
            stop=self.stop,
            limits=self._limits,
        )
        for picture in pictures:
            if self._state is not FeedState.LIVE:
                self._state, self._error, self._trouble = FeedState.LIVE, "", ""
                self._live_since = time.monotonic()
                self._kept_at.clear()
                _log.info("a feed is live", feed=self._feed.id, source=self._feed.source.masked)
            self._kept_at.append(time.monotonic())
            self.pictures.put(picture)

    def _pause(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0 and not self.stop.is_set():
            self.pulse.beat()
            self.stop.wait(min(left_s, 0.5))
        self.pulse.beat()


class FeedCapture:
    """Hands one reader's pictures to the bus and reports on it; one turn a picture."""

    def __init__(self, feed: Feed, reader: FeedReader, bus: Bus, jobs: Jobs) -> None:
        self._feed = feed
        self._reader = reader
        self._bus = bus
        self._jobs = jobs
        self._seq = 0
        self._report_at = 0.0
        self._reported: FeedState | None = None
        self._redis_away = False

    def turn(self) -> None:
        """Hand on one picture, if one comes in time; report and look for changes now and then."""
        picture = self._reader.pictures.take(0.2)
        try:
            if picture is not None:
                self._put(picture)
            if time.monotonic() >= self._report_at or self._reader.state is not self._reported:
                self.report()
                self._follow()
        except BusError as error:
            if not self._redis_away:
                _log.warning("Redis is away; pictures are dropped", feed=self._feed.id, error=error)
                self._redis_away = True
            self._reader.stop.wait(0.5)

    def report(self) -> None:
        self._report_at = time.monotonic() + _REPORT_EVERY_S
        report = self._reader.report()
        self._reported = report.state
        self._bus.report_capture(self._feed.id, report)
        if self._redis_away:
            _log.info("Redis is back", feed=self._feed.id)
            self._redis_away = False

    def finish(self) -> None:
        """Hand on the last pictures and the report that says that it is over."""
        with contextlib.suppress(BusError):
            while (picture := self._reader.pictures.take(0.0)) is not None:
                self._put(picture)
            self.report()

    def _follow(self) -> None:
        """Take the feed as it is now; of another source the parent makes another process."""
        try:
            feed = self._bus.feed(self._feed.id)
        except NotFound:  # as it is for a moment after Redis has restarted
            return
        self._feed = feed
        self._reader.limit(feed.fps, feed.width)

    def _put(self, picture: Picture) -> None:
        put = self._bus.put_frame(
            self._feed, picture.jpeg, picture.captured_at, after_seq=self._seq
        )
        # 0: the feed is not in the registry, as it is for a moment after Redis has restarted. If it
        # was removed, the parent ends this process.
        self._seq = put.seq or self._seq
        if put.wake:
            self._jobs.enqueue_drain()


def run_feed(settings: Settings, redis_url: str, feed_id: str) -> NoReturn:
    """Capture a feed until SIGTERM, SIGINT, the end of its source, or the end of the parent.

    Always ends the process, with one of the exit codes of `workers.capture`: a thread that hangs in
    a library must not keep it alive. The parent holds the other end of its standard input.
    """
    cv2.setNumThreads(1)
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    pulse = Pulse()
    threading.Thread(target=_watch, args=(feed_id, pulse), name="watch", daemon=True).start()
    bus = Bus(redis_url)
    try:
        feed, reconnects = _look_up(bus, feed_id, pulse, stopped)
    except NotFound:
        os._exit(EXIT_GONE)
    if feed is None:
        os._exit(EXIT_STOPPED)
    reader = FeedReader(feed, pulse, jpeg_quality=settings.jpeg_quality, reconnects=reconnects)
    capture = FeedCapture(feed, reader, bus, Jobs(redis_url))
    reader.start()
    while not stopped.is_set() and not reader.ended.is_set():
        capture.turn()
    if reader.ended.is_set():
        capture.finish()
        os._exit(EXIT_ENDED)
    reader.stop.set()
    reader.join(1.0)  # so that a camera is told goodbye
    os._exit(EXIT_STOPPED)


def _look_up(
    bus: Bus, feed_id: str, pulse: Pulse, stopped: threading.Event
) -> tuple[Feed | None, int]:
    """The feed, None if stopped meanwhile, and how often it was connected anew; waits for Redis."""
    while not stopped.is_set():
        pulse.beat()
        try:
            return bus.feed(feed_id), bus.statuses([feed_id])[feed_id].reconnects
        except BusError:
            stopped.wait(0.5)
    return None, 0


def _watch(feed_id: str, pulse: Pulse) -> None:
    """End this process when the parent has gone or the reader hangs.

    The parent's end of the pipe closes however it ends; asking for the parent's process id would
    miss a parent that ended before it was first asked for.
    """
    while True:
        readable, _, _ = select.select([0], [], [], 0.5)
        if readable and not os.read(0, 64):
            os._exit(EXIT_STOPPED)
        if pulse.age_s > HUNG_AFTER_S:
            _log.warning("a source hung; its capture process ends", feed=feed_id)
            os._exit(EXIT_HUNG)
