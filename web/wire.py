"""What python-socketio does on the wire, made fit for pictures.

`prepare` changes one server, before the first client comes:

- The packets of an event stay together and leave in one piece: the library sends an event and the
  picture that follows it one after the other, without a lock, while answers and other feeds' frames
  come from other threads.
- Who sends a long text, or an event with more than one picture, is hung up on: the library has one
  limit for everything, and gathers an event's pictures without any.

Events hold pictures as arguments of their own, not deeper within one. What is in the events, and
when they are sent, is told in `web.live`.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any

from engineio.async_drivers._websocket_wsgi import SimpleWebSocketWSGI
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket
from flask_socketio import SocketIO
from socketio.packet import Packet

_MAX_TEXT_BYTES = 16 * 1024  # of one event; only a camera's picture, which is no text, is larger
_NEXT_PACKET = "\x1e"  # between packets that one HTTP answer holds
_TEXT, _BINARY = 0x81, 0x82  # the first byte of a WebSocket frame that is a whole message


def prepare(socketio: SocketIO) -> None:
    """Make a server send and receive as this module says."""
    server = socketio.server
    server.packet_class = _Event
    engine = server.eio
    engine._async = {**engine._async, "websocket": _WebSocket}
    receive = engine.handlers["message"]

    def send(client: str, packet: Packet) -> None:
        encoded = packet.encode()
        if isinstance(encoded, list):
            engine.send_packet(client, _Whole(encoded))
        else:
            engine.send(client, encoded)

    def receive_small(client: str, message: str | bytes) -> None:
        if isinstance(message, str) and len(message) > _MAX_TEXT_BYTES:
            engine.disconnect(client)
            return
        receive(client, message)
        gathered = server._binary_packet.get(client)
        if gathered is not None and gathered.attachment_count > 1:
            engine.disconnect(client)

    server._send_packet = send
    engine.handlers["message"] = receive_small


class _Event(Packet):  # type: ignore[misc]  # python-socketio has no types
    """Looks for pictures among the arguments only; the library goes through all they hold."""

    @classmethod
    def data_is_binary(cls, data: Any) -> bool:
        return isinstance(data, list) and any(isinstance(part, bytes) for part in data)

    @classmethod
    def deconstruct_binary(cls, data: Any) -> tuple[Any, list[bytes]]:
        pictures = [part for part in data if isinstance(part, bytes)]
        numbers = iter(range(len(pictures)))
        return [
            {"_placeholder": True, "num": next(numbers)} if isinstance(part, bytes) else part
            for part in data
        ], pictures


class _Whole(EnginePacket):  # type: ignore[misc]  # nor has engineio
    """The packets of one event as one."""

    def __init__(self, parts: list[str | bytes]) -> None:
        super().__init__(MESSAGE)
        self._packets = [EnginePacket(MESSAGE, part) for part in parts]

    def encode(self, b64: bool = False) -> Any:
        """As text for HTTP, and as a list for `_WebSocket`."""
        parts = [packet.encode(b64) for packet in self._packets]
        return _NEXT_PACKET.join(parts) if b64 else parts


class _WebSocket(SimpleWebSocketWSGI):  # type: ignore[misc]
    """Sends what belongs together at once; nothing is compressed (`web.guard`)."""

    def send(self, message: str | bytes | list[str | bytes]) -> None:
        if not self.ws.connected:
            raise OSError("the connection has ended")
        parts = message if isinstance(message, list) else [message]
        self.ws.sock.sendall(b"".join(map(_framed, parts)))

    def close(self) -> None:
        """Close also what the server has closed already while it ends."""
        with contextlib.suppress(OSError):
            super().close()


def _framed(message: str | bytes) -> bytes:
    """A WebSocket message in one frame, as servers send it (RFC 6455, 5.2)."""
    kind, payload = (_BINARY, message) if isinstance(message, bytes) else (_TEXT, message.encode())
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", kind, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", kind, 126, size)
    else:
        head = struct.pack("!BBQ", kind, 127, size)
    return head + payload
