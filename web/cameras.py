"""Cameras of people's browsers: pictures that arrive over Socket.IO become a feed like any other.

This process does for such a feed what a capture process does for the others: it owns the feed,
stores the pictures, wakes the workers, and reports once a second. What it promises:

- A feed lasts as long as its camera. It goes when the client stops or disconnects, when nothing
  has come for `GONE_AFTER_S`, and when this process ends; if that is killed, the next web process
  clears up. A Redis that lost its memory is given the feed again.
- Nobody sends more than a feed takes. Of each camera one picture at a time is looked at, no more
  than the feed's frames a second; what is too much is dropped, counted, and costs next to nothing.
- Only JPEG of a bounded size gets to the workers; the header says so, nothing is decoded here.

Who may connect at all is the guard's business (`web.guard`).
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import deque

import structlog
from PIL import Image

from shared.bus import Bus
from shared.config import Settings
from shared.errors import BusError, Conflict, InvalidRecord, MoodlineError, NotFound
from shared.jobs import Jobs
from shared.schema import MAX_NAME_LENGTH, CaptureReport, Feed, FeedState, Trouble
from shared.source import Source, SourceKind

_log = structlog.get_logger(__name__)

MAX_CAMERAS = 16  # at once, of all web processes
MAX_JPEG_BYTES = 360 * 1024  # as base64, over polling, it still fits into one message
STALLED_AFTER_S = 2.0
GONE_AFTER_S = 8.0
_MIN_SIDE_PX = 16
_BURST = 2.0  # pictures that may come at once: networks bunch them
_RATE_SPAN_S = 3.0
_MAX_AGE_S = 2.0  # a client that says more of its picture has a wrong clock


class _Camera:
    """One client's camera; `lock` is held while a picture of it is stored, and to end it."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.lock = threading.Lock()
        self.over = False
        self.registry = ""  # where the feed was entered
        self.seq = 0
        self.heard_at = time.monotonic()
        self.too_fast = 0
        self.reported: FeedState | None = None
        self._captured_at = 0.0
        self._kept_at: deque[float] = deque(maxlen=256)
        self._allowance = _BURST
        self._asked_at = self._live_since = time.monotonic()

    @property
    def state(self) -> FeedState:
        if not self._kept_at:
            return FeedState.STARTING
        silent = time.monotonic() - self._kept_at[-1] > STALLED_AFTER_S
        return FeedState.STALLED if silent else FeedState.LIVE

    def report(self) -> CaptureReport:
        """How the camera does now; frames/s are counted over the last three seconds at most."""
        now, state = time.monotonic(), self.state
        kept = sum(at >= now - _RATE_SPAN_S for at in self._kept_at.copy())
        error = trouble = ""
        if state is FeedState.STALLED:
            error = (
                "The browser sends no pictures: look at the page that the camera was started on."
            )
            trouble = Trouble.BROWSER_SILENT
        span_s = min(_RATE_SPAN_S, max(1.0, now - self._live_since))
        return CaptureReport(state, error, kept / span_s, too_fast=self.too_fast, trouble=trouble)

    def has_turn(self) -> bool:
        """Whether one more picture may come now."""
        now = time.monotonic()
        earned = (now - self._asked_at) * self.feed.fps
        self._asked_at = now
        self._allowance = min(_BURST, self._allowance + earned)
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True

    def time_of(self, meta: object) -> float:
        """When the picture that arrives now was taken (epoch seconds).

        As its sender says, if that may be: not before the last one, not long ago, not ahead.
        """
        now = time.time()
        claimed = meta.get("captured_at") if isinstance(meta, dict) else None
        if isinstance(claimed, bool) or not isinstance(claimed, int | float):
            claimed = now
        earliest = max(self._captured_at, now - _MAX_AGE_S)
        self._captured_at = claimed if earliest < claimed <= now else now
        return self._captured_at

    def kept(self) -> None:
        """A picture was stored."""
        self._kept_at.append(time.monotonic())


