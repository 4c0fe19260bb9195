from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.video import source_path
from shared.videos import Videos
from tests.web.conftest import DEMO, Server, free_port, settings, wait_until
from web import close_app, create_app
from web.parts import Parts

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
CLIENT = PROJECT_DIR / "web" / "node_modules" / "tus-js-client"


def metadata(**values: str) -> dict[str, str]:
    pairs = (f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in values.items())
    return {"Upload-Metadata": ",".join(pairs)}


def begin(client: FlaskClient, length: int, **values: str) -> str:
    answer = client.post(
        "/api/uploads", headers={**TUS, "Upload-Length": str(length), **metadata(**values)}
    )
    assert answer.status_code == 201
    return answer.headers["Location"]


def piece(client: FlaskClient, where: str, offset: int, data: bytes) -> Any:
    return client.patch(where, data=data, headers={**PIECE, "Upload-Offset": str(offset)})


def arrived(client: FlaskClient, where: str) -> int:
    return int(client.head(where, headers=TUS).headers["Upload-Offset"])


def parts_of(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "data" / "uploads").iterdir())


def test_a_file_arrives_in_pieces_and_becomes_a_video(
    client: FlaskClient, videos: Videos, tmp_path: Path
) -> None:
    data = DEMO.read_bytes()
    where = begin(
        client, len(data), filename="Ünï 🎬.mp4", fps="5", start="2", filetype="video/mp4"
    )
    assert arrived(client, where) == 0
    half = piece(client, where, 0, data[:200_000])
    assert half.status_code == 204
    assert (half.headers["Upload-Offset"], "Moodline-Video" in half.headers) == ("200000", False)
    assert half.headers["Upload-Expires"].endswith("GMT")
    assert arrived(client, where) == 200_000
    last = piece(client, where, 200_000, data[200_000:])
    assert last.status_code == 204
    assert last.headers["Upload-Offset"] == str(len(data))
    video = client.get(f"/api/videos/{last.headers['Moodline-Video']}").json or {}
    assert video["name"] == "Ünï 🎬.mp4"
    assert video["options"] == {"fps": 5, "start_s": 2, "end_s": None}
    assert videos.media.read(source_path(video["id"])) == data
    assert parts_of(tmp_path) == [".json"]
    again = client.head(where, headers=TUS)  # a client whose answer was lost asks
    assert again.headers["Moodline-Video"] == video["id"]
    assert again.headers["Upload-Offset"] == str(len(data))
    assert len(client.get("/api/videos").json or ()) == 1


def test_it_says_what_it_can(client: FlaskClient) -> None:
    answer = client.options("/api/uploads")
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        "creation",
        "termination",
        "expiration",
    }
    assert int(answer.headers["Tus-Max-Size"]) == 4096 * 1024 * 1024


def test_what_is_no_video_is_refused_with_the_reason_also_when_asked_again(
    client: FlaskClient, tmp_path: Path
) -> None:
    where = begin(client, 5000, filename="film.mp4")
    answer = piece(client, where, 0, b"words" * 1000)
    assert answer.status_code == 422
    assert "no video" in answer.json["detail"]
    assert parts_of(tmp_path) == [".json"]
    assert client.head(where, headers=TUS).status_code == 422
    assert piece(client, where, 5000, b"").json["detail"] == answer.json["detail"]
    assert client.get("/api/videos").json == []


def test_a_wrong_offset_is_told_the_right_one(client: FlaskClient) -> None:
    where = begin(client, 1000)
    piece(client, where, 0, b"a" * 300)
    for offset in (0, 200, 400, 1000):
        answer = piece(client, where, offset, b"b" * 10)
        assert answer.status_code == 409
        assert "300" in answer.json["detail"]
    assert arrived(client, where) == 300


def test_more_than_was_said_is_refused(client: FlaskClient) -> None:
    where = begin(client, 1000)
    assert piece(client, where, 0, b"a" * 1001).status_code == 413
    assert arrived(client, where) == 0


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({}, 412, None),
        ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 412, None),
        (TUS, 400, "Upload-Length"),
        ({**TUS, "Upload-Length": "-1"}, 400, "Upload-Length"),
        ({**TUS, "Upload-Length": "9" * 30}, 400, "Upload-Length"),
        ({**TUS, "Upload-Length": "٣"}, 400, "Upload-Length"),
        ({**TUS, "Upload-Defer-Length": "1"}, 400, "Upload-Length"),
        ({**TUS, "Upload-Length": "0"}, 422, "file"),
        ({**TUS, "Upload-Length": str(5 * 1024**3)}, 413, "file"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename ~~~"}, 400, "Upload-Metadata"),
        ({**TUS, "Upload-Length": "5", **metadata(fps="x")}, 400, "fps"),
        ({**TUS, "Upload-Length": "5", **metadata(start="9", end="3")}, 400, "end"),
    ],
)
def test_an_upload_that_cannot_be_is_refused_at_its_beginning(
    client: FlaskClient, headers: dict[str, str], status: int, field: str | None
) -> None:
    answer = client.post("/api/uploads", headers=headers)
    assert answer.status_code == status
    assert (answer.json or {}).get("field") == field
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    if status == 412:
        assert answer.headers["Tus-Version"] == "1.0.0"


