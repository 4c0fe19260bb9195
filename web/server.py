"""Runs the application: gunicorn's threaded server in this one process.

Without gunicorn's parent process: `moodline up` (or Compose) is the supervisor, and a lone process
gives its port back the moment it dies. Each open Socket.IO connection and each MJPEG reader holds
a thread, and so does each video that is being sent here: there are as many threads as all of these
may have, and some for everything else. On SIGTERM and SIGINT requests get half a second to end,
then every connection is closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.sock import TCP6Socket, TCPSocket
from gunicorn.workers.gthread import TConn, ThreadWorker

from shared.bus import Bus
from shared.config import Settings
from shared.errors import ConfigError
from web import close_app, create_app
from web.bodies import MAX_UPLOADS
from web.live import MAX_CLIENTS
from web.pictures import MAX_STREAMS

_OTHER_THREADS = 32
_GRACE_S = 0.5
_BACKLOG = 256
_SILENT_CLIENT_MS = 15_000  # a client that takes nothing for so long is gone
_MAX_UNSENT_BYTES = 64 * 1024  # else the kernel would queue seconds of MJPEG for a slow client
_TCP_NOTSENT_LOWAT = 25  # Python has the name from 3.12 on


def serve(settings: Settings, redis_url: str) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError where the address cannot be had or would be open to others without a login.
    """
    settings.require_safe_web()
    listener = _listen(settings)
    bus = Bus(redis_url)
    app = create_app(settings, bus)
    try:
        _Server(app).serve(listener)
    finally:
        close_app(app)
        bus.close()


def _listen(settings: Settings) -> socket.socket:
    """The listening socket; raises ConfigError with the remedy."""
    address = (settings.host, settings.port)
    try:
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sys.platform == "linux":  # each connection inherits these
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_CLIENT_MS)
                listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _MAX_UNSENT_BYTES)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"The dashboard cannot listen on {settings.host}:{settings.port} ({error}): "
            "end the program that does, or set another MOODLINE_PORT or MOODLINE_HOST."
        ) from error
    return listener


def _is_no_silent_client(record: logging.LogRecord) -> bool:
    """Whether a line says more than that a client took nothing for too long, as players do."""
    return not (record.exc_info and isinstance(record.exc_info[1], TimeoutError))


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's settings, and its worker run in this process instead of in a child."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "threads": MAX_CLIENTS + MAX_STREAMS + MAX_UPLOADS + _OTHER_THREADS,
            "keepalive": 30,
            "graceful_timeout": 1,
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app

    def serve(self, listener: socket.socket) -> None:
        log = Logger(self.cfg)
        log.error_log.handlers.clear()  # lines go where all of this process go: see shared.log
        log.error_log.propagate = True
        log.error_log.setLevel(logging.ERROR)
        log.error_log.addFilter(_is_no_silent_client)
        kind = TCP6Socket if listener.family == socket.AF_INET6 else TCPSocket
        sock = kind(listener.getsockname(), self.cfg, log, fd=listener.detach())
        _Worker(0, os.getppid(), [sock], self, 30, self.cfg, log).init_process()


class _Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's threaded worker, made to end promptly and to need no parent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._busy: set[TConn] = set()

    def is_parent_alive(self) -> bool:
        return True

    def handle(self, conn: TConn) -> object:
        self._busy.add(conn)
        try:
            return super().handle(conn)
        finally:
            self._busy.discard(conn)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.alive:
            closer = threading.Timer(_GRACE_S, self._close_all)
            closer.daemon = True
            closer.start()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.handle_exit(sig, frame)

    def _close_all(self) -> None:
        """End what never ends by itself: sockets, streams, and clients that take nothing."""
        close_app(self.app.wsgi())
        for conn in list(self._busy):
            with contextlib.suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)
