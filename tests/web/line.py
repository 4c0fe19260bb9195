"""A line between a browser and a server that tests make slow, or cut without a word.

A TCP proxy in threads. What goes to the browser may be held to so many bytes a second; while cut,
nothing goes either way and no connection is closed, as when a cable is pulled.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_CHUNK_BYTES = 2048
_BUFFER_BYTES = 8 * 1024  # little, so that the server feels how slow the line is


class Line:
    """Forwards to `port` of this machine from a port of its own; a context manager."""

    def __init__(self, port: int) -> None:
        self.bytes_per_s: float | None = None
        self.cut = threading.Event()
        self._target = port
        self._closed = threading.Event()
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                browser, _ = self._listener.accept()
                server = socket.socket()
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
                server.connect(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [browser, server]
            for source, sink, held in ((browser, server, False), (server, browser, True)):
                threading.Thread(
                    target=self._forward, args=(source, sink, held), daemon=True
                ).start()

    def _forward(self, source: socket.socket, sink: socket.socket, held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._wait(len(data) if held else 0)
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _wait(self, count: int) -> None:
        """Until the line has carried so many bytes more, all its connections together."""
        while self.cut.is_set() and not self._closed.is_set():
            time.sleep(0.02)
        if self.bytes_per_s and count:
            with self._lock:
                self._free_at = max(self._free_at, time.monotonic()) + count / self.bytes_per_s
                free_at = self._free_at
            time.sleep(max(0.0, free_at - time.monotonic()))
