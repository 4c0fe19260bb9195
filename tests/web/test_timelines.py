from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from tests import builders
from tests.web.studio import LABELS, UNSURE_BELOW, Studio


def test_the_timeline_gives_each_face_its_points(client: FlaskClient, bus: Bus) -> None:
    studio = Studio(bus, [builders.feed()])
    for _ in range(4):
        studio.turn()
    answer = client.get("/api/feeds/cam/timeline?seconds=30").json
    assert answer is not None
    assert answer["labels"] == list(LABELS)
    assert (answer["unsure_below"], answer["resolution_s"]) == (UNSURE_BELOW, 0)
    (track,) = answer["tracks"]
    assert track["track"] == 1
    assert len(track["points"]) == len(track["unsure"]) == 4
    times = [t for t, *_ in track["points"]]
    assert times == sorted(times)
    assert all(abs(sum(scores) - 1) < 0.01 for _, *scores in track["points"])
    time.sleep(0.3)
    assert (client.get("/api/feeds/cam/timeline?seconds=0.2").json or {})["tracks"] == []


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "all", "3601"])
def test_the_timeline_reaches_no_further_than_is_kept(client: FlaskClient, seconds: str) -> None:
    answer = client.get(f"/api/feeds/cam/timeline?seconds={seconds}")
    assert (answer.status_code, (answer.json or {})["field"]) == (400, "seconds")


def test_short_timelines_are_thinned_evenly_and_keep_the_newest(
    client: FlaskClient, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.timelines._MAX_POINTS", 4)
    studio = Studio(bus, [builders.feed()])
    for _ in range(9):
        studio.turn()
    newest = bus.timeline("cam", time.time() - 60).points[-1].t
    (track,) = (client.get("/api/feeds/cam/timeline").json or {})["tracks"]
    assert len(track["points"]) == len(track["unsure"]) == 3
    assert track["points"][-1][0] == newest


@pytest.mark.parametrize(("seconds", "resolution_s"), [(300, 1), (900, 2), (3600, 5)])
def test_long_timelines_are_means_over_pieces_of_the_clock(
    client: FlaskClient, bus: Bus, seconds: int, resolution_s: int
) -> None:
    feed = builders.feed()
    bus.put_feed(feed)
    begun = time.time() // 10 * 10 - 200
    # Ten frames a second at first, then one a second, unsure; they share a piece.
    frames = [(k / 10, 0.9) for k in range(10)] + [(k, 0.36) for k in range(1, 10)]
    for at, happy in frames:
        bus.put_frame(feed, b"jpeg", begun + at)
        (claim,) = bus.claim("drain", max_feeds=1, max_frames=1, staleness_s=5)
        rows = builders.outcomes(claim, builders.face(1, happy=happy))
        bus.publish([(claim, {}, rows)], labels=builders.LABELS, unsure_below=0.4, timeline_s=3600)
    answer = client.get(f"/api/feeds/cam/timeline?seconds={seconds}").json or {}
    assert answer["resolution_s"] == resolution_s
    (track,) = answer["tracks"]
    assert len(track["points"]) == len(track["unsure"]) == 10 / resolution_s
    pieces = [int(t // resolution_s) for t, *_ in track["points"]]
    assert pieces == sorted(set(pieces))
    others = resolution_s - 1  # of the first piece's frames, those after its first second
    mean = (10 * 0.9 + others * 0.36) / (10 + others)
    assert track["points"][0][2] == pytest.approx(mean, abs=0.002)
    assert track["unsure"] == [pytest.approx(others / (10 + others), abs=0.001)] + [1.0] * (
        10 // resolution_s - 1
    )
