"""The contract of the bus, on a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from shared import bus as bus_module
from shared.bus import Bus
from shared.errors import BusError, NotFound
from shared.schema import CaptureReport, Claim, Drop, FeedState, Outcome
from tests import builders
from tests.builders import LABELS


def put(bus: Bus, feed_id: str = "cam", count: int = 1, *, at: float | None = None) -> list[bool]:
    feed = builders.feed(feed_id)
    at = time.time() if at is None else at
    return [bus.put_frame(feed, b"jpeg%d" % i, at).wake for i in range(count)]


def claim(bus: Bus, drain: str = "d1", **limits: float) -> list[Claim]:
    wanted = {"max_feeds": 8, "max_frames": 4, "staleness_s": 5.0, **limits}
    return bus.claim(
        drain,
        max_feeds=int(wanted["max_feeds"]),
        max_frames=int(wanted["max_frames"]),
        staleness_s=wanted["staleness_s"],
    )


def publish(bus: Bus, taken: Claim) -> list[Exception]:
    rows = builders.outcomes(taken, builders.face())
    return list(
        bus.publish([(taken, {"next": 2}, rows)], labels=LABELS, unsure_below=0.4, timeline_s=60)
    )


@pytest.fixture
def cam(bus: Bus) -> Bus:
    bus.put_feed(builders.feed("cam"))
    return bus


def test_a_frame_goes_from_capture_to_viewer(cam: Bus) -> None:
    put(cam)
    (taken,) = claim(cam)
    assert [frame.jpeg for frame in taken.frames] == [b"jpeg0"]
    assert publish(cam, taken) == []
    (seen,) = cam.results_after({"cam": "0"}, block_s=0.1)
    assert seen.jpeg == b"jpeg0"
    assert seen.id == taken.frames[0].id
    assert seen.result.faces[0].emotion == "happy"
    assert cam.latest("cam") == seen


def test_results_after_an_id_are_only_newer_ones(cam: Bus) -> None:
    put(cam, count=2)
    (taken,) = claim(cam)
    publish(cam, taken)
    first, second = cam.results_after({"cam": "0"}, block_s=0.1)
    assert cam.results_after({"cam": first.id}, block_s=0.1) == [second]
    assert cam.results_after({"cam": second.id}, block_s=0.01) == []


def test_a_claimed_feed_is_nobody_elses(cam: Bus) -> None:
    put(cam)
    assert claim(cam, "d1")
    put(cam)
    assert claim(cam, "d2") == []


def test_frames_that_came_during_a_claim_make_the_feed_ready_again(cam: Bus) -> None:
    put(cam)
    (taken,) = claim(cam)
    put(cam)
    publish(cam, taken)
    (again,) = claim(cam)
    assert [frame.seq for frame in again.frames] == [2]


def test_the_trackers_state_travels_with_the_claim(cam: Bus) -> None:
    put(cam)
    (taken,) = claim(cam)
    assert taken.state is None
    publish(cam, taken)
    put(cam)
    (again,) = claim(cam, "another worker")
    assert again.state == {"next": 2}


def test_what_a_state_shows_goes_with_the_pictures(
    cam: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ttl_s, found in ((10.0, {"next": 2, "glimpses": ["grey"]}), (0.05, {"next": 2})):
        monkeypatch.setattr(bus_module, "PICTURES_TTL_S", ttl_s)
        put(cam)
        (taken,) = claim(cam)
        state = {"next": 2, "glimpses": ["grey"]}
        rows = builders.outcomes(taken, builders.face())
        cam.publish([(taken, state, rows)], labels=LABELS, unsure_below=0.4, timeline_s=60)
        time.sleep(0.1)
        monkeypatch.setattr(bus_module, "PICTURES_TTL_S", 10.0)
        put(cam)
        (again,) = claim(cam)
        assert again.state == found
        publish(cam, again)


def test_a_worker_whose_lease_ran_out_cannot_publish(
    cam: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LEASE_S", 0.05)
    put(cam)
    (late,) = claim(cam, "dead")
    time.sleep(0.1)
    put(cam)
    (taken,) = claim(cam, "alive")
    assert [frame.seq for frame in taken.frames] == [1, 2]
    assert len(publish(cam, late)) == 1
    assert cam.latest("cam") is None
    assert publish(cam, taken) == []


def test_a_renewed_lease_holds(cam: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "LEASE_S", 0.3)
    put(cam)
    (taken,) = claim(cam)
    for _ in range(4):
        time.sleep(0.1)
        cam.renew("d1", [taken])
    put(cam)
    assert claim(cam, "d2") == []
    assert publish(cam, taken) == []


def test_the_newest_frames_win_and_the_others_are_counted(cam: Bus) -> None:
    put(cam)
    publish(cam, claim(cam)[0])
    put(cam, count=10)
    (taken,) = claim(cam, max_frames=4)
    assert [frame.seq for frame in taken.frames] == [8, 9, 10, 11]
    publish(cam, taken)
    status = cam.statuses(["cam"])["cam"]
    assert status.drops[Drop.OVERRUN] == 6
    assert status.analysed == 5
    assert status.captured == status.analysed + status.dropped


def test_stale_frames_are_dropped_and_counted_once(cam: Bus) -> None:
    put(cam)
    publish(cam, claim(cam)[0])
    put(cam, count=2)
    time.sleep(0.06)
    put(cam)
    (taken,) = claim(cam, staleness_s=0.05)
    assert [frame.seq for frame in taken.frames] == [4]
    assert cam.statuses(["cam"])["cam"].drops[Drop.STALE] == 2


def test_drops_are_not_counted_again_when_another_worker_takes_over(
    cam: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cam)
    publish(cam, claim(cam)[0])
    put(cam, count=6)
    monkeypatch.setattr(bus_module, "LEASE_S", 0.02)
    claim(cam, "dies")
    time.sleep(0.05)
    cam.tick()
    (taken,) = claim(cam, "lives")
    assert [frame.seq for frame in taken.frames] == [4, 5, 6, 7]
    assert cam.statuses(["cam"])["cam"].drops[Drop.OVERRUN] == 2


def test_nothing_but_stale_frames_is_no_claim_and_frees_the_feed(cam: Bus) -> None:
    put(cam)
    time.sleep(0.05)
    assert claim(cam, staleness_s=0.02) == []
    put(cam)
    assert len(claim(cam)) == 1


def test_drains_share_the_ready_feeds_evenly(bus: Bus) -> None:
    for name in ("a", "b", "c", "d"):
        bus.put_feed(builders.feed(name))
    claim(bus, "d1")
    claim(bus, "d2")
    for name in ("a", "b", "c", "d"):
        put(bus, name)
    assert [taken.feed for taken in claim(bus, "d1")] == ["a", "b"]
    assert [taken.feed for taken in claim(bus, "d2")] == ["c"]


def test_a_drain_is_asked_for_once_while_none_runs(cam: Bus) -> None:
    assert put(cam, count=3) == [True, False, False]


def test_no_drain_is_asked_for_while_one_keeps_up(cam: Bus) -> None:
    put(cam)
    cam.drain_started()
    publish(cam, claim(cam)[0])
    assert put(cam) == [False]


def test_another_drain_is_asked_for_when_feeds_wait(bus: Bus) -> None:
    for name in ("a", "b"):
        bus.put_feed(builders.feed(name))
    put(bus, "a")
    bus.drain_started()
    claim(bus)
    put(bus, "b")
    time.sleep(0.06)
    assert put(bus, "b") == [True]


def test_a_drain_that_ends_with_feeds_waiting_asks_for_the_next(bus: Bus) -> None:
    bus.put_feed(builders.feed("a"))
    put(bus, "a")
    bus.drain_started()
    claim(bus)
    assert bus.drain_ended("d1") is False
    bus.tick()
    bus.put_feed(builders.feed("b"))
    put(bus, "b")
    bus.drain_started()
    assert bus.drain_ended("d1") is True


def test_the_safety_net_finds_a_feed_whose_worker_died(
    cam: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LEASE_S", 0.02)
    put(cam)
    cam.drain_started()
    claim(cam)
    assert cam.tick() is False
    time.sleep(0.05)
    assert cam.tick() is True
    assert len(claim(cam)) == 1


def test_waiting_ends_when_a_feed_becomes_ready(cam: Bus) -> None:
    put(cam)
    started = time.monotonic()
    cam.wait_ready(20.0)
    assert time.monotonic() - started < 10.0


def test_frames_and_results_are_capped(cam: Bus) -> None:
    for _ in range(bus_module.MAX_RESULTS // 4 + 10):
        put(cam, count=4)
        publish(cam, claim(cam)[0])
    assert cam._redis.xlen("moodline:feed:cam:frames") == 30
    assert cam._redis.xlen("moodline:feed:cam:results") == bus_module.MAX_RESULTS


def test_pictures_and_scores_go_when_a_camera_sends_nothing_more(
    cam: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "PICTURES_TTL_S", 0.05)
    put(cam)
    (taken,) = claim(cam)
    cam.publish(
        [(taken, {}, builders.outcomes(taken, builders.face()))],
        labels=LABELS,
        unsure_below=0.4,
        timeline_s=0.05,
    )
    assert cam.latest("cam") is not None
    time.sleep(0.1)
    assert cam.latest("cam") is None
    assert cam.timeline("cam", since=0).points == ()
    assert cam._redis.exists("moodline:feed:cam:frames") == 0


def test_a_frame_that_cannot_be_analysed_is_counted_with_its_reason(cam: Bus) -> None:
    put(cam, count=2)
    (taken,) = claim(cam)
    bad, good = taken.frames
    rows = [Outcome(bad, None, "no JPEG"), Outcome(good, builders.result(good))]
    cam.publish([(taken, {}, rows)], labels=LABELS, unsure_below=0.4, timeline_s=60)
    status = cam.statuses(["cam"])["cam"]
    assert (status.analysed, status.drops[Drop.CORRUPT]) == (1, 1)
    assert claim(cam) == []


def test_the_timeline_gives_each_track_its_points(cam: Bus) -> None:
    at = time.time()
    put(cam, at=at)
    (taken,) = claim(cam)
    rows = builders.outcomes(taken, builders.face(1), builders.face(2, happy=0.5))
    cam.publish([(taken, {}, rows)], labels=LABELS, unsure_below=0.4, timeline_s=60)
    kept = cam.timeline("cam", since=at - 1)
    assert (kept.labels, kept.unsure_below) == (LABELS, 0.4)
    assert [(p.t, p.track, p.scores) for p in kept.points] == [
        (at, 1, (0.1, 0.8, 0.1)),
        (at, 2, (0.25, 0.5, 0.25)),
    ]
    assert cam.timeline("cam", since=at + 1).points == ()


def test_numbers_go_on_rising_when_redis_lost_its_memory(cam: Bus) -> None:
    feed = builders.feed("cam")
    last = [cam.put_frame(feed, b"x", time.time()).seq for _ in range(3)][-1]
    cam._redis.flushall()
    cam.put_feed(feed)
    assert cam.put_frame(feed, b"x", time.time(), after_seq=last).seq == 4


def test_a_removed_feed_leaves_nothing_and_takes_no_frames(cam: Bus) -> None:
    put(cam, count=2)
    (taken,) = claim(cam)
    cam.report_capture("cam", CaptureReport(FeedState.LIVE))
    cam.remove_feed("cam")
    assert publish(cam, taken) == []  # that its feed was removed is no worker's fault
    assert cam.put_frame(builders.feed("cam"), b"x", time.time()).seq == 0
    assert cam._redis.keys("moodline:feed:cam:*") == []
    with pytest.raises(NotFound, match="moodline feeds list"):
        cam.remove_feed("cam")


def test_a_new_registry_is_restored_once(bus: Bus) -> None:
    assert bus.feeds_version() is None
    bus.put_feed(builders.feed("new"))
    assert bus.restore_feeds([builders.feed("old")]) is True
    assert bus.restore_feeds([builders.feed("older")]) is False
    assert {feed.id for feed in bus.feeds()} == {"new", "old"}
    before = bus.feeds_version()
    bus.remove_feed("old")
    assert bus.feeds_version() != before


def test_one_owner_captures_a_feed(bus: Bus) -> None:
    assert bus.own_feed("cam", "here")
    assert not bus.own_feed("cam", "there")
    assert bus.own_feed("cam", "here")


def test_a_feed_that_nobody_captures_says_so(cam: Bus) -> None:
    status = cam.statuses(["cam"])["cam"]
    assert status.state is FeedState.STARTING
    assert "moodline capture" in status.error
    cam.capture_runs()
    assert cam.statuses(["cam"])["cam"].error == ""
    cam.report_capture("cam", CaptureReport(FeedState.LIVE, fps_in=14.9, reconnects=2))
    status = cam.statuses(["cam"])["cam"]
    assert (status.state, status.error, status.fps_in, status.reconnects) == (
        FeedState.LIVE,
        "",
        14.9,
        2,
    )


def test_viewers_are_added_up_over_web_processes(cam: Bus) -> None:
    cam.put_viewers("web1", {"cam": 2})
    cam.put_viewers("web2", {"cam": 1, "other": 5})
    assert cam.statuses(["cam"])["cam"].viewers == 3


@pytest.mark.parametrize("verb", [Bus.feeds, Bus.workers, Bus.ping])
def test_a_redis_that_is_away_is_one_clear_error(verb: Callable[[Bus], object]) -> None:
    bus = Bus("redis://user:secret@127.0.0.1:1/0")
    with pytest.raises(BusError, match="REDIS_URL") as caught:
        verb(bus)
    assert "secret" not in str(caught.value)
    bus.close()


@pytest.mark.parametrize("url", ["redis://h:6379?foo=1", "redis://:p@ss/w#rd@", "redis://..:1"])
def test_an_address_that_is_none_is_one_clear_error(url: str) -> None:
    with pytest.raises(BusError, match="REDIS_URL") as caught:
        Bus(url).ping()
    assert "w#rd" not in str(caught.value)


def test_a_password_of_redis_may_hold_what_addresses_are_made_of() -> None:
    with pytest.raises(BusError) as caught:
        Bus("redis://:p@ss/w#rd@127.0.0.1:1").ping()
    assert "127.0.0.1:1" in str(caught.value)
    assert "ss/w" not in str(caught.value)
