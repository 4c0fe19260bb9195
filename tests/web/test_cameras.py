"""A client's own camera over Socket.IO: the server as it is run, and clients that misbehave."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import socketio
from flask import request
from PIL import Image
from socketio.exceptions import BadNamespaceError, TimeoutError

from shared import redis_server
from shared.bus import LEASE_S, Bus
from shared.jobs import Jobs
from shared.schema import Drop, Feed, FeedState
from shared.source import Source
from tests.web.conftest import Server, settings, start, stop, wait_until
from web import close_app, create_app
from web.cameras import MAX_CAMERAS, MAX_JPEG_BYTES, Cameras
from web.live import Live


def jpeg(width: int = 320, height: int = 240) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 40)).save(out, "JPEG")
    return out.getvalue()


class Client:
    """A Socket.IO client with a camera."""

    def __init__(self, url: str, **options: Any) -> None:
        self.socket = socketio.Client(reconnection=False)
        self.socket.connect(url, **options)
        websocket = self.socket.eio.ws
        self._connection = websocket.sock if websocket is not None else None

    def start(self, name: object = "Me") -> Any:
        return self.socket.call("camera_start", {"name": name}, timeout=10)

    def send(self, picture: object = None, **meta: object) -> Any:
        content = jpeg() if picture is None else picture
        return self.socket.call("camera_frame", (meta, content), timeout=10)

    def stop(self) -> Any:
        return self.socket.call("camera_stop", {}, timeout=10)

    def close(self) -> None:
        self.socket.disconnect()
        if self._connection is not None:
            self._connection.close()  # which the library leaves open when it is hung up on


@pytest.fixture
def connect(server: Server, bus: Bus) -> Iterator[Callable[..., Client]]:
    """Connects clients to the server, on an empty bus."""
    assert bus.feeds() == []
    clients: list[Client] = []

    def connect_one(**options: Any) -> Client:
        clients.append(Client(server.url, **options))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.close()
    wait_until(lambda: not bus.feeds())


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_camera_becomes_a_feed_whose_pictures_wait_for_workers(
    connect: Callable[..., Client], bus: Bus, transport: str
) -> None:
    client = connect(transports=[transport])
    answer = client.start("Küche 1")
    (feed,) = bus.feeds()
    assert answer == {"ok": True, "feed": feed.id, "fps": 15.0, "width": 640}
    assert (feed.name, feed.source.kind, feed.transient) == ("Küche 1", "browser", True)
    assert bus.statuses([feed.id])[feed.id].state is FeedState.STARTING
    picture = jpeg()
    before = time.time()
    assert client.send(picture) == {"ok": True}
    assert bus.statuses([feed.id])[feed.id].state is FeedState.LIVE
    (claim,) = bus.claim("drain", max_feeds=8, max_frames=8, staleness_s=5)
    (frame,) = claim.frames
    assert (frame.feed, frame.seq, frame.jpeg) == (feed.id, 1, picture)
    assert before <= frame.captured_at <= time.time()
    assert Jobs(bus.url)._live.count == 1, "no worker was woken"


def test_stopping_takes_the_feed_away_and_one_can_start_again(
    connect: Callable[..., Client], bus: Bus
) -> None:
    client = connect()
    first = client.start()["feed"]
    client.send()
    assert client.stop() == {"ok": True}
    assert bus.feeds() == []
    assert bus._redis.keys(f"*feed:{first}:*") == []
    assert client.stop()["ok"] is False
    assert client.start()["feed"] != first
    assert client.send()["ok"]


def test_disconnecting_takes_the_feed_away(connect: Callable[..., Client], bus: Bus) -> None:
    client, other = connect(), connect()
    client.start()
    stays = other.start()["feed"]
    client.close()
    wait_until(lambda: [feed.id for feed in bus.feeds()] == [stays])


def test_a_camera_that_falls_silent_stalls_and_goes(
    connect: Callable[..., Client], bus: Bus
) -> None:
    client = connect()
    feed = client.start()["feed"]
    client.send()
    wait_until(lambda: bus.statuses([feed])[feed].state is FeedState.STALLED, 6)
    assert "sends no pictures" in bus.statuses([feed])[feed].error
    wait_until(lambda: not bus.feeds(), 12)
    answer = client.send()
    assert (answer["ok"], answer["ended"]) == (False, True)


def test_pictures_without_a_start_are_refused(connect: Callable[..., Client], bus: Bus) -> None:
    answer = connect().send()
    assert (answer["ok"], answer["ended"]) == (False, True)
    assert "camera_start" in answer["error"]
    assert bus.feeds() == []


def test_one_connection_has_one_camera(connect: Callable[..., Client], bus: Bus) -> None:
    client = connect()
    feed = client.start()["feed"]
    answer = client.start()
    assert answer["ok"] is False
    assert "camera_stop" in answer["error"]
    assert client.send()["ok"]
    assert [f.id for f in bus.feeds()] == [feed]


@pytest.mark.parametrize("name", ["x" * 81, "a\nb", 3, ["Me"], {"a": 1}])
def test_names_that_cannot_be_shown_are_refused(
    connect: Callable[..., Client], bus: Bus, name: object
) -> None:
    answer = connect().start(name)
    assert answer["ok"] is False
    assert "name" in answer["error"]
    assert bus.feeds() == []


@pytest.mark.parametrize(
    ("picture", "complaint"),
    [
        (b"", "no JPEG"),
        (b"GIF89a" + bytes(500), "no JPEG"),
        (b"\xff\xd8\xff\xe0" + bytes(500), "no JPEG"),
        (jpeg()[:100], "no JPEG"),
        ("text", "missing"),
        ({"not": "bytes"}, "missing"),
        (jpeg() + bytes(MAX_JPEG_BYTES), "KiB"),
        (jpeg(641, 480), "641 x 480"),
        (jpeg(480, 641), "480 x 641"),
        (jpeg(400, 8), "400 x 8"),
        # A header that promises 65500 x 65500 pixels.
        (jpeg().replace(b"\x00\xf0\x01\x40", b"\xff\xdc\xff\xdc", 1), "no JPEG"),
    ],
)
def test_what_is_no_fit_picture_reaches_no_worker(
    connect: Callable[..., Client], bus: Bus, picture: object, complaint: str
) -> None:
    client = connect()
    feed = client.start()["feed"]
    answer = client.send(picture)
    assert answer["ok"] is False
    assert complaint in answer["error"]
    assert bus.statuses([feed])[feed].captured == 0
    assert client.send() == {"ok": True}, "one bad picture must not end the camera"


def test_pictures_without_arguments_are_answered(connect: Callable[..., Client]) -> None:
    client = connect()
    client.start()
    assert client.socket.call("camera_frame", timeout=10)["ok"] is False


def test_what_comes_too_fast_is_dropped_and_counted(
    connect: Callable[..., Client], bus: Bus
) -> None:
    client = connect()
    feed = client.start()["feed"]
    began = time.monotonic()
    answers = [client.send() for _ in range(120)]
    took_s = time.monotonic() - began
    kept = sum(answer == {"ok": True} for answer in answers)
    dropped = sum(answer == {"ok": True, "dropped": "too_fast"} for answer in answers)
    assert kept + dropped == 120
    assert dropped > 0
    assert kept <= took_s * 15 + 2
    wait_until(lambda: bus.statuses([feed])[feed].drops[Drop.TOO_FAST] == dropped)
    assert bus.statuses([feed])[feed].captured == kept


@pytest.mark.parametrize("claimed", [-0.4, -3600.0, 3600.0, None, "now", True, float("nan")])
def test_a_clients_clock_is_believed_only_where_it_may_be_right(
    connect: Callable[..., Client], bus: Bus, claimed: object
) -> None:
    client = connect()
    client.start()
    meta = {"captured_at": time.time() + claimed} if isinstance(claimed, float) else {"at": claimed}
    before = time.time()
    assert client.send(**meta)["ok"]
    ((frame,),) = [c.frames for c in bus.claim("d", max_feeds=1, max_frames=8, staleness_s=9)]
    if claimed == -0.4:
        assert frame.captured_at == meta["captured_at"]
    else:
        assert before <= frame.captured_at <= time.time()


def test_a_feed_that_somebody_removes_ends_its_camera(
    connect: Callable[..., Client], bus: Bus
) -> None:
    client = connect()
    feed = client.start()["feed"]
    client.send()
    bus.remove_feed(feed)
    answer = client.send()
    assert (answer["ok"], answer["ended"]) == (False, True)
    assert "removed" in answer["error"]
    time.sleep(1.5)  # the server's once a second
    assert bus.feeds() == []
    assert client.start()["ok"]


def test_there_is_a_bound_on_all_cameras_together(bus: Bus, tmp_path: Path) -> None:
    one = Cameras(settings(tmp_path), bus, Jobs(bus.url), "one")
    two = Cameras(settings(tmp_path), bus, Jobs(bus.url), "two")
    for number in range(MAX_CAMERAS):
        assert (one, two)[number % 2].start(f"client-{number}", {})["ok"]
    answer = one.start("one more", {})
    assert answer["ok"] is False
    assert str(MAX_CAMERAS) in str(answer["error"])
    two.stop("client-1")
    assert one.start("one more", {})["ok"]
    one.close()
    two.close()
    assert bus.feeds() == []


def test_what_a_killed_process_leaves_behind_is_cleared_up_and_nothing_else(
    bus: Bus, tmp_path: Path
) -> None:
    one = Cameras(settings(tmp_path), bus, Jobs(bus.url), "one")
    two = Cameras(settings(tmp_path), bus, Jobs(bus.url), "two")
    stays = one.start("client", {})["feed"]
    camera = Feed.new(Source.parse("0"), fps=15, width=640)
    bus.put_feed(camera)
    left = Feed.new(Source.browser(), fps=15, width=640, transient=True)
    bus.own_feed(left.id, "killed")
    bus.put_feed(left)
    two.tick()
    assert {feed.id for feed in bus.feeds()} == {stays, camera.id, left.id}, "its owner may live"

    def cleared_up() -> bool:
        one.tick()
        two.tick()
        return left.id not in {feed.id for feed in bus.feeds()}

    wait_until(cleared_up)
    assert {feed.id for feed in bus.feeds()} == {stays, camera.id}
    one.close()


def test_a_server_that_ends_takes_its_cameras_along(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    server = start_server()
    client = Client(server.url)
    client.start()
    assert len(bus.feeds()) == 1
    stop(server.process)
    assert bus.feeds() == []
    client.close()


def test_a_connection_that_ends_does_not_say_that_its_camera_is_off(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page goes on by itself with its next connection, unless its camera was taken away."""
    app = create_app(settings(tmp_path), bus)
    live = next(part for part in app.extensions["moodline"] if isinstance(part, Live))
    look_at = Cameras.frame

    def late(cameras: Cameras, client: str, meta: object, picture: object) -> dict[str, object]:
        live._disconnect()  # while this picture is being looked at
        return look_at(cameras, client, meta, picture)

    with app.test_request_context():
        request.sid = "client"  # type: ignore[attr-defined]  # as Flask-SocketIO does
        live._connect()
        live._camera_start({})
        assert live._camera_frame({}, jpeg()) == {"ok": True}
        monkeypatch.setattr(Cameras, "frame", late)
        answer = live._camera_frame({}, jpeg())
    assert answer == {"ok": False, "error": "This connection has ended."}
    assert bus.feeds() == []
    close_app(app)


