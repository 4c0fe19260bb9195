from __future__ import annotations

import io
import itertools
import socket
import time
import urllib.request

from flask.testing import FlaskClient
from PIL import Image

from shared.bus import Bus
from tests import builders
from tests.web.conftest import Server, wait_until
from tests.web.studio import HEIGHT, WIDTH, Studio, square_at


def test_a_snapshot_shows_the_newest_picture_with_its_faces(client: FlaskClient, bus: Bus) -> None:
    studio = Studio(bus, [builders.feed()])
    waiting = client.get("/api/feeds/cam/snapshot.jpg")
    assert waiting.status_code == 503
    assert waiting.headers["Retry-After"]
    studio.turn()
    studio.turn()
    answer = client.get("/api/feeds/cam/snapshot.jpg")
    assert answer.content_type == "image/jpeg"
    assert answer.headers["Cache-Control"] == "no-store"
    picture = Image.open(io.BytesIO(answer.data)).convert("RGB")
    assert picture.size == (WIDTH, HEIGHT)
    x, y, width, height = square_at(2)
    inside = picture.getpixel((x + width // 2, y + height // 2))
    edge = picture.getpixel((x + 1, y + height // 2))
    assert isinstance(inside, tuple)
    assert isinstance(edge, tuple)
    assert min(inside) > 240  # the square of this very picture
    assert max(edge) - min(edge) > 25  # framed in the colour of its emotion


def next_part(stream: io.BufferedIOBase) -> tuple[float, bytes]:
    """One part of a multipart stream: its time and its picture."""
    assert stream.readline().startswith(b"--moodline-picture")
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    picture = stream.read(int(headers[b"content-length"]))
    stream.readline()
    return float(headers[b"x-timestamp"]), picture


def test_the_stream_gives_each_reader_the_newest_picture_until_it_goes(
    server: Server, bus: Bus
) -> None:
    with Studio(bus, [builders.feed()]):
        wait_until(lambda: bus.latest("cam"))
        url = f"{server.url}/api/feeds/cam/stream.mjpg"
        with urllib.request.urlopen(url) as first, urllib.request.urlopen(url) as second:
            assert first.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            times = []
            for _ in range(6):
                at, picture = next_part(first)
                times.append(at)
                assert Image.open(io.BytesIO(picture)).size == (WIDTH, HEIGHT)
            assert times == sorted(set(times))
            time.sleep(0.8)
            drained = [next_part(second)[0] for _ in range(3)]
            assert drained == sorted(set(drained))
            wait_until(lambda: bus.statuses(["cam"])["cam"].viewers == 2)
        wait_until(lambda: bus.statuses(["cam"])["cam"].viewers == 0)


def test_a_reader_that_stops_reading_gets_fresh_pictures_when_it_goes_on(
    server: Server, bus: Bus
) -> None:
    with Studio(bus, [builders.feed()]), socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(b"GET /api/feeds/cam/stream.mjpg HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with slow.makefile("rb") as stream:
            while stream.readline().strip():
                pass
            next_part(stream)
            time.sleep(4)
            times = [next_part(stream)[0] for _ in range(30)]
        assert time.time() - times[-1] < 1.0
        # What it did not read was never queued for it.
        assert max(b - a for a, b in itertools.pairwise(times)) > 1.0


def test_the_stream_ends_with_its_feed(server: Server, bus: Bus) -> None:
    with Studio(bus, [builders.feed()]) as studio:
        wait_until(lambda: bus.latest("cam"))
        with urllib.request.urlopen(f"{server.url}/api/feeds/cam/stream.mjpg") as stream:
            next_part(stream)
            studio.stop()
            bus.remove_feed("cam")
            while stream.readline():
                pass


def test_asking_only_for_the_head_leaves_no_reader(client: FlaskClient, bus: Bus) -> None:
    Studio(bus, [builders.feed()])
    with client.head("/api/feeds/cam/stream.mjpg") as answer:
        assert answer.status_code == 200
    live, _, follower, *_ = client.application.extensions["moodline"]
    assert live.clients == 0
    assert follower.viewers() == {}
