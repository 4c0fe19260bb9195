"""The first picture of a source, before it becomes a feed: `POST /api/feeds/test`.

This process opens nothing, and may be on another machine than the cameras: it asks a capture
process over Redis and waits for the answer, some seconds at most. How many may be asked for is
bounded, because each opens a connection to wherever somebody wrote.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flask import Blueprint, Response

from shared.bus import Bus
from shared.schema import FirstPicture, Trial
from shared.source import Source
from web import feeds
from web.problem import Refused

_AT_ONCE = 2
_A_MINUTE = 20
_TAKEN_WITHIN_S = 4.0
_ANSWER_WITHIN_S = 10.0  # longer than capture's own limit, which says what was wrong
_LOOK_EVERY_S = 1.0
_EXAMPLE = '{"source": "rtsp://user:password@host/path"}'


class _Allowance:
    """How many sources may be tried: a few at once, and not too many in a minute."""

    def __init__(self) -> None:
        self._at_once = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._begun_at: deque[float] = deque(maxlen=_A_MINUTE)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One trial; raises Refused where it is one too many."""
        if not self._at_once.acquire(blocking=False):
            raise _too_many(f"{_AT_ONCE} sources are being tried", retry_after_s=2)
        try:
            with self._lock:
                full = len(self._begun_at) == _A_MINUTE
                left_s = self._begun_at[0] + 60.0 - time.monotonic() if full else 0.0
                if left_s > 0:
                    raise _too_many(
                        f"{_A_MINUTE} sources were tried within a minute",
                        retry_after_s=int(left_s) + 1,
                    )
                self._begun_at.append(time.monotonic())
            yield
        finally:
            self._at_once.release()


def blueprint(bus: Bus) -> Blueprint:
    """``/api/feeds/test``."""
    bp = Blueprint("trials", __name__)
    allowance = _Allowance()

    @bp.post("/api/feeds/test")
    def test() -> Response:
        source = feeds.source_from_request(_EXAMPLE)
        with allowance.turn():
            found = _try(bus, source)
        if found.problem:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                found.problem,
                field="source",
                error_kind=found.trouble or None,
                source=source.masked,
            )
        headers = {"Moodline-Feed": found.feed} if found.feed else {}
        return Response(found.jpeg, mimetype="image/jpeg", headers=headers)

    return bp


def _try(bus: Bus, source: Source) -> FirstPicture:
    if not bus.capture_is_running():
        raise _nobody()
    trial = bus.ask_trial(source)
    if trial is None:
        raise _too_many("Other sources wait to be tried", retry_after_s=5)
    return _wait(bus, trial)


def _wait(bus: Bus, trial: Trial) -> FirstPicture:
    asked_at = time.monotonic()
    while (waited_s := time.monotonic() - asked_at) < _ANSWER_WITHIN_S + _TAKEN_WITHIN_S:
        answer = bus.first_picture(trial.id, _LOOK_EVERY_S)
        if answer is not None:
            return answer
        if waited_s > _TAKEN_WITHIN_S and bus.withdraw_trial(trial.id):
            raise _nobody()
    raise Refused(
        HTTPStatus.GATEWAY_TIMEOUT,
        "The capture process that tried the source gave no answer: see its log, and try again.",
    )


def _nobody() -> Refused:
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "No capture process runs that could open the source: run `moodline up` or "
        "`moodline capture`, then try again.",
        retry_after_s=2,
    )


def _too_many(what: str, *, retry_after_s: int) -> Refused:
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"{what}: try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )
