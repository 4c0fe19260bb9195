from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from shared.bus import Bus
from shared.media import Media
from shared.video import ExportKind, Video, report_path, source_path
from tests.buckets import BUCKET, bucket_server, in_environment
from tests.web.archive import Archive, clip, three_people
from tests.web.conftest import DEMO, form_of, settings
from web import close_app, create_app


@pytest.fixture(scope="module")
def film() -> bytes:
    """Five seconds with three persons."""
    return clip(125, (1, 2, 3))


@pytest.fixture
def archive(client: FlaskClient, bus: Bus, tmp_path: Path) -> Iterator[Archive]:
    kept = Archive(bus.url, tmp_path / "data")
    yield kept
    kept.videos.close()


@pytest.fixture
def video(archive: Archive, film: bytes) -> Video:
    """A video with its report."""
    return archive.analysed(film, three_people, "Größe “1”.mp4")


def fetch(client: FlaskClient, path: str, **headers: str) -> Any:
    """GET with these headers; buffered, so that the file is closed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers=named, buffered=True)


def test_the_report_is_served_as_it_was_written(
    client: FlaskClient, archive: Archive, video: Video
) -> None:
    base = f"/api/videos/{video.id}"
    for name, kind in (
        ("results.json", "application/json"),
        ("results.csv", "text/csv; charset=utf-8"),
        ("summary.json", "application/json"),
    ):
        answer = fetch(client, f"{base}/{name}")
        assert answer.status_code == 200
        assert answer.content_type == kind
        assert answer.data == archive.videos.media.read(report_path(video.id, name))
    results = fetch(client, f"{base}/results.json").json or {}
    assert results["video"]["frames_analysed"] == 125
    boxes = fetch(client, f"{base}/boxes/0.json").json or {}
    assert len(boxes["t"]) == 125
    face = fetch(client, f"{base}/faces/1.jpg")
    assert face.content_type == "image/jpeg"
    assert Image.open(io.BytesIO(face.data)).size == (160, 160)
    for missing in ("boxes/1.json", "faces/9.jpg"):
        assert fetch(client, f"{base}/{missing}").status_code == 404


def test_before_there_is_a_report_its_files_say_how_the_video_is(
    client: FlaskClient, archive: Archive
) -> None:
    video = archive.uploaded(DEMO.read_bytes())
    base = f"/api/videos/{video.id}"
    for name in ("results.json", "results.csv", "summary.json", "boxes/0.json", "faces/1.jpg"):
        answer = fetch(client, f"{base}/{name}")
        assert answer.status_code == 409
        assert "queued" in (answer.json or {})["detail"]
    for name in ("annotated.mp4", "annotated.mp4?blur=1", "summary.pdf"):
        assert fetch(client, f"{base}/{name}").status_code == 409
    for path, body in (("people/1", {"name": "Ada"}), ("people/1/merge", {"into": 2})):
        method = "POST" if "merge" in path else "PATCH"
        assert client.open(f"{base}/{path}", method=method, json=body).status_code == 409


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_files_come_in_ranges_and_are_kept_until_they_change(
    where: str, bus: Bus, tmp_path: Path
) -> None:
    if where == "folder":
        _read_in_ranges(bus, tmp_path, str(tmp_path / "data" / "media"))
        return
    with bucket_server(tmp_path / "log") as environment, in_environment(environment):
        _read_in_ranges(bus, tmp_path, f"s3://{BUCKET}/kept")


def _read_in_ranges(bus: Bus, tmp_path: Path, media_url: str) -> None:
    app = create_app(settings(tmp_path, media_url=media_url), bus)
    client = app.test_client()
    data = DEMO.read_bytes()
    body, headers = form_of(data, 'Été 🎬".mp4')
    answer = client.post("/api/videos", data=body, headers=headers)
    assert answer.status_code == 202, answer.text
    video_id = (answer.json or {})["id"]
    path = f"/api/videos/{video_id}/source"
    whole = fetch(client, path)
    assert (whole.status_code, whole.data) == (200, data)
    assert whole.content_type == "video/mp4"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Cache-Control"] == "private, no-cache"
    version = whole.headers["ETag"]
    for asked, part in (
        ("bytes=0-0", data[:1]),
        ("bytes=1000-4999", data[1000:5000]),
        ("bytes=300000-", data[300_000:]),
        ("bytes=-500", data[-500:]),
        ("bytes=398000-99999999", data[398_000:]),
    ):
        answer = fetch(client, path, Range=asked)
        assert (answer.status_code, answer.data) == (206, part)
        assert answer.headers["Content-Range"].endswith(f"/{len(data)}")
        assert answer.headers["ETag"] == version
    behind = fetch(client, path, Range=f"bytes={len(data)}-")
    assert behind.status_code == 416
    assert behind.headers["Content-Range"] == f"bytes */{len(data)}"
    assert fetch(client, path, Range="bytes=0-1,5-6").data == data
    assert fetch(client, path, Range="lines=0-1").data == data
    assert fetch(client, path, If_None_Match=version).status_code == 304
    assert fetch(client, path, Range="bytes=0-9", If_Range=version).status_code == 206
    assert fetch(client, path, Range="bytes=0-9", If_Range='"old"').data == data
    head = client.head(path, buffered=True)
    assert head.headers["Content-Length"] == str(len(data))
    assert head.data == b""
    changed = b"another version"
    Media(media_url).write(source_path(video_id), changed)
    other = fetch(client, path, If_None_Match=version)
    assert (other.status_code, other.data) == (200, changed)
    assert other.headers["ETag"] != version
    assert client.delete(f"/api/videos/{video_id}").status_code == 204
    assert fetch(client, path).status_code == 404
    assert Media(media_url).list("videos") == []
    close_app(app)


def test_a_player_gets_a_piece_at_a_time(
    client: FlaskClient, video: Video, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.files._PLAYER_BYTES", 1000)
    path = f"/api/videos/{video.id}/source"
    piece = fetch(client, path, Range="bytes=500-", Sec_Fetch_Dest="video")
    assert (piece.status_code, piece.data) == (206, film[500:1500])
    assert piece.headers["Content-Range"] == f"bytes 500-1499/{len(film)}"
    last = fetch(client, path, Range=f"bytes={len(film) - 10}-", Sec_Fetch_Dest="video")
    assert last.data == film[-10:]
    assert fetch(client, path, Range="bytes=500-", Sec_Fetch_Dest="empty").data == film[500:]


def test_a_saved_file_is_called_as_the_video_is(client: FlaskClient, video: Video) -> None:
    base = f"/api/videos/{video.id}"
    shown = fetch(client, f"{base}/results.csv").headers["Content-Disposition"]
    assert shown.startswith("inline")
    saved = fetch(client, f"{base}/results.csv?download=1").headers["Content-Disposition"]
    assert saved == (
        'attachment; filename="Gr__e _1_-results.csv"; '
        "filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%E2%80%9C1%E2%80%9D-results.csv"
    )
    source = fetch(client, f"{base}/source?download=1").headers["Content-Disposition"]
    assert source.isascii()
    assert source.endswith("%E2%80%9D.mp4")


@pytest.mark.parametrize(
    ("file", "kind", "content_type"),
    [
        ("annotated.mp4", ExportKind.ANNOTATED, "video/mp4"),
        ("annotated.mp4?blur=1", ExportKind.ANNOTATED_BLURRED, "video/mp4"),
        ("preview.mp4", ExportKind.PREVIEW, "video/mp4"),
        ("summary.pdf", ExportKind.SUMMARY, "application/pdf"),
    ],
)
def test_other_files_are_made_when_first_asked_for(
    client: FlaskClient,
    archive: Archive,
    video: Video,
    file: str,
    kind: ExportKind,
    content_type: str,
) -> None:
    path = f"/api/videos/{video.id}/{file}"
    waiting = fetch(client, path)
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (202, "1")
    assert waiting.json == {"state": "running", "progress": 0}
    archive.videos.exporting(video.id, kind, 0.4)
    assert fetch(client, path).json == {"state": "running", "progress": 0.4}
    exports = (fetch(client, f"/api/videos/{video.id}").json or {})["exports"]
    assert exports == {kind.value: {"state": "running", "progress": 0.4, "error": None}}
    archive.export(video, kind, b"the file")
    made = fetch(client, path)
    assert (made.status_code, made.data, made.content_type) == (200, b"the file", content_type)
    assert fetch(client, path, Range="bytes=4-7").data == b"file"


def test_names_and_merges_get_into_the_report(
    client: FlaskClient, archive: Archive, video: Video
) -> None:
    base = f"/api/videos/{video.id}"
    named = client.patch(f"{base}/people/2", json={"name": "  Ada \u00a0 L. "})
    assert named.json == {"revision": 1, "names": {"2": "Ada L."}, "merged": {}}
    assert (fetch(client, base).json or {})["updating"]
    merged = client.post(f"{base}/people/3/merge", json={"into": 2})
    assert merged.json == {"revision": 2, "names": {"2": "Ada L."}, "merged": {"3": 2}}
    archive.derive(video)
    archive.videos.reported(video.id, 2)
    assert not (fetch(client, base).json or {})["updating"]
    summary = fetch(client, f"{base}/summary.json").json or {}
    assert summary["revision"] == 2
    assert [(p["id"], p["name"], p["merged"]) for p in summary["people"]] == [
        (1, None, []),
        (2, "Ada L.", [3]),
    ]
    parted = client.delete(f"{base}/people/3/merge")
    assert parted.json == {"revision": 3, "names": {"2": "Ada L."}, "merged": {}}
    unnamed = client.patch(f"{base}/people/2", json={"name": None})
    assert (unnamed.json or {})["names"] == {}


def test_a_name_goes_with_who_is_merged_and_stays_for_the_undoing(
    client: FlaskClient, video: Video
) -> None:
    base = f"/api/videos/{video.id}/people"
    client.patch(f"{base}/3", json={"name": "Bea"})
    merged = client.post(f"{base}/3/merge", json={"into": 2})
    assert (merged.json or {})["names"] == {"2": "Bea", "3": "Bea"}


def test_edits_that_cannot_be_say_why(client: FlaskClient, video: Video) -> None:
    base = f"/api/videos/{video.id}/people"
    client.post(f"{base}/3/merge", json={"into": 2})
    for method, path, body, status in (
        ("POST", "1/merge", {"into": 2}, 409),  # seen in one frame
        ("POST", "2/merge", {"into": 1}, 409),
        ("POST", "2/merge", {"into": 2}, 400),
        ("POST", "2/merge", {"into": 3}, 400),  # who is 2
        ("POST", "3/merge", {"into": 2}, 409),  # is already
        ("POST", "1/merge", {"into": 9}, 404),
        ("POST", "9/merge", {"into": 1}, 404),
        ("POST", "1/merge", {"into": "2"}, 400),
        ("POST", "1/merge", {"into": True}, 400),
        ("POST", "1/merge", {}, 400),
        ("DELETE", "1/merge", None, 409),
        ("DELETE", "9/merge", None, 404),
        ("PATCH", "9", {"name": "x"}, 404),
        ("PATCH", "3", {"name": "x"}, 409),
        ("PATCH", "1", {"name": "x" * 61}, 400),
        ("PATCH", "1", {"name": "\u202e"}, 400),
        ("PATCH", "1", {"name": 3}, 400),
        ("PATCH", "1", ["name"], 400),
        ("PATCH", "1", {"name": "x", "age": 3}, 400),
    ):
        answer = client.open(f"{base}/{path}", method=method, json=body)
        assert answer.status_code == status, (method, path, body, answer.text)
        assert len((answer.json or {})["detail"]) > 20
    kept = client.delete(f"{base}/3/merge").json or {}
    assert kept == {"revision": 2, "names": {}, "merged": {}}


def test_a_video_can_be_renamed(client: FlaskClient, video: Video) -> None:
    base = f"/api/videos/{video.id}"
    renamed = client.patch(base, json={"name": "Monday 12/03\n"}).json or {}
    assert renamed["name"] == "Monday 12-03"  # a slash that a person wrote is no path
    assert (client.patch(base, json={"name": " Second  try\n"}).json or {})["name"] == "Second try"
    assert (fetch(client, base).json or {})["name"] == "Second try"
    for body in ({"name": ""}, {"name": " "}, {"name": "x" * 121}, {"name": 5}, {}):
        assert client.patch(base, json=body).status_code == 400


def test_cancel_retry_and_delete(client: FlaskClient, archive: Archive, tmp_path: Path) -> None:
    video = archive.uploaded(DEMO.read_bytes())
    base = f"/api/videos/{video.id}"
    assert client.post(f"{base}/retry").status_code == 409
    assert (client.post(f"{base}/cancel").json or {})["status"] == "cancelled"
    assert (client.post(f"{base}/cancel").json or {})["status"] == "cancelled"
    assert "cancelled" in (fetch(client, f"{base}/results.json").json or {})["detail"]
    assert (client.post(f"{base}/retry").json or {})["status"] == "queued"
    assert client.delete(base).status_code == 204
    assert not (tmp_path / "data" / "media" / "videos" / video.id).exists()
    for method, path in (
        ("GET", base),
        ("DELETE", base),
        ("POST", f"{base}/cancel"),
        ("POST", f"{base}/retry"),
        ("GET", f"{base}/source"),
        ("GET", f"{base}/results.json"),
        ("GET", f"{base}/annotated.mp4"),
    ):
        assert client.open(path, method=method, buffered=True).status_code == 404
    assert client.patch(base, json={"name": "x"}).status_code == 404
    assert fetch(client, "/api/videos").json == []


@pytest.mark.parametrize(
    "path",
    ["nobody", "..", "%2e%2e", "0123456789abcdeg", "0123456789ABCDEF", "a" * 300, "..%2f..%2fetc"],
)
def test_what_can_be_no_video_is_none(client: FlaskClient, path: str) -> None:
    for rest in ("", "/source", "/results.json", "/boxes/0.json", "/faces/1.jpg"):
        answer = fetch(client, f"/api/videos/{path}{rest}")
        assert answer.status_code == 404
        assert json.loads(answer.data)["detail"]
