from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.video import source_path
from shared.videos import Videos
from tests.web.conftest import DEMO, Server, form_of, settings
from web import close_app, create_app


def send(client: FlaskClient, data: bytes, name: str = "clip.mp4", **fields: str) -> Any:
    body, headers = form_of(data, name, **fields)
    return client.post("/api/videos", data=body, headers=headers)


def left_behind(tmp_path: Path) -> list[str]:
    uploads = tmp_path / "data" / "uploads"
    return [path.name for path in uploads.iterdir()] if uploads.exists() else []


def test_a_video_is_taken_in_as_it_is(client: FlaskClient, videos: Videos, tmp_path: Path) -> None:
    data = DEMO.read_bytes()
    answer = send(client, data, "Été 🎬.mp4", fps="5", start="1.5", end="4")
    assert answer.status_code == 202
    video = answer.json
    assert video["name"] == "Été 🎬.mp4"
    assert video["status"] == "queued"
    assert (video["progress"], video["frames_done"], video["error"]) == (0, 0, None)
    assert (video["width"], video["height"], video["fps"]) == (640, 480, 15)
    assert (video["size_bytes"], video["duration_s"], video["playable"]) == (len(data), 20, True)
    assert video["options"] == {"fps": 5, "start_s": 1.5, "end_s": 4}
    assert client.get(answer.headers["Location"]).json == video
    assert client.get("/api/videos").json == [video]
    assert videos.media.read(source_path(video["id"])) == data
    assert left_behind(tmp_path) == []


def test_the_newest_video_is_first(client: FlaskClient) -> None:
    first, second = (send(client, DEMO.read_bytes()).json["id"] for _ in range(2))
    assert [video["id"] for video in client.get("/api/videos").json or ()] == [second, first]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"fps": "0"}, "fps"),
        ({"fps": "-3"}, "fps"),
        ({"fps": "many"}, "fps"),
        ({"fps": "nan"}, "fps"),
        ({"fps": "1e9"}, "fps"),
        ({"fps": "1" * 300}, "fps"),
        ({"start": "-1"}, "start"),
        ({"start": "inf"}, "start"),
        ({"start": "20"}, "start"),  # the video is 20 s long
        ({"end": "0"}, "end"),
        ({"start": "5", "end": "5"}, "end"),
        ({"speed": "2"}, "speed"),
    ],
)
def test_options_that_do_not_fit_are_named(
    client: FlaskClient, tmp_path: Path, fields: dict[str, str], field: str
) -> None:
    answer = send(client, DEMO.read_bytes(), **fields)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert answer.json["field"] == field
    assert len(answer.json["detail"]) > 20
    assert client.get("/api/videos").json == []
    assert left_behind(tmp_path) == []


