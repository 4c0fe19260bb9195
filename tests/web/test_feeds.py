from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.errors import NotFound
from tests import builders
from tests.web.conftest import settings
from tests.web.studio import LABELS, UNSURE_BELOW, Studio
from web import close_app, create_app

SECRET_SOURCE = "rtsp://user:p@ss/w#rd@host/x"


def test_a_feed_is_added_listed_and_removed(client: FlaskClient, bus: Bus) -> None:
    added = client.post("/api/feeds", json={"source": "demo", "name": "Hall", "fps": 5})
    assert added.status_code == 201
    feed = added.json
    assert feed is not None
    assert (feed["name"], feed["source"], feed["fps"]) == ("Hall", "demo", 5)
    assert added.headers["Location"].endswith(f"/api/feeds/{feed['id']}")
    assert client.get(added.headers["Location"]).json == feed
    assert client.get("/api/feeds").json == [feed]
    assert feed["status"] == "starting"
    assert feed["latency_ms"] == {"p50": None, "p95": None}
    assert bus.feed(feed["id"]).source.text == "demo"
    assert client.delete(f"/api/feeds/{feed['id']}").status_code == 204
    assert client.get("/api/feeds").json == []
    with pytest.raises(NotFound):
        bus.feed(feed["id"])


def test_a_running_feed_tells_how_it_does(client: FlaskClient, bus: Bus) -> None:
    studio = Studio(bus, [builders.feed()])
    for _ in range(3):
        studio.turn()
    feed = (client.get("/api/feeds").json or [])[0]
    assert feed["status"] == "live"
    assert feed["error"] is None
    assert feed["fps_in"] == 15
    assert feed["fps_analysed"] > 0
    assert feed["dropped"] == 0
    assert feed["drops"] == {"overrun": 0, "stale": 0, "corrupt": 0, "too_fast": 0}
    assert 0 <= feed["latency_ms"]["p50"] <= feed["latency_ms"]["p95"]
    assert feed["viewers"] == 0


def test_passwords_in_sources_are_shown_nowhere(client: FlaskClient) -> None:
    added = client.post("/api/feeds", json={"source": SECRET_SOURCE})
    listed = client.get("/api/feeds")
    refused = client.post("/api/feeds", json={"source": SECRET_SOURCE.replace("rtsp", "ftp")})
    assert refused.status_code == 400
    for answer in (added, listed, refused, client.get("/metrics")):
        assert "ss/w" not in answer.text
        assert "user:" not in answer.text
    assert added.json is not None
    assert added.json["source"] == "rtsp://***@host/x"


def test_a_file_plays_once_where_that_is_asked_for(client: FlaskClient, bus: Bus) -> None:
    once = client.post("/api/feeds", json={"source": "demo", "loop": False}).json or {}
    for_ever = client.post("/api/feeds", json={"source": "demo"}).json or {}
    assert (once["loop"], for_ever["loop"]) == (False, True)
    assert bus.feed(once["id"]).loop is False


@pytest.mark.parametrize("body", ["[" * 60_000, "{"])
def test_bodies_that_nest_too_deeply_or_end_early_are_refused(
    client: FlaskClient, body: str
) -> None:
    answer = client.post("/api/feeds", data=body, content_type="application/json")
    assert answer.status_code == 400


