"""Which worker does which segment."""

from __future__ import annotations

import random

import pytest

from workers.crew import Shares
from workers.footage import Segment, Start


def cut(*parts: int) -> list[Segment]:
    """As many parts after each key frame as its number says."""
    starts = [Start(number, None) for number, count in enumerate(parts) for _ in range(count)]
    return [Segment(index, (start,)) for index, start in enumerate(starts)]


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 40])
def test_each_segment_is_done_once(workers: int) -> None:
    rng = random.Random(workers)
    segments = cut(4, 1, 1, 3, 4, 2)
    shares = Shares(segments, workers)
    idle, done = list(range(workers)), []
    while idle:
        worker = idle.pop(rng.randrange(len(idle)))
        segment = shares.next_for(worker)
        if segment is not None:
            done.append(segment)
            idle.append(worker)
    assert sorted(done) == [segment.index for segment in segments]


def test_a_worker_goes_on_with_what_follows_its_key_frame() -> None:
    shares = Shares(cut(3, 3, 2), 2)
    assert [shares.next_for(worker) for worker in (0, 1, 1, 0, 0, 1)] == [0, 3, 4, 1, 2, 5]
    assert [shares.next_for(worker) for worker in (1, 0)] == [6, 7]


def test_who_is_idle_takes_the_later_half_of_what_another_has_before_him() -> None:
    shares = Shares(cut(6), 2)
    assert shares.next_for(0) == 0
    assert [shares.next_for(1) for _ in range(3)] == [3, 4, 5]  # of 1 to 5
    assert shares.next_for(1) == 2
    assert [shares.next_for(worker) for worker in (0, 0, 1)] == [1, None, None]
