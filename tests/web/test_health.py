from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from shared.bus import Bus
from shared.event_bus import EventBus
from shared.events import Rule, RuleKind
from shared.jobs import Jobs
from shared.media import Media
from shared.recording_bus import RecordingBus
from shared.schema import WorkerReport
from tests import builders
from tests.web.conftest import DEMO, form_of, settings, wait_until
from tests.web.studio import Studio
from tests.web.test_events import happen
from web import close_app, create_app, readiness
from web.health import _MAX_FEEDS
from workers.live import Delays


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
    assert found["moodline_feed_captured_frames_total", "a"] == 5
    assert found["moodline_feed_analysed_frames_total", "b"] == 5
    assert found["moodline_feed_dropped_frames_total", "a", "stale"] == 0
    assert found["moodline_feed_fps", "a", "captured"] == 15
    assert 0 <= found["moodline_feed_latency_seconds", "a", "0.95"] < 5
    assert found["moodline_feed_viewers", "a"] == 0
    assert found["moodline_feed_state", "a", "live"] == 1
    assert ("moodline_feed_state", "a", "error") not in found
    assert found["moodline_feeds", "live"] == 2
    assert found["moodline_feed_info", "a", "a"] == 1
    assert found["moodline_workers",] == 1
    assert found["moodline_worker_frames_total", "studio"] == 1
    assert found["moodline_web_clients",] == 0
    assert found["moodline_web_process_resident_memory_bytes",] > 1e6


def test_the_queue_age_says_how_long_the_first_has_waited(client: FlaskClient, bus: Bus) -> None:
    """What autoscaling goes by: it grows while nobody serves, and falls when somebody does."""
    assert figures(client.get("/metrics").text)["moodline_queue_age_seconds", "live"] == 0
    feed = builders.feed("cam")
    bus.put_feed(feed)
    bus.put_frame(feed, b"jpeg", time.time())
    Jobs(bus.url).enqueue_step("0" * 16, "plan")
    time.sleep(0.3)
    found = figures(client.get("/metrics").text)
    assert 0.3 <= found["moodline_queue_age_seconds", "live"] < 5
    assert 0.2 <= found["moodline_queue_age_seconds", "video"] < 5
    assert found["moodline_ready_feeds",] == 1
    assert found["moodline_video_steps_waiting",] == 1
    bus.claim("d", max_feeds=4, max_frames=4, staleness_s=5)
    found = figures(client.get("/metrics").text)
    assert found["moodline_queue_age_seconds", "live"] == 0
    assert (found["moodline_ready_feeds",], found["moodline_drains",]) == (0, 1)


def test_a_workers_share_of_time_and_delays_add_up(client: FlaskClient, bus: Bus) -> None:
    delays = Delays()
    for delay_s in (0.01, 0.04, 0.04, 0.2, 7.0, -1.0):
        delays.add(delay_s)
    bus.report_worker(
        WorkerReport(
            name="w",
            model="m",
            labels=("happy",),
            started_at=time.time(),
            busy_seconds=12.5,
            delays=delays.counts,
            delay_seconds=delays.sum_s,
        )
    )
    found = figures(client.get("/metrics").text)
    assert found["moodline_worker_busy_seconds_total", "w"] == 12.5
    assert found["moodline_worker_delay_seconds_bucket", "0.025", "w"] == 2
    assert found["moodline_worker_delay_seconds_bucket", "0.05", "w"] == 4
    assert found["moodline_worker_delay_seconds_bucket", "2.5", "w"] == 5
    assert found["moodline_worker_delay_seconds_bucket", "+Inf", "w"] == 6
    assert found["moodline_worker_delay_seconds_count", "w"] == 6
    assert found["moodline_worker_delay_seconds_sum", "w"] == pytest.approx(7.29)


def test_a_report_of_a_newer_worker_is_read_as_far_as_it_is_known() -> None:
    row = json.loads(WorkerReport("w", "m", ("happy",), 1.0, frames=3).to_json())
    assert WorkerReport.from_json(json.dumps({**row, "mood": "good"})).frames == 3


def test_files_that_are_taken_and_refused_are_counted(client: FlaskClient) -> None:
    for data in (DEMO.read_bytes(), b"no video at all"):
        body, headers = form_of(data)
        client.post("/api/videos", data=body, headers=headers)
    found = figures(client.get("/metrics").text)
    assert found["moodline_web_uploaded_files_total", "taken"] == 1
    assert found["moodline_web_uploaded_files_total", "refused"] == 1
    assert found["moodline_web_uploaded_bytes_total",] == DEMO.stat().st_size


def test_recordings_are_counted_by_state(client: FlaskClient, bus: Bus) -> None:
    bus.put_feed(builders.feed("a"))
    bus.put_feed(builders.feed("b"))
    recordings = RecordingBus(bus.url)
    recordings.start("a", "0" * 16, "")
    recordings.close()
    found = figures(client.get("/metrics").text)
    assert found["moodline_recordings", "starting"] == 1
    assert found["moodline_recordings", "recording"] == 0


def test_events_are_counted_also_those_that_are_gone(client: FlaskClient, bus: Bus) -> None:
    events = EventBus(bus.url)
    rule = Rule("0000000b", "Door", RuleKind.NEW_PERSON, 1)
    for at in (1.0, 2.0):
        happen(events, rule, at=at)
    events.remove_events()
    events.close()
    assert figures(client.get("/metrics").text)["moodline_events_total",] == 2


def test_metrics_stay_bounded_however_many_feeds_there_are(client: FlaskClient, bus: Bus) -> None:
    for number in range(_MAX_FEEDS + 5):
        bus.put_feed(builders.feed(f"f{number}"))
    found = figures(client.get("/metrics").text)
    assert found["moodline_feeds", "starting"] == _MAX_FEEDS + 5
    assert sum(key[0] == "moodline_feed_captured_frames_total" for key in found) == _MAX_FEEDS


def test_ready_names_a_storage_that_cannot_be_written(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    app = create_app(settings(tmp_path, media_url=str(tmp_path / "taken")), bus)
    Studio(bus, []).report()
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert [part["part"] for part in (answer.json or {})["missing"]] == ["storage"]
    assert "MEDIA_URL" in (answer.json or {})["detail"]
    close_app(app)


def test_a_storage_that_hangs_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Media):
        tries = 0
        freed = threading.Event()

        def write(self, path: str, data: bytes) -> None:
            self.tries += 1
            self.freed.wait(10)

    monkeypatch.setattr(readiness, "_PATIENCE_S", 0.5)
    media = Hanging(str(tmp_path))
    probe = readiness.StorageProbe(media)
    assert "has not answered" in probe.problem()
    asked_at = time.monotonic()
    assert all("has not answered" in probe.problem() for _ in range(5))
    assert time.monotonic() - asked_at < 1.5  # the first one has waited for all
    assert media.tries == 1
    media.freed.set()
    wait_until(lambda: probe.problem() == "")
    assert media.tries == 1  # not tried anew at each call


def test_metrics_without_redis_say_that(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), Bus("unix:///nowhere/redis.sock"))
    found = figures(app.test_client().get("/metrics").text)
    assert found["moodline_redis_up",] == 0
    assert not any(key[0].startswith("moodline_feed") for key in found)
    close_app(app)
