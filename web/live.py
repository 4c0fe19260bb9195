"""Frames to browsers over Socket.IO: the newest, one at a time, each with its own result.

A viewer gets the next frame of a feed only when it has acknowledged the one before; of those that
came meanwhile the newest waits for it, older ones are counted and forgotten. So a slow viewer sees
fewer frames, none of them old, and costs the same few bytes as one that never answers; how much is
under way to it at once is `web.pace`'s. The list of feeds goes out the same way, about once a
second, to those who asked for it. What a client's own camera sends goes on to `web.cameras`.

Events: see docs/API.md. Frames do not pass through Socket.IO's message queue: each web process
reads Redis itself and talks to its own clients (`web.wire`: in which form).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import structlog
from engineio.exceptions import EngineIOError
from flask import request
from flask_socketio import SocketIO

from shared.bus import Bus
from shared.errors import BusError, MoodlineError
from shared.recording_bus import RecordingBus
from web import feeds, readiness, wire
from web.cameras import Cameras
from web.follower import Follower, Shot
from web.pace import Pace

T = TypeVar("T")
_log = structlog.get_logger(__name__)
MAX_CLIENTS = 128  # each holds one of the server's threads
_TICK_S = 1.0
_HUNG_S = 1.5  # Redis's own time-out is longer than somebody should look at an old picture
_HUNG = "Redis takes connections and does not answer: see what it is busy with, or start it again."


class Slot(Generic[T]):
    """What one client has of an event that is not a frame: one in flight, the newest waiting.

    `send` gets an item and what to call when the client has acknowledged it.
    """

    def __init__(self, send: Callable[[T, Callable[..., None]], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._in_flight = False
        self._waiting: T | None = None
        self._closed = False

    def offer(self, item: T) -> None:
        """Send `item` now, or keep it in the place of what waited."""
        with self._lock:
            if self._closed:
                return
            if self._in_flight:
                self._waiting = item
                return
            self._in_flight = True
        self._send(item, self._acknowledged)

    def close(self) -> None:
        """Send nothing any more."""
        with self._lock:
            self._closed = True
            self._waiting = None

    def _acknowledged(self, *_answer: object) -> None:
        with self._lock:
            item, self._waiting = self._waiting, None
            self._in_flight = item is not None
        if item is not None:
            self._send(item, self._acknowledged)


class _Viewer:
    """One client that watches one feed."""

    def __init__(self, pace: Pace, *, adapts: bool) -> None:
        self._pace = pace
        self._lane = pace.open(adapts=adapts)
        self._lock = threading.Lock()
        self._order = (0, 0)

    def take(self, shot: Shot) -> None:
        # The first picture comes from who watches, the next ones from the follower's thread.
        with self._lock:
            if shot.order <= self._order:
                return
            self._order = shot.order
        self._pace.offer(self._lane, shot)

    def close(self) -> None:
        self._pace.close(self._lane)

    @property
    def skipped(self) -> int:
        return self._lane.skipped


class Live:
    """The Socket.IO side of one web process."""

    def __init__(
        self,
        socketio: SocketIO,
        bus: Bus,
        recordings: RecordingBus,
        follower: Follower,
        cameras: Cameras,
    ) -> None:
        self._socketio = socketio
        self._recordings = recordings
        self._cameras = cameras
        wire.prepare(socketio)
        self._bus = bus
        self._follower = follower
        self._lock = threading.Lock()
        self._clients: dict[str, Pace] = {}
        self._viewers: dict[str, dict[str, _Viewer]] = {}  # feed -> client -> viewer
        self._lists: dict[str, Slot[list[dict[str, Any]]]] = {}  # who wants the list of feeds
        self._problems: list[dict[str, str]] = []
        self._ticking: list[threading.Thread] = []
        self._tick_began = math.inf
        self._closed = threading.Event()
        self.frames_sent = 0
        self._skipped_before = 0
        handlers: Mapping[str, Callable[..., Any]] = {
            "connect": self._connect,
            "disconnect": self._disconnect,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "watch_feeds": self._watch_feeds,
            "clock": self._clock,
            "camera_start": self._camera_start,
            "camera_frame": self._camera_frame,
            "camera_stop": self._camera_stop,
        }
        for event, handler in handlers.items():
            socketio.on_event(event, handler)

    @property
    def clients(self) -> int:
        return len(self._clients)

    @property
    def frames_skipped(self) -> int:
        with self._lock:
            now = sum(v.skipped for row in self._viewers.values() for v in row.values())
        return self._skipped_before + now

    def close(self) -> None:
        """Say good-bye to every client and end the thread."""
        self._closed.set()
        for client in list(self._socketio.server.eio.sockets.values()):
            with contextlib.suppress(EngineIOError):
                client.close(wait=False)
        for thread in self._ticking:
            thread.join(2.0)

    # What clients say

    def _connect(self, _auth: object = None) -> bool:
        sid = _sid()
        with self._lock:
            if len(self._clients) >= MAX_CLIENTS:
                return False
            self._clients[sid] = Pace(
                lambda shot, jpeg, acknowledged: self._send_frame(sid, shot, jpeg, acknowledged)
            )
            if not self._ticking:
                for name, work in (("live", self._run), ("live-watch", self._watch_ticks)):
                    self._ticking.append(threading.Thread(target=work, name=name, daemon=True))
                    self._ticking[-1].start()
        return True

    def _disconnect(self, _reason: object = None) -> None:
        sid = _sid()
        with self._lock:
            self._clients.pop(sid, None)
            self._lists.pop(sid, None)
            watched = [feed for feed, row in self._viewers.items() if sid in row]
        for feed in watched:
            self._drop(sid, feed)
        self._cameras.leave(sid)

    def _watch(self, body: object = None) -> dict[str, object]:
        sid, feed = _sid(), _feed_of(body)
        if feed is None:
            return {"ok": False, "error": 'Say which feed: {"feed": "its id"}.'}
        self._drop(sid, feed)
        with self._lock:
            if sid not in self._clients:
                return _connection_ended()
            adapts = isinstance(body, dict) and body.get("adapt") is True
            viewer = _Viewer(self._clients[sid], adapts=adapts)
            self._viewers.setdefault(feed, {})[sid] = viewer
        try:
            self._follower.add(feed, viewer.take)
        except MoodlineError as error:
            self._drop(sid, feed)
            return {"ok": False, "error": str(error)}
        with self._lock:
            wanted = self._viewers.get(feed, {}).get(sid) is viewer
        if not wanted:  # gone, or watched once more, while this was under way
            self._follower.remove(feed, viewer.take)
        return {"ok": True}

    def _unwatch(self, body: object = None) -> dict[str, object]:
        feed = _feed_of(body)
        if feed is None or not self._drop(_sid(), feed):
            return {"ok": False, "error": "This feed was not being watched."}
        return {"ok": True}

    def _watch_feeds(self, _body: object = None) -> dict[str, object]:
        sid = _sid()

        def send(rows: list[dict[str, Any]], acknowledged: Callable[..., None]) -> None:
            self._emit(sid, "feeds", rows, acknowledged)

        slot = Slot(send)
        with self._lock:
            if sid in self._clients:
                self._lists[sid] = slot
            problems = self._problems
        self._emit(sid, "status", _status(problems))
        try:
            slot.offer(feeds.list_all(self._bus, self._recordings))
        except MoodlineError as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True}

    def _clock(self, _body: object = None) -> dict[str, float]:
        """Lets a page compare its clock with the one that frames are stamped with."""
        return {"now": time.time()}

    def _camera_start(self, body: object = None) -> dict[str, object]:
        return self._cameras.start(_sid(), body)

    def _camera_frame(self, meta: object = None, jpeg: object = None) -> dict[str, object]:
        sid = _sid()
        answer = self._cameras.frame(sid, meta, jpeg)
        if answer.get("ended") and sid not in self._clients:
            return _connection_ended()  # and the camera with it: the next one goes on
        return answer

    def _camera_stop(self, _body: object = None) -> dict[str, object]:
        return self._cameras.stop(_sid())

    # What they get

    def _send_frame(
        self, sid: str, shot: Shot, jpeg: bytes, acknowledged: Callable[..., None]
    ) -> None:
        meta = {**shot.meta, "sent_at": time.time(), "reduced": jpeg is not shot.jpeg}
        self.frames_sent += 1
        self._emit(sid, "frame", (meta, jpeg), acknowledged)

    def _emit(
        self, sid: str, event: str, data: Any, acknowledged: Callable[..., None] | None = None
    ) -> None:
        # Flask-SocketIO's own emit would wrap each acknowledgement in a request context.
        try:
            self._socketio.server.emit(event, data, to=sid, callback=acknowledged)
        except (EngineIOError, OSError, KeyError) as error:
            _log.debug("client is gone", event_name=event, reason=repr(error))

    def _drop(self, sid: str, feed: str) -> bool:
        """Forget that a client watches a feed; False if it did not."""
        with self._lock:
            row = self._viewers.get(feed, {})
            viewer = row.pop(sid, None)
            if not row:
                self._viewers.pop(feed, None)
            if viewer is not None:
                self._skipped_before += viewer.skipped
        if viewer is None:
            return False
        viewer.close()
        self._follower.remove(feed, viewer.take)
        return True

    # Once a second

    def _run(self) -> None:
        while not self._closed.wait(_TICK_S):
            self._tick_began = time.monotonic()
            try:
                self.tick()
                self._cameras.tick()
            except Exception:  # noqa: BLE001 - the thread serves every client, so it outlives a defect
                _log.exception("telling clients failed")
            self._tick_began = math.inf

    def _watch_ticks(self) -> None:
        """Say that Redis hangs, in the place of the thread that hangs with it."""
        while not self._closed.wait(_TICK_S / 4):
            if time.monotonic() - self._tick_began > _HUNG_S:
                self._tell([{"part": "redis", "detail": _HUNG}])

    def tick(self) -> None:
        """Tell clients what changed: problems, removed feeds, and how each feed is doing."""
        self._tell_problems()
        if any(problem["part"] in ("redis", "capture") for problem in self._problems):
            return  # an empty registry now is one that will be restored, not one without feeds
        with self._lock:
            if not self._viewers and not self._lists:
                return
        try:
            rows = feeds.list_all(self._bus, self._recordings)
        except BusError:
            return
        known = {row["id"] for row in rows}
        with self._lock:
            removed = [
                (f, sid) for f, row in self._viewers.items() if f not in known for sid in row
            ]
            lists = list(self._lists.values())
        for feed, sid in removed:
            self._drop(sid, feed)
            self._emit(sid, "feed_removed", {"feed": feed})
        for slot in lists:
            slot.offer(rows)

    def _tell_problems(self) -> None:
        self._tell([{"part": m.part, "detail": m.detail} for m in readiness.missing(self._bus)])

    def _tell(self, problems: list[dict[str, str]]) -> None:
        with self._lock:
            if problems == self._problems:
                return
            self._problems = problems
            clients = list(self._lists)
        for sid in clients:
            self._emit(sid, "status", _status(problems))


def _connection_ended() -> dict[str, object]:
    return {"ok": False, "error": "This connection has ended."}


def _status(problems: list[dict[str, str]]) -> dict[str, object]:
    return {"ok": not problems, "problems": problems}


def _sid() -> str:
    return str(request.sid)  # type: ignore[attr-defined]  # Flask-SocketIO puts it there


def _feed_of(body: object) -> str | None:
    feed = body.get("feed") if isinstance(body, dict) else None
    return feed if isinstance(feed, str) else None