def test_with_a_password_only_who_knows_it_has_a_camera_here(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    server = start_server(MOODLINE_PASSWORD="pa55 word")
    with pytest.raises(socketio.exceptions.ConnectionError):
        Client(server.url)
    with pytest.raises(socketio.exceptions.ConnectionError):
        Client(server.url, headers={"Origin": "http://evil.example"})
    client = Client(server.url, headers={"Authorization": "Bearer pa55 word"})
    assert client.start()["ok"]
    client.close()


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("watch", {"feed": "x" * 20_000}),
        ("camera_start", {"name": "x" * 20_000}),
        ("camera_frame", ({}, b"one", b"two")),
        ("watch", bytes(600 * 1024)),
    ],
)
def test_only_one_picture_may_be_long(
    connect: Callable[..., Client], event: str, data: object
) -> None:
    client = connect()
    with contextlib.suppress(BadNamespaceError, TimeoutError):
        client.socket.emit(event, data)
    wait_until(lambda: not client.socket.connected, 10)


def test_a_redis_that_forgot_everything_is_given_the_feed_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "redis"
    data_dir.mkdir()
    url = redis_server.url(data_dir)
    bus = Bus(url)

    def begin() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(redis_server.command(data_dir))
        redis_server.wait_until_up(url)
        return process

    process = begin()
    bus.restore_feeds([])
    server = start(url, tmp_path / "data")
    client = Client(server.url)
    feed = client.start()["feed"]
    assert client.send() == {"ok": True}
    process.kill()
    process.wait()
    answer = client.send()
    assert answer["ok"] is False
    assert "ended" not in answer
    process = begin()
    with contextlib.suppress(redis.RedisError):
        bus.restore_feeds([])
    wait_until(lambda: client.send() == {"ok": True})
    assert [f.id for f in bus.feeds()] == [feed]
    (claim,) = bus.claim("drain", max_feeds=1, max_frames=1, staleness_s=9)
    assert claim.frames[0].seq > 1, "numbers go on rising"
    time.sleep(LEASE_S)
    bus.remove_feed(feed)
    assert client.send()["ended"], "in the new registry, too, a removed feed ends its camera"
    client.close()
    stop(server.process)
    bus.close()
    process.terminate()
    process.wait()


def test_the_bus_names_a_registry_until_it_is_forgotten(bus: Bus) -> None:
    first = bus.registry_id()
    assert bus.registry_id() == first
    bus._redis.flushall()
    assert bus.registry_id() != first


def test_the_api_describes_a_browser_camera(connect: Callable[..., Client], server: Server) -> None:
    feed = connect().start()["feed"]
    with urllib.request.urlopen(f"{server.url}/api/feeds/{feed}") as answer:
        row = json.load(answer)
    assert (row["kind"], row["source"], row["status"]) == ("browser", "browser", "starting")
