"""How much one client's connection has under way: what arrives while it is fresh, and no more.

Each feed a client watches has a lane: one picture under way, the newest waiting, older ones
counted and forgotten. All its lanes share one connection, and a slow one would carry a picture of
each at the same time, so that none arrives before all have. Hence a window, in bytes, over all
lanes: it grows with each picture that is acknowledged soon, and falls to what would have been soon
after one that was not (additive increase, multiplicative decrease, by delay, as in TCP Vegas).
Where that was not enough, what is larger than a lane's part of the window goes out smaller: once
may have been the client's own fault, being busy with something else.

How long a picture was under way can be told only where the client says how long it kept the
picture before it acknowledged. For the others the window stays open and pictures stay as they are.

Each client has a `Pace` of its own; any thread may call it. Sending happens in the thread that
made room or brought the picture, and must not block.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from web.follower import Shot

SLOW_S = 0.7  # longer under way than this, and the window narrows ...
_AIM_S = 0.45  # ... to what would have taken so long
_AGAIN = 8  # slow once more within so many pictures: it is the line
_STUCK_S = 4.0  # after so long a picture no longer keeps others back
_LEAST_BYTES = 8 * 1024
_FIRST_BYTES = 64 * 1024
_OPEN_BYTES = 256 * 1024  # from here on a connection counts as quick, and gets pictures whole
_MOST_BYTES = 8 * 1024 * 1024
_LONGEST_PAUSE_S = 10.0

Send = Callable[[Shot, bytes, Callable[..., None]], None]


class Lane:
    """One feed of one client. Its fields are its `Pace`'s business, but for `skipped`."""

    def __init__(self) -> None:
        self.skipped = 0
        self.waiting: Shot | None = None
        self.under_way = False
        self.closed = False
        self.sent_at = -math.inf
        self.not_before = -math.inf


@dataclass(frozen=True)
class _Parcel:
    lane: Lane
    size: int
    sent_at: float
    together: int  # bytes under way when it was sent, its own included


class Pace:
    """What goes to one client, and when.

    `send(shot, jpeg, acknowledged)` is called with the picture to send, which is smaller than the
    shot's own where the connection is slow. The client's answer goes to `acknowledged`: a mapping
    with `held_s` (seconds between receiving and acknowledging) and `pause_s` (how long the next
    picture of this feed is not wanted), both optional.
    """

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._parcels: dict[int, _Parcel] = {}
        self._tickets = itertools.count()
        self._window = _FIRST_BYTES
        self._narrowed_at = -math.inf
        self._narrow = False
        self._soon = _AGAIN  # pictures acknowledged soon since the window last narrowed
        self._adapts = False

    def open(self, *, adapts: bool) -> Lane:
        """A lane for one more feed; `adapts` once the client says that it tells `held_s`."""
        lane = Lane()
        with self._lock:
            self._adapts = self._adapts or adapts
            self._lanes.append(lane)
        return lane

    def close(self, lane: Lane) -> None:
        """Send nothing more on this lane."""
        with self._lock:
            lane.closed, lane.waiting = True, None
            if lane in self._lanes:
                self._lanes.remove(lane)
            late = self._clock() - _STUCK_S
            self._parcels = {
                ticket: parcel
                for ticket, parcel in self._parcels.items()
                if not parcel.lane.closed or parcel.sent_at > late
            }

    def offer(self, lane: Lane, shot: Shot) -> None:
        """Send `shot` now, or keep it in the place of what waited."""
        with self._lock:
            if lane.closed:
                return
            lane.skipped += lane.waiting is not None
            lane.waiting = shot
        self._send_what_fits()

    def _send_what_fits(self) -> None:
        while True:
            with self._lock:
                chosen = self._choose()
                if chosen is None:
                    return
                ticket, shot, most = chosen
            jpeg = shot.jpeg if most is None else shot.jpeg_within(most)
            with self._lock:
                reserved = self._parcels.get(ticket)
                if reserved is not None:
                    saved = len(jpeg) - reserved.size
                    self._parcels[ticket] = _Parcel(
                        reserved.lane, len(jpeg), reserved.sent_at, reserved.together + saved
                    )
            self._send(shot, jpeg, lambda *answer, ticket=ticket: self._done(ticket, answer))

    def _choose(self) -> tuple[int, Shot, int | None] | None:
        """The lane that has waited longest, if what waits there fits: its ticket, shot, limit."""
        now = self._clock()
        ready = [
            (lane, lane.waiting)
            for lane in self._lanes
            if lane.waiting is not None and not lane.under_way and lane.not_before <= now
        ]
        if not ready:
            return None
        lane, shot = min(ready, key=lambda each: each[0].sent_at)
        most = max(_LEAST_BYTES // 2, self._window // len(self._lanes)) if self._narrow else None
        size = len(shot.jpeg) if most is None else min(len(shot.jpeg), most)
        together = size + sum(
            parcel.size for parcel in self._parcels.values() if now - parcel.sent_at < _STUCK_S
        )
        if self._adapts and together > max(self._window, size):
            return None
        ticket = next(self._tickets)
        self._parcels[ticket] = _Parcel(lane, size, now, together)
        lane.waiting, lane.under_way, lane.sent_at = None, True, now
        return ticket, shot, most

    def _done(self, ticket: int, answer: tuple[object, ...]) -> None:
        said = answer[0] if answer and isinstance(answer[0], Mapping) else {}
        now = self._clock()
        with self._lock:
            parcel = self._parcels.pop(ticket, None)
            if parcel is None:
                return  # acknowledged before
            parcel.lane.under_way = False
            parcel.lane.not_before = now + min(_LONGEST_PAUSE_S, _seconds(said.get("pause_s")))
            if self._adapts:
                self._learn(parcel, now - parcel.sent_at - _seconds(said.get("held_s")))
        self._send_what_fits()

    def _learn(self, parcel: _Parcel, took_s: float) -> None:
        if took_s <= SLOW_S:
            self._soon += 1
            gain = parcel.size // 8 if self._narrow else parcel.size
            # Pictures come in few sizes, so less than the window may have been under way.
            known = int(parcel.together * SLOW_S / max(took_s, 0.001))
            self._window = max(self._window, min(self._window + gain, known, _MOST_BYTES))
            self._narrow = self._narrow and self._window < _OPEN_BYTES
        elif parcel.sent_at >= self._narrowed_at:  # else it was on its way before
            fresh = int(parcel.together * _AIM_S / took_s)
            self._window = max(_LEAST_BYTES, min(self._window, fresh))
            again = self._soon < _AGAIN and self._window < _OPEN_BYTES
            self._narrow = self._narrow or again
            self._narrowed_at = self._clock()
            self._soon = 0


def _seconds(value: object) -> float:
    """What a client gave as a time; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return max(0.0, float(value))
