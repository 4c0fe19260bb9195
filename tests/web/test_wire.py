from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
import websocket

from shared.bus import Bus
from tests import builders
from tests.web.conftest import Server
from tests.web.studio import Studio

FEEDS = ("one", "two", "three")


@pytest.fixture
def line(server: Server) -> Iterator[websocket.WebSocket]:
    """A bare WebSocket that offers what browsers offer, and is past the greetings."""
    connection = websocket.create_connection(
        f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket",
        header=["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
        timeout=10,
    )
    connection.recv()
    connection.send("40")
    connection.recv()
    yield connection
    connection.close()


def test_each_picture_follows_its_event_at_once(line: websocket.WebSocket, bus: Bus) -> None:
    with Studio(bus, [builders.feed(feed) for feed in FEEDS], fps=15):
        for number, feed in enumerate(FEEDS):
            line.send(f'42{number}["watch",{{"feed":"{feed}"}}]')
        line.send('42["watch_feeds"]')
        received: list[str | bytes] = []
        while sum(isinstance(message, bytes) for message in received) < 40:
            received.append(line.recv())
            if isinstance(received[-1], str) and received[-1].startswith("451-"):
                line.send("43" + received[-1][len("451-") : received[-1].index("[")] + "[{}]")
    assert any('["feeds",' in str(message) for message in received)
    for message, following in itertools.pairwise(received):
        with_picture = isinstance(message, str) and message.startswith("451-")
        assert isinstance(following, bytes) == with_picture
        if isinstance(message, str) and isinstance(following, bytes):
            event, meta, picture = json.loads(message[message.index("[") :])
            assert (event, picture) == ("frame", {"_placeholder": True, "num": 0})
            assert meta["feed"] in FEEDS
            assert following.startswith(b"\xff\xd8")


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_pictures_of_any_length_arrive_as_they_were(
    line: websocket.WebSocket, bus: Bus, size: int
) -> None:
    picture = b"\xff\xd8" + bytes(size - 2)
    studio = Studio(bus, [builders.feed()], lambda _: (picture, ()))
    studio.turn()
    line.send('427["watch",{"feed":"cam"}]')
    received = [line.recv() for _ in range(3)]
    assert [message for message in received if isinstance(message, bytes)] == [picture]
