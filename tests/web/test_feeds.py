from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.errors import NotFound
from shared.schema import CaptureReport, Feed, FeedState, FirstPicture, Outcome, Trial, Trouble
from shared.source import Source
from tests import builders
from tests.web.conftest import settings, wait_until
from tests.web.studio import Studio
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
    assert feed["aside"] is None
    assert 0 <= feed["latency_ms"]["p50"] <= feed["latency_ms"]["p95"]
    assert feed["viewers"] == 0


def test_a_frame_that_could_not_be_analysed_says_why(client: FlaskClient, bus: Bus) -> None:
    feed = builders.feed()
    bus.put_feed(feed)
    for reason in ("DecodeError: no JPEG", "DecodeError: cut off"):
        bus.put_frame(feed, b"jpeg", time.time())
        (claim,) = bus.claim("test", max_feeds=1, max_frames=1, staleness_s=1)
        outcome = Outcome(claim.frames[0], None, reason)
        bus.publish([(claim, {}, [outcome])], labels=[], unsure_below=0, timeline_s=10)
    described = client.get("/api/feeds/cam").json or {}
    assert described["drops"]["corrupt"] == 2
    assert described["aside"] == "DecodeError: cut off"


# Changes


def test_what_a_feed_is_can_be_changed_and_what_is_not_named_stays(
    client: FlaskClient, bus: Bus
) -> None:
    feed = Feed.new(Source.parse(SECRET_SOURCE), fps=15, width=640, transient=True)
    bus.put_feed(feed)
    address = f"/api/feeds/{feed.id}"
    changed = client.patch(address, json={"name": " Hall ", "fps": 5, "width": 320})
    assert changed.status_code == 200
    assert (changed.json or {}) == client.get(address).json
    assert bus.feed(feed.id) == replace(feed, name="Hall", fps=5, width=320, transient=False)
    masked = (changed.json or {})["source"]
    for same in ({}, {"source": masked}, {"enabled": False}, {"enabled": True}):
        answer = client.patch(address, json=same)
        assert answer.status_code == 200
        assert "ss/w" not in answer.text
        assert bus.feed(feed.id).source.text == SECRET_SOURCE
    client.patch(address, json={"source": "demo", "name": None, "fps": None})
    now = bus.feed(feed.id)
    assert (now.source.text, now.name, now.fps, now.width) == ("demo", "Demo", 15, 320)


def test_a_disabled_feed_is_listed_as_such_in_its_place(client: FlaskClient, bus: Bus) -> None:
    for place, feed_id in enumerate("abc"):
        bus.put_feed(replace(builders.feed(feed_id), place=place))
    bus.report_capture("b", CaptureReport(FeedState.ERROR, "Plug it in.", fps_in=3))
    client.patch("/api/feeds/b", json={"enabled": False})
    rows = client.get("/api/feeds").json or []
    assert [(row["id"], row["status"]) for row in rows] == [
        ("a", "starting"),
        ("b", "disabled"),
        ("c", "starting"),
    ]
    assert (rows[1]["enabled"], rows[1]["error"], rows[1]["fps_in"]) == (False, None, 0)
    enabled = client.patch("/api/feeds/b", json={"enabled": True}).json or {}
    assert enabled["status"] != "disabled"


def test_feeds_are_listed_in_the_order_they_are_given(client: FlaskClient, bus: Bus) -> None:
    ids = [(client.post("/api/feeds", json={"source": "demo"}).json or {})["id"] for _ in range(4)]

    def listed() -> list[str]:
        return [row["id"] for row in client.get("/api/feeds").json or []]

    assert listed() == ids
    a, b, c, d = ids
    ordered = client.put("/api/feeds/order", json=[c, a, d, b])
    assert [row["id"] for row in ordered.json or []] == [c, a, d, b] == listed()
    client.put("/api/feeds/order", json=[d])  # asked by who knows of one only
    assert listed() == [d, c, a, b]
    new = (client.post("/api/feeds", json={"source": "demo"}).json or {})["id"]
    assert listed() == [d, c, a, b, new]
    gone = client.put("/api/feeds/order", json=[a, "nobody"])
    assert (gone.status_code, listed()) == (404, [d, c, a, b, new])
    for body in ({"a": 1}, [1], [a, a], "a"):
        refused = client.put("/api/feeds/order", json=body)
        assert (refused.status_code, (refused.json or {})["field"]) == (400, "order")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "source"),
        ({"source": "ftp://host/x"}, "source"),
        ({"source": "rtsp://***@other/x"}, "source"),  # as it is shown, and not this feed's
        ({"name": "a" * 81}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"fps": 61}, "fps"),
        ({"width": 63}, "width"),
        ({"width": 640.5}, "width"),
        ({"width": True}, "width"),
        ({"enabled": None}, "enabled"),
        ({"enabled": 1}, "enabled"),
        ({"place": 1}, "place"),
        ({"transient": True}, "transient"),
    ],
)
def test_a_change_that_does_not_fit_is_named_and_changes_nothing(
    client: FlaskClient, bus: Bus, body: Any, field: str
) -> None:
    feed = builders.feed("cam", SECRET_SOURCE)
    bus.put_feed(feed)
    answer = client.patch("/api/feeds/cam", json=body)
    assert (answer.status_code, (answer.json or {})["field"]) == (400, field)
    assert len((answer.json or {})["detail"]) > 20
    assert bus.feed("cam") == feed


