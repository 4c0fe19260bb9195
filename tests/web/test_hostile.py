"""Whatever is sent is refused with a reason or becomes a video; nothing else happens.

HOSTILE_UPLOADS says how many are sent: more than the default are further broken copies of a clip.
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.bus import Bus
from tests.web import hostile
from tests.web.conftest import DEMO, Server, form_of

COUNT = int(os.environ.get("HOSTILE_UPLOADS", "60"))


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A file that must not be read and an address that must not be asked; who did ask."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    secret = tmp_path / "secret.mp4"
    secret.write_bytes(DEMO.read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield secret, f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def send(server: Server, data: bytes, name: str) -> tuple[int, bytes]:
    body, headers = form_of(data, name)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", "/api/videos", body, headers)
        answer = connection.getresponse()
        assert "X-Injected" not in answer.headers
        return answer.status, answer.read()
    finally:
        connection.close()


def get(server: Server, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def tree(folder: Path, *but: str) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not str(path.relative_to(folder)).startswith(but)
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_is_refused_with_a_reason_or_taken(
    start_server: Callable[..., Server],
    bus: Bus,
    tmp_path: Path,
    bait: tuple[Path, str, list[str]],
    record_property: Callable[[str, object], None],
) -> None:
    secret, address, asked = bait
    server = start_server()
    files = list(hostile.fixed(str(secret), address))
    files += hostile.broken(DEMO.read_bytes(), COUNT - len(files))
    cases = list(zip(files, itertools.cycle(hostile.NAMES), strict=False))
    before = tree(tmp_path, "data/media", "data/uploads")
    waits: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            begun = time.monotonic()
            assert get(server, "/api/feeds")[0] == 200
            waits.append(time.monotonic() - begun)
            time.sleep(0.1)

    watcher = ThreadPoolExecutor(1)
    watching = watcher.submit(watch)
    try:
        with ThreadPoolExecutor(4) as senders:
            answers = list(senders.map(lambda case: send(server, case[0][1], case[1]), cases))
    finally:
        done.set()
        watching.result()
        watcher.shutdown()
    taken = {}
    for ((what, data), name), (status, body) in zip(cases, answers, strict=True):
        answer = json.loads(body)
        if status == 202:
            taken[answer["id"]] = data
            shown = answer["name"]
            assert shown.isprintable() or "\u200d" in shown, (name, shown)
            assert "/" not in shown
            assert len(shown) <= 120
        else:
            assert status in (400, 413, 415, 422), (what, name, status, body)
            assert 20 < len(answer["detail"]) < 700, (what, answer)
    refused = len(cases) - len(taken)
    assert refused >= 25  # every one that is no video at all
    for video_id, data in taken.items():
        assert get(server, f"/api/videos/{video_id}/source?download=1") == (200, data)
    assert len(json.loads(get(server, "/api/videos")[1])) == len(taken)
    assert asked == []
    assert tree(tmp_path, "data/media", "data/uploads") == before
    assert not list((tmp_path / "data" / "uploads").iterdir())
    assert {path.name for path in (tmp_path / "data" / "media" / "videos").iterdir()} == set(taken)
    assert server.process.poll() is None
    record_property("sent", len(cases))
    record_property("refused", refused)
    record_property("slowest other answer in s", round(max(waits), 2))
