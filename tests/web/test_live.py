from __future__ import annotations

import io
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import socketio
from PIL import Image
from socketio.exceptions import ConnectionError as Refused

from bench.live import ordered_client
from shared import redis_server
from shared.bus import Bus
from tests import builders
from tests.web.conftest import Server, start, stop, wait_until
from tests.web.studio import HEIGHT, WIDTH, Studio, square_at
from web.live import Slot


class Viewer:
    """A Socket.IO client that remembers what it was sent; `slow` ones do not acknowledge."""

    def __init__(self, url: str, *, slow: bool = False, **options: Any) -> None:
        self.frames: list[tuple[dict[str, Any], bytes]] = []
        self.received: list[float] = []
        self.events: dict[str, list[Any]] = {"feeds": [], "status": [], "feed_removed": []}
        self._released = threading.Event()
        # Who holds a frame must not hold what comes after it.
        client = socketio.Client if slow else ordered_client
        self.socket = client(reconnection=False)
        self.socket.on("frame", self._slow_frame if slow else self._frame)
        for event, seen in self.events.items():
            self.socket.on(event, seen.append)
        self.socket.connect(url, **options)

    def watch(self, feed: str) -> Any:
        return self.socket.call("watch", {"feed": feed})

    def seqs(self, feed: str) -> list[int]:
        return [meta["seq"] for meta, _ in self.frames if meta["feed"] == feed]

    def follow(self, studio: Studio, frames: int) -> None:
        """Capture each frame when the one before has come: so a busy machine leaves none out."""
        for _ in range(frames):
            waited_for = len(self.frames) + 1
            studio.turn()
            self.wait_for(waited_for)

    def wait_for(self, frames: int) -> None:
        wait_until(lambda: len(self.frames) >= frames)

    def close(self) -> None:
        self._released.set()
        self.socket.disconnect()

    def _frame(self, meta: dict[str, Any], jpeg: bytes) -> None:
        self.frames.append((meta, jpeg))
        self.received.append(time.time())

    def _slow_frame(self, meta: dict[str, Any], jpeg: bytes) -> None:
        self._frame(meta, jpeg)
        self._released.wait()  # the client library acknowledges when this returns