def test_a_piece_must_be_declared_as_one(client: FlaskClient) -> None:
    where = begin(client, 10)
    for headers, status in (
        ({**TUS, "Upload-Offset": "0"}, 415),
        (PIECE, 400),
        ({"Upload-Offset": "0"}, 412),
    ):
        assert client.patch(where, data=b"a", headers=headers).status_code == status
    assert arrived(client, where) == 0


def test_an_upload_can_be_given_up(client: FlaskClient, tmp_path: Path) -> None:
    where = begin(client, 10)
    piece(client, where, 0, b"abc")
    assert client.delete(where, headers=TUS).status_code == 204
    assert parts_of(tmp_path) == []
    assert client.head(where, headers=TUS).status_code == 404
    assert client.delete(where, headers=TUS).status_code == 404
    assert piece(client, where, 3, b"d").status_code == 404


@pytest.mark.parametrize("name", ["..", "x", "a" * 32 + ".json", "..%2f..%2fetc%2fpasswd", "%00"])
def test_names_of_uploads_are_never_paths(client: FlaskClient, name: str) -> None:
    answer = client.head(f"/api/uploads/{name}", headers=TUS)
    assert answer.status_code == 404


def test_what_nobody_continues_goes_after_a_day(client: FlaskClient, tmp_path: Path) -> None:
    where = begin(client, 10)
    piece(client, where, 0, b"abc")
    parts = Parts(tmp_path / "data")
    parts.sweep(time.time() + 23 * 3600)
    assert arrived(client, where) == 3
    with parts.hold(where.rsplit("/", 1)[1], None), parts.temporary() as form:
        form.write_bytes(b"part of a form")
        parts.sweep(time.time() + 25 * 3600)
        assert parts_of(tmp_path) == ["", "", ".json"]
    parts.path("0" * 32).write_bytes(b"left by a process that was killed")
    parts.sweep(time.time() + 1000)
    assert parts_of(tmp_path) == ["", ".json"]
    parts.sweep(time.time() + 25 * 3600)
    assert parts_of(tmp_path) == []
    parts.close()


