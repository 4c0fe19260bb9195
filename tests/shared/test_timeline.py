"""How far back a live timeline reaches, at which resolution, and what it says of doubt."""

from __future__ import annotations

import time

import pytest

from shared.bus import Bus
from shared.schema import Face
from tests import builders
from tests.builders import LABELS

FEED = builders.feed("cam")
SURE, UNSURE = builders.face(1, happy=0.8), builders.face(1, happy=0.36)


@pytest.fixture
def cam(bus: Bus) -> Bus:
    bus.put_feed(FEED)
    return bus


def analyse(cam: Bus, at: float, *faces: Face, labels: tuple[str, ...] = LABELS) -> None:
    cam.put_frame(FEED, b"jpeg", at)
    (claim,) = cam.claim("drain", max_feeds=1, max_frames=4, staleness_s=5.0)
    rows = builders.outcomes(claim, *faces)
    cam.publish([(claim, {}, rows)], labels=labels, unsure_below=0.4, timeline_s=3600)


def test_of_an_hour_each_second_is_kept_as_its_mean_with_the_share_of_doubt(cam: Bus) -> None:
    begun = float(int(time.time()) - 3000)
    second = builders.face(2, happy=0.6)
    for at, faces in [
        (0.1, (SURE,)),
        (0.4, (UNSURE, second)),
        (0.7, (UNSURE,)),
        (0.9, (UNSURE,)),
        (1.2, (SURE,)),
        (7.5, (SURE,)),  # nobody in between
    ]:
        analyse(cam, begun + at, *faces)
    points = cam.timeline("cam", since=begun - 1).points
    assert [(p.t - begun, p.track, p.frames, p.unsure) for p in points] == [
        (0.5, 1, 4, 0.75),
        (0.5, 2, 1, 0.0),
        (1.5, 1, 1, 0.0),
        (7.5, 1, 1, 0.0),  # the second that is not over yet
    ]
    assert points[0].scores == pytest.approx(((0.1 + 3 * 0.32) / 4, 0.47, 0.265), abs=0.001)
    assert points[-1].scores == pytest.approx((0.1, 0.8, 0.1))


def test_of_the_last_two_minutes_each_frame_is_kept(cam: Bus) -> None:
    now = time.time()
    for k in range(4):
        analyse(cam, now - 1 + k / 10, UNSURE if k else SURE)
    points = cam.timeline("cam", since=now - 60).points
    assert [p.t for p in points] == [now - 1 + k / 10 for k in range(4)]
    assert [p.unsure for p in points] == [0.0, 1.0, 1.0, 1.0]
    assert len(cam.timeline("cam", since=now - 300).points) <= 2


def test_the_mean_of_a_second_costs_a_fifth_of_its_frames_at_most(cam: Bus) -> None:
    begun = float(int(time.time()) - 3000)
    for k in range(900):
        analyse(cam, begun + k / 15, SURE)
    each_frame, means = (
        cam._redis.memory_usage(f"moodline:feed:cam:{what}", samples=0) or 0
        for what in ("timeline", "past")
    )
    assert 0 < means < each_frame / 5, (means, each_frame)


def test_scores_of_another_model_are_not_mixed_in(cam: Bus) -> None:
    begun = float(int(time.time()) - 1000)
    analyse(cam, begun + 0.2, SURE)
    other = Face(1, (1, 2, 3, 4), "calm", 0.7, {"calm": 0.7, "loud": 0.3})
    analyse(cam, begun + 0.6, other, labels=("calm", "loud"))
    timeline = cam.timeline("cam", since=begun - 1)
    assert timeline.labels == ("calm", "loud")
    assert [p.scores for p in timeline.points] == [(0.7, 0.3)]


def test_nothing_of_it_outlives_the_feed(cam: Bus) -> None:
    for k in range(20):
        analyse(cam, time.time() - 500 + k / 4, SURE)
    cam.remove_feed("cam")
    assert cam._redis.keys("moodline:feed:cam:*") == []