def test_a_webcam_may_be_a_number(client: FlaskClient) -> None:
    answer = client.post("/api/feeds", json={"source": 0})
    assert answer.json is not None
    assert (answer.status_code, answer.json["name"]) == (201, "Webcam 0")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "source"),
        ([], "source"),
        ({"source": ""}, "source"),
        ({"source": None}, "source"),
        ({"source": True}, "source"),
        ({"source": "ftp://host/x"}, "source"),
        ({"source": "rtsp://"}, "source"),
        ({"source": "demo\n"}, None),  # white space around is no harm
        ({"source": "a" * 3000}, "source"),
        ({"source": "demo", "name": 3}, "name"),
        ({"source": "demo", "name": "a" * 81}, "name"),
        ({"source": "demo", "name": "a\nb"}, "name"),
        ({"source": "demo", "fps": "fast"}, "fps"),
        ({"source": "demo", "loop": "yes"}, "loop"),
        ({"source": "demo", "fps": 0}, "fps"),
        ({"source": "demo", "fps": -1}, "fps"),
        ({"source": "demo", "fps": 1000}, "fps"),
        ({"source": "demo", "fps": True}, "fps"),
        ({"source": "demo", "speed": 1}, "speed"),
    ],
)
def test_what_does_not_fit_is_named(client: FlaskClient, body: Any, field: str | None) -> None:
    answer = client.post("/api/feeds", json=body)
    if field is None:
        assert answer.status_code == 201
        return
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None
    assert answer.json["field"] == field
    assert len(answer.json["detail"]) > 20
    assert client.get("/api/feeds").json == []


def test_bodies_that_are_no_json_are_refused(client: FlaskClient) -> None:
    assert client.post("/api/feeds", data="source=demo").status_code == 415
    form = {"Content-Type": "application/json"}
    broken = client.post("/api/feeds", data="{", headers=form)
    assert (broken.status_code, (broken.json or {})["field"]) == (400, "source")
    huge = client.post("/api/feeds", data="1" * 100_000, headers=form)
    assert huge.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/feeds/nobody"),
        ("DELETE", "/api/feeds/nobody"),
        ("GET", "/api/feeds/nobody/timeline"),
        ("GET", "/api/feeds/nobody/snapshot.jpg"),
        ("GET", "/api/feeds/nobody/stream.mjpg"),
        ("GET", "/api/nothing"),
    ],
)
def test_what_is_not_there_is_404(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert (answer.json or {})["detail"]


def test_other_methods_are_refused(client: FlaskClient) -> None:
    answer = client.put("/api/feeds")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_the_timeline_gives_each_face_its_points(client: FlaskClient, bus: Bus) -> None:
    studio = Studio(bus, [builders.feed()])
    for _ in range(4):
        studio.turn()
    answer = client.get("/api/feeds/cam/timeline?seconds=30").json
    assert answer is not None
    assert answer["labels"] == list(LABELS)
    assert answer["unsure_below"] == UNSURE_BELOW
    (track,) = answer["tracks"]
    assert track["track"] == 1
    assert len(track["points"]) == 4
    times = [t for t, *_ in track["points"]]
    assert times == sorted(times)
    assert all(abs(sum(scores) - 1) < 0.01 for _, *scores in track["points"])
    time.sleep(0.3)
    later = client.get("/api/feeds/cam/timeline?seconds=0.2").json
    assert later == {"labels": list(LABELS), "unsure_below": UNSURE_BELOW, "tracks": []}


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "all", "601"])
def test_the_timeline_reaches_no_further_than_is_kept(client: FlaskClient, seconds: str) -> None:
    answer = client.get(f"/api/feeds/cam/timeline?seconds={seconds}")
    assert (answer.status_code, (answer.json or {})["field"]) == (400, "seconds")


def test_long_timelines_are_thinned_evenly_and_keep_the_newest(
    client: FlaskClient, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.feeds._MAX_POINTS", 4)
    studio = Studio(bus, [builders.feed()])
    for _ in range(9):
        studio.turn()
    newest = bus.timeline("cam", 0).points[-1].t
    (track,) = (client.get("/api/feeds/cam/timeline").json or {})["tracks"]
    assert len(track["points"]) == 3
    assert track["points"][-1][0] == newest


def test_without_redis_the_answer_says_so(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    answer = app.test_client().get("/api/feeds")
    assert answer.status_code == 503
    assert "Redis" in (answer.json or {})["detail"]
    assert answer.headers["Retry-After"]
    close_app(app)
