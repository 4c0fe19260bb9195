"""The timeline of a feed over HTTP: the scores of its faces over the last seconds or the last hour.

Up to two minutes come as they were, a point a frame. Longer ones are thinned to what a screen has
columns for: means over a few seconds, whose borders do not depend on when somebody asks, so that a
chart drawn anew shows the same. A mean of scores hides doubt (two sure answers can average to none
that is), so every point says in which share of its frames the model was unsure.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request

from shared.bus import EVERY_FRAME_S, Bus
from shared.config import Settings
from shared.schema import TimelinePoint
from web.problem import BadField

_MAX_POINTS = 2000  # a track's points in one answer, however many frames a second there are
_MEANS = 750  # about as many of a long timeline: more than a screen has columns
_RESOLUTIONS_S = (1, 2, 5, 10)


def blueprint(settings: Settings, bus: Bus) -> Blueprint:
    """The route ``/api/feeds/<id>/timeline``."""
    bp = Blueprint("timelines", __name__, url_prefix="/api/feeds")

    @bp.get("/<feed_id>/timeline")
    def timeline(feed_id: str) -> Response:
        seconds = _seconds(settings)
        bus.feed(feed_id)
        kept = bus.timeline(feed_id, time.time() - seconds)
        resolution_s = _resolution_s(seconds)
        return jsonify(
            {
                "labels": kept.labels,
                "unsure_below": kept.unsure_below,
                "resolution_s": resolution_s,
                "tracks": [
                    _track(track, _means(points, resolution_s) if resolution_s else _thin(points))
                    for track, points in _by_track(kept.points)
                ],
            }
        )

    return bp


def _seconds(settings: Settings) -> float:
    text = request.args.get("seconds", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds <= settings.timeline_s:
        raise BadField(
            "seconds",
            f"'seconds' must be a number above 0 and up to {settings.timeline_s} "
            "(MOODLINE_TIMELINE_S), not the given one.",
        )
    return seconds


def _resolution_s(seconds: float) -> int:
    """What one point stands for; 0: a frame."""
    if seconds <= EVERY_FRAME_S:
        return 0
    return next((s for s in _RESOLUTIONS_S if seconds <= s * _MEANS), _RESOLUTIONS_S[-1])


def _by_track(points: Iterable[TimelinePoint]) -> list[tuple[int, list[TimelinePoint]]]:
    tracks: dict[int, list[TimelinePoint]] = defaultdict(list)
    for point in points:
        tracks[point.track].append(point)
    return sorted(tracks.items())


def _track(number: int, points: Sequence[TimelinePoint]) -> dict[str, Any]:
    return {
        "track": number,
        "points": [[point.t, *point.scores] for point in points],
        "unsure": [point.unsure for point in points],
    }


def _thin(points: list[TimelinePoint]) -> list[TimelinePoint]:
    """Evenly fewer points, the newest always among them."""
    step = -(-len(points) // _MAX_POINTS)
    return points[(len(points) - 1) % step :: step]


def _means(points: Iterable[TimelinePoint], resolution_s: int) -> list[TimelinePoint]:
    """The means over each `resolution_s` of the clock, at the mean time of their frames."""
    pieces: dict[int, list[TimelinePoint]] = defaultdict(list)
    for point in points:
        pieces[int(point.t // resolution_s)].append(point)
    return [_mean(piece) for piece in pieces.values()]


def _mean(points: Sequence[TimelinePoint]) -> TimelinePoint:
    frames = sum(point.frames for point in points)

    def over(values: Iterable[float]) -> float:
        weighed = zip(values, points, strict=True)
        return round(sum(value * point.frames for value, point in weighed) / frames, 3)

    scores = tuple(map(over, zip(*(point.scores for point in points), strict=True)))
    t, unsure = over(p.t for p in points), over(p.unsure for p in points)
    return TimelinePoint(t, points[0].track, scores, frames, unsure)