def test_of_a_browsers_camera_only_the_name_can_be_changed(client: FlaskClient, bus: Bus) -> None:
    bus.put_feed(Feed("mine", "mine", Source.browser(), 15.0, 640, transient=True))
    assert client.patch("/api/feeds/mine", json={"name": "Phone"}).status_code == 200
    refused = client.patch("/api/feeds/mine", json={"enabled": False})
    assert (refused.status_code, bus.feed("mine").enabled) == (409, True)
    assert "stop it" in (refused.json or {})["detail"]


def test_a_feed_that_was_removed_meanwhile_stays_removed(client: FlaskClient, bus: Bus) -> None:
    assert client.patch("/api/feeds/cam", json={"name": "Hall"}).status_code == 404
    feed = builders.feed()
    bus.put_feed(feed)

    def change(feed: Feed) -> Feed:
        with contextlib.suppress(NotFound):
            bus.remove_feed(feed.id)
        return replace(feed, name="Hall")

    with pytest.raises(NotFound):
        bus.change_feed("cam", change)
    assert bus.feeds() == []


def test_changes_of_two_people_at_once_are_both_kept(bus: Bus) -> None:
    bus.put_feed(builders.feed())
    others = iter(range(1, 4))

    def change(feed: Feed) -> Feed:
        if other := next(others, 0):  # somebody else is faster, three times
            bus.put_feed(replace(bus.feed("cam"), width=600 + other))
        return replace(feed, name="Hall")

    bus.change_feed("cam", change)
    assert bus.feed("cam") == replace(builders.feed(), name="Hall", width=603)


# A test picture, before saving


@contextlib.contextmanager
def capturing(bus: Bus, answer: FirstPicture) -> Iterator[list[Trial]]:
    """A capture process's part in trials; gives those that it was asked for."""
    taken: list[Trial] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            bus.capture_runs()
            if trial := bus.take_trial():
                taken.append(trial)
                bus.answer_trial(trial.id, answer)
            over.wait(0.02)

    thread = threading.Thread(target=serve)
    thread.start()
    wait_until(bus.capture_is_running)
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def test_the_first_picture_of_a_source_is_shown_before_it_is_a_feed(
    client: FlaskClient, bus: Bus
) -> None:
    with capturing(bus, FirstPicture(b"\xff\xd8 picture")) as taken:
        answer = client.post("/api/feeds/test", json={"source": SECRET_SOURCE})
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
    assert answer.data == b"\xff\xd8 picture"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Moodline-Feed" not in answer.headers
    assert [trial.source.text for trial in taken] == [SECRET_SOURCE]
    assert client.get("/api/feeds").json == []
    with capturing(bus, FirstPicture(b"\xff\xd8", feed="cam")):
        answer = client.post("/api/feeds/test", json={"source": 0})
    assert answer.headers["Moodline-Feed"] == "cam"


def test_a_source_without_a_picture_is_a_problem_with_the_remedy(
    client: FlaskClient, bus: Bus
) -> None:
    answer = FirstPicture(problem="It asks for a password.", trouble=Trouble.LOGIN)
    with capturing(bus, answer):
        refused = client.post("/api/feeds/test", json={"source": SECRET_SOURCE})
    assert refused.status_code == 422
    problem = refused.json or {}
    assert (problem["field"], problem["detail"]) == ("source", "It asks for a password.")
    assert problem["error_kind"] == "login"
    assert problem["source"] == Source.parse(SECRET_SOURCE).masked


def test_an_error_comes_with_its_kind_until_it_is_over(client: FlaskClient, bus: Bus) -> None:
    bus.put_feed(builders.feed("cam"))

    def told() -> tuple[str | None, str | None]:
        feed = (client.get("/api/feeds/cam").json) or {}
        return feed["error"], feed["error_kind"]

    assert told()[1] == "no_capture"
    bus.report_capture(
        "cam", CaptureReport(FeedState.RECONNECTING, "No answer.", trouble=Trouble.SILENT)
    )
    assert told() == ("No answer.", "silent")
    bus.report_capture("cam", CaptureReport(FeedState.LIVE))
    assert told() == (None, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "source"), ({"source": "ftp://x/y"}, "source"), ({"source": "demo", "fps": 5}, "fps")],
)
def test_what_cannot_be_tried_is_refused_before_anybody_is_asked(
    client: FlaskClient, bus: Bus, body: Any, field: str
) -> None:
    answer = client.post("/api/feeds/test", json=body)
    assert (answer.status_code, (answer.json or {})["field"]) == (400, field)
    assert bus.take_trial() is None


def test_without_a_capture_process_a_trial_says_so_at_once(
    client: FlaskClient, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.post("/api/feeds/test", json={"source": "demo"})
    assert (answer.status_code, bus.take_trial()) == (503, None)
    assert "moodline capture" in (answer.json or {})["detail"]
    monkeypatch.setattr("web.trials._TAKEN_WITHIN_S", 0.1)
    bus.capture_runs()  # and was killed since
    answer = client.post("/api/feeds/test", json={"source": "demo"})
    assert (answer.status_code, bus.take_trial()) == (503, None)


def test_trials_are_few_at_once_and_bounded_a_minute(client: FlaskClient, bus: Bus) -> None:
    with capturing(bus, FirstPicture(problem="No.")):
        codes = [
            client.post("/api/feeds/test", json={"source": "demo"}).status_code for _ in range(22)
        ]
    assert codes == [422] * 20 + [429] * 2
    refused = client.post("/api/feeds/test", json={"source": "demo"})
    assert 50 < int(refused.headers["Retry-After"]) <= 61


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
        ("GET", "/api/feeds/order"),
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


def test_without_redis_the_answer_says_so(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    answer = app.test_client().get("/api/feeds")
    assert answer.status_code == 503
    assert "Redis" in (answer.json or {})["detail"]
    assert answer.headers["Retry-After"]
    close_app(app)