def test_who_only_announces_uploads_does_not_fill_the_disk(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.parts.MAX_WAITING", 3)
    places = [begin(client, 10) for _ in range(3)]
    announce = {**TUS, "Upload-Length": "10"}
    refused = client.post("/api/uploads", headers=announce)
    assert refused.status_code == 503
    assert "finish or delete" in (refused.json or {})["detail"]
    assert client.delete(places[0], headers=TUS).status_code == 204
    assert client.post("/api/uploads", headers=announce).status_code == 201


def test_while_redis_is_away_nothing_that_has_arrived_is_lost(tmp_path: Path, bus: Bus) -> None:
    data = DEMO.read_bytes()
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    where = begin(app.test_client(), len(data))
    assert piece(app.test_client(), where, 0, data).status_code == 503
    # A client that is told anything else here sends all of it anew.
    assert app.test_client().head(where, headers=TUS).status_code == 423
    close_app(app)
    app = create_app(settings(tmp_path), bus)
    answer = app.test_client().head(where, headers=TUS)
    assert answer.headers["Upload-Offset"] == str(len(data))
    video = app.test_client().get(f"/api/videos/{answer.headers['Moodline-Video']}").json
    assert (video or {})["size_bytes"] == len(data)
    close_app(app)


def ask(server: Server, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer


def begin_at(server: Server, length: int) -> str:
    answer = ask(server, "POST", "/api/uploads", {**TUS, "Upload-Length": str(length)})
    assert answer.status == 201
    return str(answer.getheader("Location"))


def send_half(server: Server, where: str, data: bytes) -> socket.socket:
    """Announce all of `data`, send half of it, and fall silent."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = "".join(f"{k}: {v}\r\n" for k, v in {**PIECE, "Upload-Offset": "0"}.items())
    connection.sendall(
        f"PATCH {where} HTTP/1.1\r\nHost: localhost\r\n{head}"
        f"Content-Length: {len(data)}\r\n\r\n".encode()
        + data[: len(data) // 2]
    )
    return connection


def finish(server: Server, where: str, data: bytes) -> str:
    """Ask how much has arrived, send the rest; the id of the video."""
    asked = ask(server, "HEAD", where, TUS)
    assert asked.status == 200
    offset = int(asked.getheader("Upload-Offset"))
    assert 0 < offset < len(data)
    last = ask(server, "PATCH", where, {**PIECE, "Upload-Offset": str(offset)}, data[offset:])
    assert last.status == 204
    return str(last.getheader("Moodline-Video"))


def test_who_comes_back_does_not_wait_for_the_broken_connection(server: Server, bus: Bus) -> None:
    data = DEMO.read_bytes()
    where = begin_at(server, len(data))
    with send_half(server, where, data):  # and it stays open, as one whose end was never heard
        time.sleep(0.5)
        video = finish(server, where, data)
    source = ask(server, "GET", f"/api/videos/{video}/source", {})
    assert source.body == data


def test_an_upload_goes_on_after_the_server_was_killed(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    data = DEMO.read_bytes()
    port = free_port()
    server = start_server(port)
    where = begin_at(server, len(data))
    with send_half(server, where, data):
        wait_until(lambda: _size_of(server, where) > 0)
        server.process.kill()
        server.process.wait()
    server = start_server(port)
    video = finish(server, where, data)
    assert ask(server, "GET", f"/api/videos/{video}/source", {}).body == data


def _size_of(server: Server, where: str) -> int:
    """Bytes of a part on the server's disk, without asking the server."""
    folder = Path(psutil.Process(server.process.pid).environ()["MOODLINE_DATA_DIR"])
    path = folder / "uploads" / where.rsplit("/", 1)[1]
    return path.stat().st_size if path.exists() else 0


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="no limits of other processes")
def test_a_disk_that_runs_full_is_said_and_what_has_arrived_stays(
    own_server: Server, bus: Bus
) -> None:
    # No file of this process may grow beyond a megabyte: what a full disk answers, on any machine.
    psutil.Process(own_server.process.pid).rlimit(psutil.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    where = begin_at(own_server, 3_000_000)
    full = ask(own_server, "PATCH", where, {**PIECE, "Upload-Offset": "0"}, bytes(3_000_000))
    assert full.status == 507
    assert "room" in json.loads(full.body)["detail"]
    assert ask(own_server, "HEAD", where, TUS).getheader("Upload-Offset") == "1000000"
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + bytes(3_000_000)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert ask(own_server, "POST", "/api/videos", form, body).status == 507
    assert ask(own_server, "GET", "/healthz", {}).status == 200
    assert _size_of(own_server, where) == 1_000_000


def test_with_many_uploads_at_once_others_are_still_served(server: Server, bus: Bus) -> None:
    data = DEMO.read_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            where = begin_at(server, len(data))
            stack.enter_context(send_half(server, where, data))
        time.sleep(1)
        assert ask(server, "GET", "/api/feeds", {}).status == 200
        where = begin_at(server, len(data))
        busy = ask(server, "PATCH", where, {**PIECE, "Upload-Offset": "0"}, data)
        assert busy.status == 503
        assert busy.getheader("Retry-After")


class Cutter:
    """Passes connections on to a server, and breaks the first that brings more than `after`."""

    def __init__(self, port: int, after: int) -> None:
        self._to = port
        self._after = after
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._listener, *self._open):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                pair = (client, server)
                self._open += pair
                threading.Thread(target=self._up, args=pair, daemon=True).start()
                threading.Thread(target=self._down, args=pair, daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := client.recv(16_384):
                passed += len(data)
                server.sendall(data)
                if not self.cuts and passed > self._after:
                    self.cuts += 1
                    client.close()  # the client notices; the server hears nothing of it
                    return

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(16_384):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


SCRIPT = """
const [client, file, endpoint] = process.argv.slice(1);
const tus = require(client);
const fs = require("fs");
let offsets = [];
const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint,
  chunkSize: 1e6,
  uploadSize: fs.statSync(file).size,
  retryDelays: [50, 200, 500, 1000],
  metadata: { filename: "Grüße 🎬.mp4", fps: "5" },
  onShouldRetry: () => true,
  onAfterResponse: (request, response) => {
    if (request.getMethod() === "HEAD") offsets.push(Number(response.getHeader("Upload-Offset")));
  },
  onError: (error) => {
    console.log(JSON.stringify({ error: String(error) }));
    process.exit(1);
  },
  onSuccess: ({ lastResponse }) => {
    console.log(JSON.stringify({ video: lastResponse.getHeader("Moodline-Video"), offsets }));
    process.exit(0);
  },
});
upload.start();
"""


@pytest.fixture
def node() -> str:
    program = shutil.which("node")
    if program is None or not CLIENT.is_dir():
        pytest.skip("no Node.js, or tus-js-client is not set up: run `make setup`")
    return program


def test_the_real_client_goes_on_after_a_cut(node: str, server: Server, bus: Bus) -> None:
    with Cutter(server.port, after=250_000) as line:
        ended = subprocess.run(
            [
                node,
                "-e",
                SCRIPT,
                str(CLIENT),
                str(DEMO),
                f"http://127.0.0.1:{line.port}/api/uploads",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert line.cuts == 1
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert told["offsets"]
    assert 0 < told["offsets"][0] < DEMO.stat().st_size  # it went on, and did not begin anew
    video = json.loads(ask(server, "GET", f"/api/videos/{told['video']}", {}).body)
    assert video["name"] == "Grüße 🎬.mp4"
    assert video["options"]["fps"] == 5
    assert ask(server, "GET", f"/api/videos/{told['video']}/source", {}).body == DEMO.read_bytes()