class Cameras:
    """The cameras of one web process's clients, at most one each. Safe to use from any thread.

    `name` tells this process from others. Answers are those of the Socket.IO contract; one that
    says `ended` means that the camera is off and has to be started anew.
    """

    def __init__(self, settings: Settings, bus: Bus, jobs: Jobs, name: str) -> None:
        self._settings = settings
        self._bus = bus
        self._jobs = jobs
        self._name = name
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._cameras: dict[str, _Camera] = {}

    def start(self, client: str, body: object) -> dict[str, object]:
        """Make a feed of a client's camera; the answer says what its pictures may be."""
        try:
            with self._starting:
                feed = self._start(client, _name_in(body))
        except MoodlineError as error:
            return {"ok": False, "error": str(error)}
        _log.info("a browser's camera is on", feed=feed.id)
        return {"ok": True, "feed": feed.id, "fps": feed.fps, "width": feed.width}

    def frame(self, client: str, meta: object, jpeg: object) -> dict[str, object]:
        """Store one picture of a client's camera."""
        with self._lock:
            camera = self._cameras.get(client)
        if camera is None:
            return {
                "ok": False,
                "ended": True,
                "error": "No camera of this connection is on: send camera_start first.",
            }
        camera.heard_at = time.monotonic()
        if not camera.lock.acquire(blocking=False):
            return self._too_fast(camera)
        try:
            if not camera.has_turn():
                return self._too_fast(camera)
            self._store(camera, camera.time_of(meta), _checked(jpeg, camera.feed.width))
        except NotFound as error:
            with self._lock:
                self._cameras.pop(client, None)
            return {"ok": False, "ended": True, "error": str(error)}
        except MoodlineError as error:
            return {"ok": False, "error": str(error)}
        finally:
            camera.lock.release()
        return {"ok": True}

    def stop(self, client: str) -> dict[str, object]:
        """Take a client's camera away, on its request."""
        if not self.leave(client):
            return {"ok": False, "error": "No camera of this connection is on."}
        return {"ok": True}

    def leave(self, client: str) -> bool:
        """Take a client's camera away, since it is gone; False if it had none."""
        with self._lock:
            camera = self._cameras.pop(client, None)
        if camera is None:
            return False
        self._end(camera)
        return True

    def tick(self) -> None:
        """Once a second: report, let go who fell silent, and clear up after a killed process."""
        with self._lock:
            cameras = dict(self._cameras)
        for client, camera in cameras.items():
            if time.monotonic() - camera.heard_at > GONE_AFTER_S:
                self.leave(client)
        try:
            for camera in cameras.values():
                self._report(camera)
            self._clear_up()
        except BusError as error:
            _log.debug("browsers' cameras cannot be reported", reason=str(error))

    def close(self) -> None:
        """Take all cameras away."""
        with self._lock:
            clients = list(self._cameras)
        for client in clients:
            self.leave(client)

    def _start(self, client: str, name: str | None) -> Feed:
        feed = Feed.new(
            Source.browser(),
            name=name,
            fps=self._settings.fps,
            width=self._settings.width,
            transient=True,
        )
        with self._lock:
            if client in self._cameras:
                raise Conflict("This connection's camera is on already: send camera_stop first.")
        if len(self._feeds()) >= MAX_CAMERAS:
            raise Conflict(
                f"{MAX_CAMERAS} cameras of browsers are on, and more are not taken: "
                "stop one of them, then try again."
            )
        camera = _Camera(feed)
        with self._lock:
            self._cameras[client] = camera  # before it is entered: else it would be cleared up
        try:
            self._enter(camera)
            self._report(camera)
        except MoodlineError:
            with self._lock:
                self._cameras.pop(client, None)
            raise
        return feed

    def _enter(self, camera: _Camera) -> None:
        """Put the feed into the registry; owned first, so that nobody clears it up."""
        camera.registry = self._bus.registry_id()
        self._bus.own_feed(camera.feed.id, self._name)
        self._bus.put_feed(camera.feed)

    def _store(self, camera: _Camera, captured_at: float, jpeg: bytes) -> None:
        if camera.over:
            raise _removed()
        feed = camera.feed
        put = self._bus.put_frame(feed, jpeg, captured_at, after_seq=camera.seq)
        if not put.seq:
            if self._bus.registry_id() == camera.registry:
                raise _removed()
            self._enter(camera)  # Redis has started anew and knows nothing of it
            put = self._bus.put_frame(feed, jpeg, captured_at, after_seq=camera.seq)
        camera.seq = put.seq or camera.seq
        camera.kept()
        if put.wake:
            self._jobs.enqueue_drain()
        if camera.reported is not FeedState.LIVE:
            self._report(camera)

    def _report(self, camera: _Camera) -> None:
        if camera.over:
            return
        report = camera.report()
        self._bus.own_feed(camera.feed.id, self._name)
        self._bus.report_capture(camera.feed.id, report)
        camera.reported = report.state

    def _too_fast(self, camera: _Camera) -> dict[str, object]:
        with self._lock:
            camera.too_fast += 1
        return {"ok": True, "dropped": "too_fast"}

    def _end(self, camera: _Camera) -> None:
        with camera.lock:
            camera.over = True
            self._remove(camera.feed.id)
        _log.info("a browser's camera is off", feed=camera.feed.id)

    def _remove(self, feed_id: str) -> None:
        # Somebody may have removed it. While Redis is away it stays, and is cleared up later.
        with contextlib.suppress(NotFound, BusError):
            self._bus.remove_feed(feed_id)

    def _clear_up(self) -> None:
        """Remove feeds whose web process is gone: those that can be owned."""
        with self._lock:
            mine = {camera.feed.id for camera in self._cameras.values()}
        for feed_id in self._feeds():
            if feed_id not in mine and self._bus.own_feed(feed_id, self._name):
                self._remove(feed_id)

    def _feeds(self) -> list[str]:
        return [feed.id for feed in self._bus.feeds() if feed.source.kind is SourceKind.BROWSER]


def _removed() -> NotFound:
    return NotFound("This camera's feed was removed: start the camera again to go on.")


def _name_in(body: object) -> str | None:
    """The name that a client gives its camera; raises InvalidRecord."""
    name = body.get("name") if isinstance(body, dict) else None
    if name is None:
        return None
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidRecord(f"'name' must be text of at most {MAX_NAME_LENGTH} characters.")
    return name


def _checked(jpeg: object, longest_px: int) -> bytes:
    """The picture, if it is one that a worker can safely be given; raises InvalidRecord."""
    if not isinstance(jpeg, bytes):
        raise InvalidRecord("The picture is missing: send camera_frame (meta, JPEG as bytes).")
    if len(jpeg) > MAX_JPEG_BYTES:
        raise InvalidRecord(
            f"The picture has {len(jpeg) // 1024} KiB, and {MAX_JPEG_BYTES // 1024} are taken: "
            "send it smaller, or with a lower JPEG quality."
        )
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
            size = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidRecord("This is no JPEG picture: send JPEG, whole.") from error
    if max(size) > longest_px or min(size) < _MIN_SIDE_PX:
        raise InvalidRecord(
            f"The picture is {size[0]} x {size[1]} pixels: its longer side may have {longest_px}, "
            f"its shorter no fewer than {_MIN_SIDE_PX}."
        )
    return jpeg
