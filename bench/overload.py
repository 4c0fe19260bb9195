"""Overload: what becomes of live feeds when many more join them for a while, and when those go.

Everything runs as in `bench.live`: first `feeds` feeds alone, then `more` beside them, then the
first ones alone again. A viewer watches them all; twice a second the counters are read as the page
reads them. Rows, each about its own length of time:

- ``before``: the feeds alone; ``overload``: all of them, from when each new one has been analysed;
  ``after``: from when the last of the new ones was removed. Each lasts `seconds`.
- ``joining``: between the first two, while processes start. Rates and drops are of those feeds
  that were there before, because the others begin within it.

`calm` is the share of whole seconds in which every feed that stays has a delay (p95) under
`IN_TIME_S`: what ``before`` lacks in it is the machine's doing, not the overload's.

Not here: how many feeds are too many (`bench.live.find_limit`), and what a worker leaves out when
they are (`workers.effort`).
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.live import IN_TIME_S, WARM_UP_S, Up, percentile, watch, watch_feeds
from shared.errors import MoodlineError

LEAST_FPS = 2.0  # each second must have a frame of each feed
_LOOK_EVERY_S = 0.5
_JOIN_TIMEOUT_S = 120.0  # each new feed is a process that starts on a machine without time


@dataclass(frozen=True, slots=True)
class Count:
    """What a feed told of itself: frames so far, and what is left out of it now ("": nothing)."""

    analysed: int
    dropped: int
    degraded: str


@dataclass(frozen=True, slots=True)
class Look:
    """All feeds at one moment, in seconds of the run's clock."""

    at: float
    feeds: Mapping[str, Count]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that reached a viewer `delay_s` after it was read; `at` as in `Look`."""

    at: float
    feed: str
    delay_s: float


def measure(
    *,
    feeds: int,
    more: int,
    fps: float,
    seconds: float,
    workers: int,
    clip: Path,
    viewers: int,
) -> dict[str, Any]:
    """Run `feeds` feeds of `clip`, add `more`, remove them again; return a row for each phase.

    `recovered_by` is what `recovery` tells, and `recovered_s` when all of it was well. Raises
    MoodlineError where Moodline does not come up, or where the new feeds get no turn.
    """
    with (
        tempfile.TemporaryDirectory(prefix="moodline-bench-") as folder,
        Up(Path(folder), workers=workers, fps=fps) as up,
    ):
        run = _Run(up, viewers)
        staying = run.add(clip, feeds, "feed")
        run.look_until_analysed(staying)
        run.look_for(WARM_UP_S)
        began = run.look()
        run.look_for(seconds)
        joining = run.look()
        joined = run.add(clip, more, "more")
        overload = run.look_until_analysed(joined)
        run.look_for(seconds)
        leaving = run.look()
        for feed_id in joined:
            up.remove_feed(feed_id)
        ended = run.look()
        run.look_for(seconds)
        last = run.look()
        run.close()
    moments = recovery(ended.at, staying, run.looks, run.arrivals)
    phases = {
        "before": (began.at, joining.at),
        "joining": (joining.at, overload.at),
        "overload": (overload.at, leaving.at),
        "after": (ended.at, last.at),
    }
    return {
        "feeds": feeds,
        "more": more,
        "fps": fps,
        "workers": workers,
        "viewers": viewers,
        "recovered_s": recovered_s(moments.values()),
        "recovered_by": moments,
        "rows": [
            {"phase": name, **phase(span, staying, run.looks, run.arrivals)}
            for name, span in phases.items()
        ],
    }


def phase(
    span: tuple[float, float],
    staying: Collection[str],
    looks: Sequence[Look],
    arrivals: Sequence[Arrival],
) -> dict[str, Any]:
    """Return what happened in a span of time.

    Rates and drops are of the feeds that were there in its first look and in its last. `degraded`
    says how many feeds were seen in each step of overload, a feed in each that it was seen in.
    """
    begin, end = span
    seen = [look for look in looks if begin <= look.at <= end]
    first, last = seen[0], seen[-1]
    lasted_s = last.at - first.at
    there = sorted(first.feeds.keys() & last.feeds.keys())
    rates = [(last.feeds[feed].analysed - first.feeds[feed].analysed) / lasted_s for feed in there]
    dropped = [last.feeds[feed].dropped - first.feeds[feed].dropped for feed in there]
    steps = {(feed, count.degraded) for look in seen for feed, count in look.feeds.items()}
    within = [arrival for arrival in arrivals if begin <= arrival.at <= end]
    delays = sorted(arrival.delay_s for arrival in within)
    late = _late_seconds(begin, end, staying, within)
    return {
        "seconds": round(lasted_s, 1),
        "feeds": len(last.feeds),
        "analysed_fps_min": round(min(rates), 2),
        "analysed_fps_mean": round(sum(rates) / len(rates), 2),
        "dropped_max": max(dropped),
        "dropped_mean": round(sum(dropped) / len(dropped), 1),
        "delay_ms": {
            name: round(percentile(delays, share) * 1000, 1)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
        },
        "calm": round(1 - sum(late) / len(late), 3) if late else None,
        "degraded": dict(Counter(step for _, step in sorted(steps) if step)),
    }


def recovery(
    ended_at: float, staying: Collection[str], looks: Sequence[Look], arrivals: Sequence[Arrival]
) -> dict[str, float | None]:
    """Return how long after `ended_at` each of these was well, and stayed so to the last look.

    `steps`: no feed of `staying` is in a step of overload; `drops`: none drops a frame; `delay`: in
    each whole second the p95 of each is under `IN_TIME_S` (a second without a frame is not well).
    None for what is not well in the end.
    """
    after = [look for look in looks if look.at >= ended_at]
    degraded = [any(look.feeds[feed].degraded for feed in staying) for look in after]
    dropping = [
        any(look.feeds[feed].dropped > before.feeds[feed].dropped for feed in staying)
        for before, look in zip([after[0], *after], after, strict=False)
    ]
    moments = [look.at - ended_at for look in after]
    late = _late_seconds(ended_at, after[-1].at, staying, arrivals)
    # That it was well before the look that shows it, nobody saw.
    return {
        "steps": _well_from(degraded, moments[1:]),
        "drops": _well_from(dropping, moments[1:]),
        "delay": _well_from(late, range(1, len(late) + 1)),
    }


def recovered_s(moments: Collection[float | None]) -> float | None:
    """Return when all was well: the last of the moments; None where one is not reached."""
    reached = [moment for moment in moments if moment is not None]
    return max(reached) if len(reached) == len(moments) else None


def _well_from(ill: Sequence[bool], after: Sequence[float]) -> float | None:
    """Return the moment `after` the last that is ill; 0: none is, None: the very last one is."""
    if not any(ill):
        return 0.0
    last = max(i for i, is_ill in enumerate(ill) if is_ill)
    return None if last == len(ill) - 1 else round(after[last], 1)


def _late_seconds(
    begin: float, end: float, feeds: Collection[str], arrivals: Sequence[Arrival]
) -> list[bool]:
    """Say of each whole second of a span whether a feed was late in it, or not seen at all."""
    delays: dict[tuple[int, str], list[float]] = {}
    for arrival in arrivals:
        if begin <= arrival.at < end:
            delays.setdefault((int(arrival.at - begin), arrival.feed), []).append(arrival.delay_s)
    return [
        any(
            (second, feed) not in delays
            or percentile(sorted(delays[second, feed]), 0.95) >= IN_TIME_S
            for feed in feeds
        )
        for second in range(int(end - begin))
    ]


class _Run:
    """A running Moodline, its viewers, and what was seen of it."""

    def __init__(self, up: Up, viewers: int) -> None:
        self._up = up
        self._clients = [watch(up, self._receive) for _ in range(viewers)]
        self.looks: list[Look] = []
        self.arrivals: list[Arrival] = []

    def _receive(self, meta: dict[str, Any], _jpeg: bytes) -> None:
        delay_s = time.time() - meta["captured_at"]
        self.arrivals.append(Arrival(time.monotonic(), meta["feed"], delay_s))

    def add(self, clip: Path, count: int, name: str) -> list[str]:
        """Add feeds and watch them; their ids."""
        ids = [self._up.add_feed(str(clip), f"{name} {number + 1}") for number in range(count)]
        for client in self._clients:
            watch_feeds(client, ids)
        return ids

    def look(self) -> Look:
        """Note how all feeds are doing now."""
        rows = self._up.counters()
        counts = {
            feed_id: Count(row["analysed"], row["dropped"], row["degraded"])
            for feed_id, row in rows.items()
        }
        look = Look(time.monotonic(), counts)
        self.looks.append(look)
        return look

    def look_for(self, seconds: float) -> None:
        """Look every now and then, until so much time has passed."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_EVERY_S))
            self.look()

    def look_until_analysed(self, feed_ids: Collection[str]) -> Look:
        """Look until each of these feeds has had a frame analysed; the last look."""
        until = time.monotonic() + _JOIN_TIMEOUT_S
        while True:
            look = self.look()
            if all(look.feeds[feed].analysed for feed in feed_ids):
                return look
            if look.at > until:
                raise MoodlineError(
                    f"Not each of {len(look.feeds)} feeds had a frame analysed within "
                    f"{_JOIN_TIMEOUT_S:g} s: try fewer."
                )
            time.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        for client in self._clients:
            client.disconnect()
