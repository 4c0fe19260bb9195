"""What Redis holds of recordings: one at a time, by one process, and none that nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.bus import Bus
from shared.errors import BusError, Conflict, LeaseLost, NotFound
from shared.recording_bus import GIVEN_UP_S, RecordingBus
from shared.recordings import Ending, Recording, RecordingState, Saved

FIRST, SECOND = "1" * 16, "2" * 16


@pytest.fixture
def recordings(bus: Bus) -> Iterator[RecordingBus]:
    recordings = RecordingBus(bus.url)
    yield recordings
    recordings.close()


def seen(recordings: RecordingBus) -> Recording:
    recording, _ = recordings.seen(["cam"])["cam"]
    assert recording is not None
    return recording


def test_a_feed_is_recorded_once_at_a_time_by_one_process(recordings: RecordingBus) -> None:
    recordings.start("cam", FIRST, "")
    with pytest.raises(Conflict):
        recordings.start("cam", SECOND, "")
    assert recordings.own("cam", FIRST, "one")
    assert recordings.own("cam", FIRST, "one")  # the same machine, after its process was killed
    assert not recordings.own("cam", FIRST, "other")
    assert not recordings.own("cam", SECOND, "one")
    with pytest.raises(LeaseLost):
        recordings.hold("cam", seen(recordings), "other")


def test_the_mark_tells_what_is_true(recordings: RecordingBus, bus: Bus) -> None:
    recordings.start("cam", FIRST, "")
    assert seen(recordings).state is RecordingState.STARTING
    held = recordings.hold("cam", replace(seen(recordings), since=1.5, frames=3), "one")
    assert held == seen(recordings)
    assert (held.state, held.since, held.frames) == (RecordingState.RECORDING, 1.5, 3)
    bus._redis.delete("moodline:recorder:cam")  # as its lease runs out
    assert seen(recordings).state is RecordingState.WAITING
    recordings.stop("cam")
    assert seen(recordings).state is RecordingState.SAVING
    assert not recordings.own("cam", FIRST, "one")


def test_the_first_reason_of_an_end_stands_and_says_when(recordings: RecordingBus) -> None:
    with pytest.raises(NotFound):
        recordings.stop("cam")
    recordings.start("cam", FIRST, "")
    with pytest.raises(NotFound):
        recordings.stop("cam", Ending.DISK, recording_id=SECOND)
    recordings.stop("cam", Ending.DISK, recording_id=FIRST)
    at = seen(recordings).ended_at
    recordings.stop("cam")
    assert (seen(recordings).ending, seen(recordings).ended_at) == (Ending.DISK, at)
    assert at is not None
    assert seen(recordings).asked_at <= at


def test_who_saves_late_does_not_disturb_the_next_recording(recordings: RecordingBus) -> None:
    recordings.start("cam", FIRST, "")
    first = recordings.hold("cam", seen(recordings), "one")
    recordings.stop("cam")
    recordings.start("cam", SECOND, "")
    recordings.end("cam", FIRST, Saved(FIRST, "First", Ending.STOPPED, 3, 0), "a machine")
    assert seen(recordings).id == SECOND
    with pytest.raises(LeaseLost):
        recordings.hold("cam", first, "one")
    recordings.end(
        "cam", SECOND, saved := Saved(SECOND, "Second", Ending.STOPPED, 4, 0), "a machine"
    )
    assert recordings.seen(["cam"])["cam"] == (None, saved)


def test_what_nobody_records_is_given_up(recordings: RecordingBus, bus: Bus) -> None:
    recordings.start("cam", FIRST, "")
    assert 0 < bus._redis.pttl("moodline:recording:cam") <= GIVEN_UP_S * 1000


def test_a_redis_that_is_away_is_a_bus_error() -> None:
    with pytest.raises(BusError, match="check that it runs"):
        RecordingBus("unix:///nowhere/redis.sock").seen(["cam"])