@pytest.fixture
def view(server: Server) -> Iterator[Callable[..., Viewer]]:
    """Connects viewers to the server."""
    viewers: list[Viewer] = []

    def connect(**options: Any) -> Viewer:
        viewers.append(Viewer(server.url, **options))
        return viewers[-1]

    yield connect
    for viewer in viewers:
        viewer.close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_viewer_gets_every_frame_with_its_own_faces(
    view: Callable[..., Viewer], bus: Bus, transport: str
) -> None:
    studio = Studio(bus, [builders.feed()])
    studio.turn()
    viewer = view(transports=[transport])
    assert viewer.watch("cam") == {"ok": True}
    wait_until(lambda: viewer.frames)
    viewer.follow(studio, 19)
    seqs = viewer.seqs("cam")
    assert len(seqs) == 20
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    for meta, jpeg in viewer.frames:
        assert set(meta) >= {
            "feed", "seq", "captured_at", "analysed_at", "width", "height", "faces", "sent_at",
            "stored_at",
        }  # fmt: skip
        assert 0 <= meta["stored_at"] - meta["captured_at"] + 0.001 < 1  # Redis tells whole ms
        assert meta["captured_at"] <= meta["analysed_at"] <= meta["sent_at"] <= time.time()
        (face,) = meta["faces"]
        assert abs(sum(face["scores"].values()) - 1) < 1e-3
        assert face["emotion"] == max(face["scores"], key=face["scores"].get)
        assert tuple(face["box"]) == square_at(meta["seq"] % 300)
        picture = Image.open(io.BytesIO(jpeg)).convert("L")
        assert picture.size == (meta["width"], meta["height"]) == (WIDTH, HEIGHT)
        x, y, width, height = face["box"]
        assert picture.getpixel((x + width // 2, y + height // 2)) == pytest.approx(255, abs=8)


def test_a_viewer_that_never_acknowledges_gets_one_frame_and_others_do_not_notice(
    view: Callable[..., Viewer], bus: Bus
) -> None:
    studio = Studio(bus, [builders.feed()])
    studio.turn()
    slow, quick = view(slow=True), view()
    slow.watch("cam")
    quick.watch("cam")
    wait_until(lambda: slow.frames and quick.frames)
    quick.follow(studio, 29)
    assert len(slow.frames) == 1
    seqs = quick.seqs("cam")
    assert seqs == list(range(seqs[0], seqs[0] + 30))
    slow._released.set()
    wait_until(lambda: len(slow.frames) >= 2)
    # The one that waited is the newest of those that came meanwhile.
    assert slow.seqs("cam")[1] == seqs[-1]


def test_feeds_are_watched_apart(view: Callable[..., Viewer], bus: Bus) -> None:
    with Studio(bus, [builders.feed("a"), builders.feed("b")]):
        wait_until(lambda: bus.latest("b"))
        viewer = view()
        viewer.watch("a")
        viewer.watch("b")
        wait_until(lambda: len(viewer.seqs("a")) > 5 and len(viewer.seqs("b")) > 5)
        assert viewer.socket.call("unwatch", {"feed": "a"}) == {"ok": True}
        before = len(viewer.seqs("a"))
        there = len(viewer.seqs("b"))
        wait_until(lambda: len(viewer.seqs("b")) > there + 5)
        assert len(viewer.seqs("a")) <= before + 1  # one may have been under way
        assert viewer.socket.call("unwatch", {"feed": "a"})["ok"] is False


def test_a_feed_that_stands_still_shows_its_last_picture_at_once(
    view: Callable[..., Viewer], bus: Bus
) -> None:
    studio = Studio(bus, [builders.feed()])
    studio.turn()
    studio.turn()
    viewer = view()
    viewer.watch("cam")
    wait_until(lambda: viewer.frames)
    studio.turn()
    wait_until(lambda: len(viewer.frames) == 2)
    assert viewer.seqs("cam") == [2, 3]
    viewer.watch("cam")  # once more: again from the newest
    wait_until(lambda: len(viewer.frames) == 3)
    assert viewer.seqs("cam") == [2, 3, 3]


@pytest.mark.parametrize("body", [{"feed": "nobody"}, {"feed": 3}, {}, None, "cam", [1], {"id": 1}])
def test_what_cannot_be_watched_is_told(view: Callable[..., Viewer], body: object) -> None:
    answer = view().socket.call("watch", body)
    assert answer["ok"] is False
    assert answer["error"]


def test_viewers_are_counted_until_they_go(view: Callable[..., Viewer], bus: Bus) -> None:
    studio = Studio(bus, [builders.feed()])
    studio.turn()
    first, second = view(), view()
    first.watch("cam")
    second.watch("cam")
    wait_until(lambda: bus.statuses(["cam"])["cam"].viewers == 2)
    first.socket.disconnect()
    wait_until(lambda: bus.statuses(["cam"])["cam"].viewers == 1)
    second.socket.call("unwatch", {"feed": "cam"})
    wait_until(lambda: bus.statuses(["cam"])["cam"].viewers == 0)


def test_the_list_of_feeds_comes_every_second_to_who_asked(
    view: Callable[..., Viewer], bus: Bus
) -> None:
    with Studio(bus, [builders.feed()]):
        asking, silent = view(), view()
        assert asking.socket.call("watch_feeds") == {"ok": True}
        wait_until(lambda: len(asking.events["feeds"]) >= 3)
        assert asking.events["feeds"][-1][0]["id"] == "cam"
        assert asking.events["feeds"][-1][0]["fps_analysed"] > 0
        assert silent.events["feeds"] == []
        bus.put_feed(builders.feed("new"))
        wait_until(lambda: len(asking.events["feeds"][-1]) == 2)


def test_removing_a_feed_tells_its_viewers(view: Callable[..., Viewer], bus: Bus) -> None:
    studio = Studio(bus, [builders.feed()])
    studio.turn()
    viewer = view()
    viewer.watch("cam")
    bus.remove_feed("cam")
    wait_until(lambda: viewer.events["feed_removed"] == [{"feed": "cam"}])
    assert viewer.socket.call("unwatch", {"feed": "cam"})["ok"] is False


def test_what_is_missing_is_told_and_when_it_is_back(view: Callable[..., Viewer], bus: Bus) -> None:
    studio = Studio(bus, [])
    studio.report()
    viewer = view()
    viewer.socket.call("watch_feeds")
    wait_until(lambda: viewer.events["status"])
    assert viewer.events["status"][-1]["ok"]
    bus.remove_worker("studio")
    wait_until(lambda: not viewer.events["status"][-1]["ok"])
    (problem,) = viewer.events["status"][-1]["problems"]
    assert problem["part"] == "worker"
    assert "moodline worker" in problem["detail"]
    studio.report()
    wait_until(lambda: viewer.events["status"][-1]["ok"])


def test_an_emptied_redis_takes_no_feed_away_until_its_list_is_restored(
    view: Callable[..., Viewer], bus: Bus
) -> None:
    with Studio(bus, [builders.feed()]):
        viewer = view()
        viewer.socket.call("watch_feeds")
        viewer.watch("cam")
        wait_until(lambda: len(viewer.frames) > 3)
        bus._redis.flushall()
        wait_until(lambda: not viewer.events["status"][-1]["ok"])
        assert viewer.events["status"][-1]["problems"][0]["part"] == "capture"
        bus.restore_feeds([builders.feed()])
        seen = len(viewer.frames)
        wait_until(lambda: len(viewer.frames) > seen + 3)
        assert viewer.events["feed_removed"] == []
        assert all(rows for rows in viewer.events["feeds"])


def test_a_redis_that_dies_is_told_and_followed_again_when_it_is_back(tmp_path: Path) -> None:
    data_dir = tmp_path / "redis"
    data_dir.mkdir()
    url = redis_server.url(data_dir)
    bus = Bus(url)

    def begin() -> subprocess.Popen[bytes]:
        redis = subprocess.Popen(redis_server.command(data_dir))
        redis_server.wait_until_up(url)
        return redis

    redis = begin()
    server = start(url, tmp_path / "data")
    studio = Studio(bus, [builders.feed()])
    studio.turn()
    viewer = Viewer(server.url)
    viewer.socket.call("watch_feeds")
    viewer.watch("cam")
    wait_until(lambda: viewer.frames)
    redis.kill()
    redis.wait()
    wait_until(lambda: viewer.events["status"] and not viewer.events["status"][-1]["ok"])
    assert viewer.events["status"][-1]["problems"][0]["part"] == "redis"
    redis = begin()
    with Studio(bus, [builders.feed()]):
        wait_until(lambda: viewer.events["status"][-1]["ok"])
        wait_until(lambda: len(viewer.frames) > 5)
    assert viewer.events["feed_removed"] == []
    viewer.close()
    stop(server.process)
    bus.close()
    redis.terminate()
    redis.wait()


def test_a_redis_that_hangs_is_told_before_its_time_out(tmp_path: Path) -> None:
    data_dir = tmp_path / "redis"
    data_dir.mkdir()
    url = redis_server.url(data_dir)
    with subprocess.Popen(redis_server.command(data_dir)) as redis:
        redis_server.wait_until_up(url)
        bus = Bus(url)
        server = start(url, tmp_path / "data")
        studio = Studio(bus, [builders.feed()])
        studio.turn()
        viewer = Viewer(server.url)
        viewer.socket.call("watch_feeds")
        wait_until(lambda: viewer.events["status"])
        redis.send_signal(signal.SIGSTOP)
        wait_until(lambda: not viewer.events["status"][-1]["ok"], 4.0)  # its own time-out: 5 s
        assert viewer.events["status"][-1]["problems"][0]["part"] == "redis"
        redis.send_signal(signal.SIGCONT)
        studio.report()
        wait_until(lambda: viewer.events["status"][-1]["ok"], 8.0)
        viewer.close()
        stop(server.process)
        bus.close()
        redis.terminate()


def test_the_servers_clock_can_be_asked(view: Callable[..., Viewer]) -> None:
    assert view().socket.call("clock")["now"] == pytest.approx(time.time(), abs=1.0)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_pages_of_other_origins_get_no_connection(server: Server, transport: str) -> None:
    def connect(**headers: str) -> Viewer:
        return Viewer(server.url, transports=[transport], headers=headers)

    with pytest.raises(Refused):
        connect(Origin="http://evil.example")
    with pytest.raises(Refused):
        connect(Origin="http://evil.example", **{"X-Forwarded-Host": "evil.example"})
    with pytest.raises(Refused):
        connect(Host="evil.example")
    connect(Origin=server.url).close()


def test_with_a_password_only_who_knows_it_is_connected(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    server = start_server(MOODLINE_PASSWORD="pa55 word")
    with pytest.raises(Refused):
        Viewer(server.url)
    Viewer(server.url, headers={"Authorization": "Bearer pa55 word"}).close()


def test_a_slot_holds_one_in_flight_and_the_newest() -> None:
    sent: list[int] = []
    acknowledge: list[Callable[..., None]] = []

    def send(item: int, acknowledged: Callable[..., None]) -> None:
        sent.append(item)
        acknowledge.append(acknowledged)

    slot = Slot(send)
    for item in range(5):
        slot.offer(item)
    assert sent == [0]
    acknowledge.pop()("ok")
    assert sent == [0, 4]
    acknowledge.pop()()
    slot.offer(5)
    assert sent == [0, 4, 5]
    slot.offer(6)
    slot.close()
    acknowledge.pop()()
    slot.offer(7)
    assert sent == [0, 4, 5]
