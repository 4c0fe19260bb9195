"""Starting and stopping recordings over HTTP, and who may, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.recording_bus import RecordingBus
from shared.recordings import Ending, Saved
from shared.schema import CaptureReport, FeedState
from shared.video import MAX_NAME_LENGTH
from tests import builders
from tests.web.conftest import PASSWORD, settings
from web import close_app, create_app

RECORDING = "/api/feeds/cam/recording"


@pytest.fixture
def recordings(bus: Bus) -> Iterator[RecordingBus]:
    """With a feed to be recorded, and somebody to do it."""
    recordings = RecordingBus(bus.url)
    bus.capture_runs()
    bus.restore_feeds([])
    bus.put_feed(builders.feed())
    bus.report_capture("cam", CaptureReport(FeedState.LIVE))
    yield recordings
    recordings.close()


def feed_of(client: FlaskClient) -> dict[str, Any]:
    feeds: list[dict[str, Any]] = client.get("/api/feeds").json or []
    return feeds[0]


def test_a_recording_is_told_of_from_its_start_to_its_video(
    client: FlaskClient, bus: Bus, recordings: RecordingBus
) -> None:
    assert feed_of(client)["recording"] is None
    answer = client.post(RECORDING, json={"name": "Rehearsal"})
    assert answer.status_code == 202
    nothing_yet = {"state": "starting", "since": None, "frames": 0, "missed": 0}
    assert (answer.json or {})["recording"] == feed_of(client)["recording"] == nothing_yet

    wanted, _ = recordings.seen(["cam"])["cam"]
    assert wanted is not None
    assert wanted.name == "Rehearsal"
    assert recordings.own("cam", wanted.id, "a machine")
    recordings.hold("cam", replace(wanted, since=5.5, frames=7, missed=2), "a machine")
    going_on = {"state": "recording", "since": 5.5, "frames": 7, "missed": 2}
    assert feed_of(client)["recording"] == going_on

    assert client.delete(RECORDING).status_code == 200
    assert client.delete(RECORDING).status_code == 200  # somebody else clicked at the same time
    assert feed_of(client)["recording"]["state"] == "saving"
    recordings.end(
        "cam", wanted.id, Saved(wanted.id, "Rehearsal", Ending.STOPPED, 7, 2), "a machine"
    )
    feed = feed_of(client)
    assert feed["recording"] is None
    assert feed["recorded"] == {
        "video": wanted.id,
        "name": "Rehearsal",
        "ending": "stopped",
        "frames": 7,
        "missed": 2,
    }
    bus.capture_runs()  # a slow machine may have taken longer than that counts
    assert client.post(RECORDING).status_code == 202  # the next one
    assert feed_of(client)["recorded"] is None


def test_who_starts_hears_where_it_is_kept_and_how_long(
    bus: Bus, recordings: RecordingBus, tmp_path: Path
) -> None:
    address = "s3://key:secret@bucket/videos"
    app = create_app(settings(tmp_path, MEDIA_URL=address, retention_days=30), bus)
    answer = app.test_client().get(RECORDING).json or {}
    close_app(app)
    assert answer["kept_days"] == 30
    assert answer["longest_h"] == 4
    assert "bucket/videos" in answer["kept_in"]
    assert "secret" not in answer["kept_in"]


def test_what_cannot_be_recorded_is_refused_with_what_to_do(
    client: FlaskClient, bus: Bus, recordings: RecordingBus
) -> None:
    def refused(address: str = RECORDING, body: object = None) -> tuple[int, str]:
        answer = client.post(address) if body is None else client.post(address, json=body)
        return answer.status_code, (answer.json or {})["detail"]

    assert refused("/api/feeds/no/recording")[0] == 404
    assert client.delete(RECORDING).status_code == 404
    assert refused(body={"name": 5})[0] == 400
    assert refused(body={"name": "x" * (MAX_NAME_LENGTH + 1)})[0] == 400
    assert refused(body={"title": "x"})[0] == 400
    assert client.post(RECORDING, data="{", content_type="application/json").status_code == 400
    assert client.post(RECORDING).status_code == 202
    status, detail = refused()
    assert (status, "stop that" in detail) == (409, True)
    client.delete(RECORDING)

    bus.report_capture("cam", CaptureReport(FeedState.ENDED))
    assert refused()[0] == 409
    bus.change_feed("cam", lambda feed: replace(feed, enabled=False))
    status, detail = refused()
    assert (status, "switch it on" in detail) == (409, True)
    bus.change_feed("cam", lambda feed: replace(feed, enabled=True))
    bus.report_capture("cam", CaptureReport(FeedState.LIVE))
    bus._redis.delete("moodline:capturing")
    status, detail = refused()
    assert (status, "moodline capture" in detail) == (409, True)


def test_strangers_start_nothing(bus: Bus, recordings: RecordingBus, tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, password=PASSWORD), bus)
    client = app.test_client()
    assert client.post(RECORDING).status_code == 401
    assert client.post(RECORDING, headers={"Origin": "http://elsewhere"}).status_code in (401, 403)
    close_app(app)
    assert recordings.seen(["cam"])["cam"] == (None, None)


def test_the_answers_are_as_described(client: FlaskClient, recordings: RecordingBus) -> None:
    document = client.get("/api/openapi.json").json or {}
    schemas = document["components"]["schemas"]

    def check(value: object, name: str) -> None:
        schema = {**schemas[name], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    check(client.get(RECORDING).json, "FeedRecording")
    check(client.post(RECORDING).json, "FeedRecording")
    check(feed_of(client), "Feed")
    recordings.end("cam", "0" * 16, Saved("", "", Ending.DISK, 0, 0), "a machine")
    check(client.delete(RECORDING).json, "FeedRecording")
    check(feed_of(client), "Feed")
