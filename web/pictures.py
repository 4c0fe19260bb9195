"""Annotated pictures for other programs: a still, and MJPEG.

A client of the stream gets the newest picture each time it is ready for one, so a slow one sees
fewer and nothing queues. One drawing serves all clients of a feed; nobody watching, nothing drawn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

from flask import Blueprint, Response

from shared.bus import Bus
from shared.errors import BusError, NotFound
from web.follower import Follower, Shot
from web.problem import problem

MAX_STREAMS = 32  # each holds one of the server's threads
_REPEAT_S = 5.0  # a stalled feed's picture is sent again, which finds out who has gone
_NEVER_STORE = {"Cache-Control": "no-store"}
_BOUNDARY = "moodline-picture"


def blueprint(bus: Bus, follower: Follower) -> Blueprint:
    """The routes of pictures below ``/api/feeds/{id}``."""
    bp = Blueprint("pictures", __name__, url_prefix="/api/feeds/<feed_id>")
    free_streams = threading.BoundedSemaphore(MAX_STREAMS)

    @bp.get("/snapshot.jpg")
    def snapshot(feed_id: str) -> Response:
        bus.feed(feed_id)
        newest = bus.latest(feed_id)
        if newest is None or newest.jpeg is None:
            answer = problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "No picture of this feed has been analysed yet: wait a second, and see /readyz "
                "for what may be missing.",
            )
            answer.headers["Retry-After"] = "1"
            return answer
        shot = Shot(newest, newest.jpeg)
        return Response(shot.annotated(), mimetype="image/jpeg", headers=_NEVER_STORE)

    @bp.get("/stream.mjpg")
    def stream(feed_id: str) -> Response:
        if not free_streams.acquire(blocking=False):
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MAX_STREAMS} programs read MJPEG already: close one of them.",
            )
        try:
            client = _Client(bus, follower, feed_id)
        except Exception:
            free_streams.release()
            raise
        answer = Response(
            _parts(client),
            content_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}",
            headers=_NEVER_STORE,
        )
        # Not the generator's business: one that never started would not run its end either.
        answer.call_on_close(client.close)
        answer.call_on_close(free_streams.release)
        return answer

    return bp


class _Client:
    """What one program has yet to see of a feed: the newest picture or nothing."""

    def __init__(self, bus: Bus, follower: Follower, feed_id: str) -> None:
        self._bus = bus
        self._follower = follower
        self._feed_id = feed_id
        self._arrived = threading.Condition()
        self._newest: Shot | None = None
        follower.add(feed_id, self._take)

    def _take(self, shot: Shot) -> None:
        with self._arrived:
            if self._newest is None or shot.order > self._newest.order:
                self._newest = shot
                self._arrived.notify()

    def next_after(self, last: Shot | None) -> Shot | None:
        """The newest after `last`, or `last` again after a while; None: the feed is gone."""
        repeat_at = time.monotonic() + _REPEAT_S
        while not self._follower.closed:
            with self._arrived:
                self._arrived.wait_for(lambda: self._newest is not last, timeout=0.5)
                if self._newest is not last:
                    return self._newest
            try:
                self._bus.feed(self._feed_id)
            except NotFound:
                return None
            except BusError:
                continue
            if last is not None and time.monotonic() > repeat_at:
                return last
        return None

    def close(self) -> None:
        self._follower.remove(self._feed_id, self._take)


def _parts(client: _Client) -> Iterator[bytes]:
    last: Shot | None = None
    while (shot := client.next_after(last)) is not None:
        jpeg = shot.annotated()
        yield (
            (
                f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
                f"X-Timestamp: {shot.result.captured_at:.3f}\r\n\r\n"
            ).encode()
            + jpeg
            + b"\r\n"
        )
        last = shot
