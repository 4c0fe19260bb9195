"""Keep every feed captured: one child process a feed, started, watched and stopped by the registry.

The registry in Redis says which feeds there are; this process follows it. It owns the feeds it
serves, so that several capture processes, on several machines, share the feeds without serving one
twice. Because the registry's Redis keeps nothing on disk, a file mirrors it (`FeedsFile`), and a
Redis that comes back empty is filled from there.

A child gets its feed's id and reads the rest, password included, from Redis: nothing secret stands
in a command line. It lives no longer than this process: its standard input is a pipe from here.

Not here: what a child does (`workers.capture_feed`), and reading pictures (`workers.sources`), so
that this process stays small: it imports neither OpenCV nor FFmpeg.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

import structlog

from shared.bus import Bus
from shared.config import Settings
from shared.errors import BusError, MoodlineError
from shared.jobs import Jobs
from shared.schema import CaptureReport, Feed, FeedState, Trouble
from shared.source import Source, SourceKind
from workers.kept_rows import KeptRows
from workers.recorders import recorders
from workers.trials import Trials

_log = structlog.get_logger(__name__)

# How a child says why it ended; 1 and 2 are Python's and the command line's own.
EXIT_STOPPED = 0
EXIT_ENDED = 20  # the source is at its end
EXIT_GONE = 21  # there is no such feed (any more)
EXIT_HUNG = 22  # the reader hung in a library

_TURN_S = 0.3
_EVERY_S = 1.0  # ticker, renewal of ownership, reports on feeds without a child
_REREAD_S = 5.0  # the registry is read again so often even where its version did not change
_STOP_GRACE_S = 2.0
_STEADY_S = 30.0  # a child that ran for so long is started again without a long pause


class Pauses:
    """How long to wait before trying again: each time longer, with jitter, to an upper limit.

    Jitter keeps the feeds of a recorder that came back from all knocking at once.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0

    def next_s(self) -> float:
        pause_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    def reset(self) -> None:
        self._failures = 0


