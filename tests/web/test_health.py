from __future__ import annotations

from pathlib import Path

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from shared.bus import Bus
from tests import builders
from tests.web.conftest import settings
from tests.web.studio import Studio
from web import close_app, create_app


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_alive_needs_nothing(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    assert app.test_client().get("/healthz").json == {"status": "alive"}
    close_app(app)


def test_ready_says_what_is_missing(client: FlaskClient, bus: Bus) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert [part["part"] for part in (answer.json or {})["missing"]] == ["capture", "worker"]
    assert "moodline worker" in (answer.json or {})["detail"]
    Studio(bus, []).report()
    assert client.get("/readyz").json == {"status": "ready", "missing": []}
    bus.remove_worker("studio")
    answer = client.get("/readyz")
    assert [part["part"] for part in (answer.json or {})["missing"]] == ["worker"]


def test_ready_names_redis_when_it_is_away(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("redis://me:secret@127.0.0.1:1/0"))
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert [part["part"] for part in (answer.json or {})["missing"]] == ["redis"]
    assert "secret" not in answer.text
    close_app(app)


def test_metrics_tell_of_feeds_and_workers(client: FlaskClient, bus: Bus) -> None:
    studio = Studio(bus, [builders.feed("a"), builders.feed("b")])
    for _ in range(5):
        studio.turn()
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    found = figures(answer.text)
    assert found["moodline_redis_up",] == 1
    assert found["moodline_feed_captured_frames_total", "a", "a"] == 5
    assert found["moodline_feed_analysed_frames_total", "b", "b"] == 5
    assert found["moodline_feed_dropped_frames_total", "a", "a", "stale"] == 0
    assert found["moodline_feed_fps", "a", "a", "captured"] == 15
    assert 0 <= found["moodline_feed_latency_seconds", "a", "a", "0.95"] < 5
    assert found["moodline_feed_viewers", "a", "a"] == 0
    assert found["moodline_feed_state", "a", "a", "live"] == 1
    assert found["moodline_feed_state", "a", "a", "error"] == 0
    assert found["moodline_workers",] == 1
    assert found["moodline_worker_frames_total", "studio"] == 1
    assert found["moodline_web_clients",] == 0
    assert found["moodline_web_process_resident_memory_bytes",] > 1e6


def test_metrics_without_redis_say_that(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    found = figures(app.test_client().get("/metrics").text)
    assert found["moodline_redis_up",] == 0
    assert not any(key[0].startswith("moodline_feed") for key in found)
    close_app(app)
