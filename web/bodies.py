"""Large bodies of requests, read as they come.

A bounded number is read at once, each holding one of the server's threads; a client that falls
silent is cut off, and one that is refused is heard out for a while, so that it hears the reason.
What is wanted of a video (`fps`, `start`, `end`) is read here too: both ways in take the same.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus

from flask import request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected

from shared.errors import InvalidRecord
from shared.video import VideoOptions
from web.parts import Hold
from web.problem import BadField, Refused

MAX_UPLOADS = 64  # bodies read at once
_MIB = 1024 * 1024
_PIECE_BYTES = 128 * 1024  # what a connection that breaks can lose
_SILENT_S = 60.0
_DISCARD_S = 5.0


class Bodies:
    """Turns to send a large body, and how large the file in it may be."""

    def __init__(self, max_upload_mb: int) -> None:
        self.max_bytes = max_upload_mb * _MIB
        self._max_upload_mb = max_upload_mb
        self._turns = threading.BoundedSemaphore(MAX_UPLOADS)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """For the time of reading one body; raises Refused (503) where too many are read."""
        if not self._turns.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MAX_UPLOADS} files are being sent already: send this one a little later.",
                retry_after_s=5,
            )
        try:
            with _heard_out():
                yield
        finally:
            self._turns.release()

    def require_small_enough(self, size_bytes: int) -> None:
        """Raise Refused (413) for a file that is larger than is taken."""
        if size_bytes > self.max_bytes:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The file is larger than {self._max_upload_mb} MB: send a shorter video, or raise "
                "MOODLINE_MAX_UPLOAD_MB.",
                field="file",
            )


def pieces(hold: Hold) -> Iterator[bytes]:
    """The body as it comes, until its end, or until `hold` is ended."""
    sock = connection()
    received = 0
    if sock is not None:
        sock.settimeout(_SILENT_S)
    try:
        while not hold.ended and (piece := request.stream.read(_PIECE_BYTES)):
            received += len(piece)
            yield piece
    except (ParseException, ClientDisconnected) as error:
        raise _cut_off() from error
    finally:
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.settimeout(None)
    if request.content_length is not None and received < request.content_length:
        raise _cut_off()


def options_of(fields: Mapping[str, str]) -> VideoOptions:
    fps, start_s, end_s = (_number(fields, name) for name in ("fps", "start", "end"))
    options = VideoOptions()
    for name, change in (
        ("fps", {"fps": fps}),
        ("start", {"start_s": start_s or 0.0}),
        ("end", {"end_s": end_s}),
    ):
        try:
            options = replace(options, **change)
        except InvalidRecord as error:
            raise BadField(name, f"{name!r} does not fit: {error}.") from error
    return options


def _number(fields: Mapping[str, str], name: str) -> float | None:
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadField(name, f"{name!r} must be a number, such as 2.5, and not {text[:40]!r}.")
    return number


def connection() -> socket.socket | None:
    """The socket of the current request, where the server tells."""
    sock = request.environ.get("gunicorn.socket")
    return sock if isinstance(sock, socket.socket) else None


@contextlib.contextmanager
def _heard_out() -> Iterator[None]:
    """Where a request is refused before its body was read: read some of it.

    Many clients listen only when they have said all, and would see a broken connection instead of
    the reason.
    """
    try:
        yield
    except Exception:
        sock = connection()
        deadline = time.monotonic() + _DISCARD_S
        with contextlib.suppress(OSError, ParseException):
            body = request.environ["wsgi.input"]
            if sock is not None:
                sock.settimeout(_DISCARD_S)
            while time.monotonic() < deadline and body.read(_PIECE_BYTES):
                pass
            if sock is not None:
                sock.settimeout(None)
        raise


def _cut_off() -> Refused:
    return Refused(
        HTTPStatus.BAD_REQUEST,
        "The connection broke before all had arrived: send the rest, or the file again.",
    )