class FeedsFile:
    """The feeds on disk, passwords included: only this user may read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = KeptRows(path, "feeds")

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.data_dir / "feeds.json")

    def load(self, *, drop_transient: bool = False) -> list[Feed]:
        """The feeds last saved; none if there is no file.

        `drop_transient` leaves out feeds that were named on the command line of an earlier run.
        """
        feeds = self._rows.load(lambda row: Feed.from_json(json.dumps(row)))
        return [feed for feed in feeds if not (drop_transient and feed.transient)]

    def save(self, feeds: Iterable[Feed]) -> None:
        """Replace the file as a whole; raises OSError where the folder cannot be written."""
        self._rows.save([json.loads(feed.to_json()) for feed in feeds])


class _Child:
    """The process of one feed, and when to start it again."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.reconnects = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._pauses = Pauses(0.5, 15.0)
        self._started_at = self._start_at = 0.0
        self._kill_at: float | None = None  # set while it was told to stop
        self._report: tuple[FeedState, str, str] | None = (
            None  # what to say while there is no process
        )

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def report(self) -> CaptureReport | None:
        """What to report of this feed, if its own process cannot."""
        if self._process is not None or self._report is None:
            return None
        state, error, trouble = self._report
        return CaptureReport(state, error, 0.0, self.reconnects, trouble=trouble)

    def change(self, feed: Feed) -> None:
        """Capture the feed as it is now.

        Only another source, or playing it another way, is the business of another process: all
        else the running one follows by itself, without missing a picture.
        """
        before, self.feed = self.feed, feed
        if (before.source, before.loop) == (feed.source, feed.loop):
            return
        self._report = None
        self._pauses.reset()
        self._start_at = 0.0
        self.stop()

    def stop(self) -> None:
        if self._process is not None and self._kill_at is None:
            self._process.terminate()
            self._kill_at = time.monotonic() + _STOP_GRACE_S

    def start_if_due(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        ended = self._report is not None and self._report[0] is FeedState.ENDED
        if self._process is None and not ended and time.monotonic() >= self._start_at:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
            self._started_at = time.monotonic()

    def reap(self) -> bool:
        """Notice the end of the process; True if it ended without having been told to."""
        if self._process is None:
            return False
        now = time.monotonic()
        code = self._process.poll()
        if code is None:
            if self._kill_at is not None and now > self._kill_at:
                self._process.kill()
            return False
        if self._process.stdin is not None:
            self._process.stdin.close()
        told, self._kill_at, self._process = self._kill_at is not None, None, None
        if told:
            return False
        self._died(code, now)
        return True

    def _died(self, code: int, now: float) -> None:
        if code == EXIT_ENDED:
            error = f"{self.feed.source.masked} has ended."
            self._report = FeedState.ENDED, error, Trouble.ENDED
            return
        if now - self._started_at > _STEADY_S:
            self._pauses.reset()
        self._start_at = now + self._pauses.next_s()
        reason, trouble = {
            EXIT_HUNG: ("The source hung and gave no picture; it is opened anew.", Trouble.HUNG),
            EXIT_GONE: ("The feed was not found; it is looked for again.", ""),
        }.get(
            code,
            (
                f"The capture process ended unexpectedly ({_ending(code)}); it starts again.",
                Trouble.CAPTURE_FAILED,
            ),
        )
        self._report = FeedState.RECONNECTING, reason, trouble
        _log.warning("a feed's capture process ended", feed=self.feed.id, reason=reason)


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


class Capture:
    """Follows the registry; one turn looks at everything once."""

    def __init__(
        self,
        bus: Bus,
        jobs: Jobs,
        file: FeedsFile,
        *,
        command: Callable[[str], Sequence[str]],
        environment: Mapping[str, str],
    ) -> None:
        self._bus = bus
        self._jobs = jobs
        self._file = file
        self._command = command
        self._environment = environment
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._feeds: list[Feed] = []
        self._saved: list[Feed] | None = None  # what the file holds, as far as is known
        self._save_failed = False
        self._version: int | None = None
        self._children: dict[str, _Child] = {}
        self._leaving: list[_Child] = []
        self._reread_at = self._every_at = 0.0
        self._in_trouble = ""

    def turn(self) -> None:
        """Follow the registry and look after the children; a Redis that is away is waited for."""
        self._reap()
        try:
            self._follow_registry()
            self._start_children()
        except MoodlineError as error:
            self._say_trouble(str(error))
        else:
            self._say_trouble("")

    @property
    def captured(self) -> dict[str, Source]:
        """What this process has open, or is about to, by feed."""
        return {id_: child.feed.source for id_, child in self._children.items() if child.runs}

    def stop(self) -> None:
        """End all children, within three seconds."""
        self._leaving += self._children.values()
        self._children.clear()
        for child in self._leaving:
            child.stop()
        while self._leaving:
            self._reap()
            time.sleep(0.02)

    def _follow_registry(self) -> None:
        now = time.monotonic()
        self._bus.capture_runs()
        version = self._bus.feeds_version()
        if version is None:
            # A Redis that is new, or that has restarted and forgotten.
            feeds = self._file.load() if self._version is None else self._feeds
            if self._bus.restore_feeds(feeds):
                _log.info("the list of feeds is restored", feeds=len(feeds))
            version = self._bus.feeds_version()
        if version != self._version or now >= self._reread_at:
            # A browser's camera is its web process's business, and ends with it.
            browser = SourceKind.BROWSER
            feeds = [feed for feed in self._bus.feeds() if feed.source.kind is not browser]
            if self._bus.feeds_version() != version:
                return  # changed, or lost with its Redis, while being read: look again next turn
            self._feeds = feeds
            self._version, self._reread_at = version, now + _REREAD_S
            self._every_at = 0.0
            self._mirror()
        if now >= self._every_at:
            self._every_at = now + _EVERY_S
            self._share_feeds()
            if self._bus.tick():
                self._jobs.enqueue_drain()

    def _mirror(self) -> None:
        if self._feeds == self._saved:
            return
        try:
            self._file.save(self._feeds)
            self._saved, self._save_failed = self._feeds, False
        except OSError as error:
            if not self._save_failed:
                _log.warning(
                    "the list of feeds cannot be saved and will not survive a restart: "
                    "make room, or set MOODLINE_DATA_DIR to a folder that can be written",
                    file=str(self._file.path),
                    reason=error.strerror,
                )
            self._save_failed = True

    def _share_feeds(self) -> None:
        """Take and keep the feeds that nobody else serves; give up those gone or disabled."""
        wanted = {feed.id: feed for feed in self._feeds if feed.enabled}
        mine = {id_ for id_ in wanted if self._bus.own_feed(id_, self._owner)}
        for feed_id in [id_ for id_ in self._children if id_ not in mine]:
            child = self._children.pop(feed_id)
            child.stop()
            self._leaving.append(child)
        for feed_id in mine:
            child = self._children.get(feed_id) or _Child(wanted[feed_id])
            self._children[feed_id] = child
            if child.feed != wanted[feed_id]:
                child.change(wanted[feed_id])
            if report := child.report:
                self._bus.report_capture(feed_id, report)

    def _start_children(self) -> None:
        leaving = {child.feed.id for child in self._leaving}
        for feed_id, child in self._children.items():
            if feed_id not in leaving:  # its former process may still hold the camera
                child.start_if_due(self._command(feed_id), self._environment)

    def _reap(self) -> None:
        for child in self._leaving:
            child.reap()
        self._leaving = [child for child in self._leaving if child.runs]
        for feed_id, child in self._children.items():
            if child.reap():
                with contextlib.suppress(BusError):
                    child.reconnects = self._bus.statuses([feed_id])[feed_id].reconnects + 1

    def _say_trouble(self, trouble: str) -> None:
        """Log what is wrong once, and once that it is over."""
        if trouble and not self._in_trouble:
            _log.warning("capture cannot follow the list of feeds", error=trouble)
        elif self._in_trouble and not trouble:
            _log.info("capture follows the list of feeds again")
        self._in_trouble = trouble


def run(settings: Settings, redis_url: str) -> None:
    """Capture all feeds that no other capture process serves, until SIGTERM or SIGINT."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    bus = Bus(redis_url)
    environment = {**os.environ, "REDIS_URL": redis_url}
    capture = Capture(
        bus,
        Jobs(redis_url),
        FeedsFile.of(settings),
        command=lambda feed_id: [sys.executable, "-m", "moodline", "capture-feed", feed_id],
        environment=environment,
    )
    trials = Trials(
        bus,
        command=[sys.executable, "-m", "moodline", "first-picture"],
        environment=environment,
    )
    recording = recorders(
        settings,
        bus,
        command=lambda id_: [sys.executable, "-m", "moodline", "record-feed", id_],
    )
    try:
        while not stopped.is_set():
            for turn in (capture.turn, recording.turn, lambda: trials.turn(capture.captured)):
                if stopped.is_set():  # where Redis is away, each of them takes seconds
                    break
                turn()
            stopped.wait(_TURN_S)
    finally:
        recording.begin_to_stop()
        trials.stop()
        capture.stop()
        recording.stop()
        bus.close()