def test_the_fields_may_come_in_any_order_and_the_file_without_a_name(client: FlaskClient) -> None:
    body = b"\r\n".join(
        [
            b"--x",
            b'Content-Disposition: form-data; name="file"',
            b"",
            DEMO.read_bytes(),
            b"--x",
            b'Content-Disposition: form-data; name="fps"',
            b"",
            b"3",
            b"--x--",
            b"",
        ]
    )
    answer = client.post("/api/videos", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 202
    assert (answer.json or {})["options"]["fps"] == 3
    assert (answer.json or {})["name"] == "video"


FORM = "multipart/form-data; boundary=x"
PART = b"--x\r\nContent-Disposition: form-data"
NO_FORMS = {
    "empty": (b"", FORM, 400),
    "no part": (b"--x--\r\n", FORM, 400),
    "text": (b"no form at all", FORM, 400),
    "long text": (b"a" * 3_000_000, FORM, 400),
    "cut off": (PART + b'; name="file"\r\n\r\nab', FORM, 400),
    "part without a name": (PART + b"\r\n\r\nab\r\n--x--\r\n", FORM, 400),
    "part without a disposition": (b"--x\r\nA: b\r\n\r\nab\r\n--x--\r\n", FORM, 400),
    "headers without end": (b"--x\r\n" + b"A: b\r\n" * 400_000, FORM, 400),
    "no boundary": (b"abc", "multipart/form-data", 415),
    "a bare video": (b"abc", "video/mp4", 415),
    "json": (b'{"file": "x"}', "application/json", 415),
}


@pytest.mark.parametrize(("body", "kind", "status"), NO_FORMS.values(), ids=NO_FORMS)
def test_what_is_no_form_is_refused_with_an_example(
    client: FlaskClient, tmp_path: Path, body: bytes, kind: str, status: int
) -> None:
    answer = client.post("/api/videos", data=body, content_type=kind)
    assert answer.status_code == status
    assert (answer.json or {})["field"] in ("file", "")
    assert "file" in (answer.json or {})["detail"]
    assert left_behind(tmp_path) == []


def test_one_form_brings_one_video(client: FlaskClient, tmp_path: Path) -> None:
    body, headers = form_of(DEMO.read_bytes())
    end = b"--moodline--\r\n"
    answer = client.post("/api/videos", data=body.removesuffix(end) + body, headers=headers)
    assert (answer.status_code, (answer.json or {})["field"]) == (400, "file")
    assert left_behind(tmp_path) == []


def test_the_name_is_for_showing_alone(client: FlaskClient, tmp_path: Path) -> None:
    for name, shown in (
        ("../../etc/passwd", "passwd"),
        ("a\"b'c;d.mp4", "a\"b'c;d.mp4"),
        ("..", "video"),
        ("a\u202egpj.mp4", "agpj.mp4"),  # would be shown as a4pm.jpg
        ("x" * 500, "x" * 120),
    ):
        assert send(client, DEMO.read_bytes(), name).json["name"] == shown
    folders = [path.name for path in (tmp_path / "data" / "media" / "videos").iterdir()]
    assert all(len(name) == 16 and name.isalnum() for name in folders)


@pytest.fixture
def small(bus: Bus, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of an application that takes one megabyte."""
    app = create_app(settings(tmp_path, max_upload_mb=1), bus)
    yield app.test_client()
    close_app(app)


def test_what_is_too_large_is_refused_and_leaves_nothing(
    small: FlaskClient, tmp_path: Path
) -> None:
    for size in (1_100_000, 5_000_000):  # seen while it is read, and before
        answer = send(small, bytes(size))
        assert answer.status_code == 413
        assert "MOODLINE_MAX_UPLOAD_MB" in answer.json["detail"]
    assert left_behind(tmp_path) == []


def test_a_full_disk_is_said_before_anything_is_sent(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    answer = send(client, DEMO.read_bytes())
    assert answer.status_code == 507
    assert "room" in answer.json["detail"]
    assert left_behind(tmp_path) == []


def test_without_redis_it_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    answer = send(app.test_client(), DEMO.read_bytes())
    assert answer.status_code == 503
    assert "Redis" in answer.json["detail"]
    assert left_behind(tmp_path) == []
    assert not list((tmp_path / "data").glob("media/videos/*"))
    close_app(app)


def test_a_large_body_that_is_refused_is_heard_out(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    server = start_server(MOODLINE_MAX_UPLOAD_MB="1")
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        body = (bytes(100_000) for _ in range(300))
        kind = {"Content-Type": "multipart/form-data; boundary=x", **headers}
        if not headers:
            kind["Content-Length"] = "30000000"
        connection.request("POST", "/api/videos", body, kind, encode_chunked=bool(headers))
        answer = connection.getresponse()
        assert answer.status in (400, 413)
        assert json.loads(answer.read())["detail"]
        connection.close()


def test_who_looks_into_a_file_gets_no_secrets(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MOODLINE_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MEDIA_URL", "REDIS_URL"):
        monkeypatch.setenv(name, "a-secret")
    teller = tmp_path / "teller"
    teller.write_text("#!/bin/sh\nprintf '{\"error\": \"got %s.\"}' \"$(env | tr '\\n' ' ')\"\n")
    teller.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(teller))
    told = send(client, b"anything").json["detail"]
    assert told.startswith("got ")
    assert "PATH=" in told
    assert "a-secret" not in told
