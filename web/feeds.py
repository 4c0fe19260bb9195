"""The feeds over HTTP: list, add, remove, and the scores of the last minutes.

Sources leave this process masked, whoever asks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import BadRequest

from shared.bus import Bus
from shared.config import Settings
from shared.errors import InvalidRecord, SourceError
from shared.schema import MAX_FPS, MAX_NAME_LENGTH, Feed, FeedStatus, TimelinePoint
from shared.source import Source
from web.problem import BadField

_MAX_POINTS = 2000  # a track's points in one answer: more than a screen has columns
_FIELDS = ("source", "name", "fps", "loop")


def describe(feed: Feed, status: FeedStatus) -> dict[str, Any]:
    """A feed as the API and the page see it."""
    return {
        "id": feed.id,
        "name": feed.name,
        "source": feed.source.masked,
        "kind": feed.source.kind.value,
        "status": status.state.value,
        "error": status.error or None,
        "fps_in": round(status.fps_in, 2),
        "fps_analysed": round(status.fps_analysed, 2),
        "captured": status.captured,
        "analysed": status.analysed,
        "dropped": status.dropped,
        "drops": {drop.value: count for drop, count in status.drops.items()},
        "reconnects": status.reconnects,
        "latency_ms": {"p50": status.latency_p50_ms, "p95": status.latency_p95_ms},
        "viewers": status.viewers,
        "fps": feed.fps,
        "width": feed.width,
        "loop": feed.loop,
        "created_at": feed.created_at,
    }


def list_all(bus: Bus) -> list[dict[str, Any]]:
    """Every feed, oldest first."""
    feeds = bus.feeds()
    statuses = bus.statuses([feed.id for feed in feeds])
    return [describe(feed, statuses[feed.id]) for feed in feeds]


def blueprint(settings: Settings, bus: Bus) -> Blueprint:
    """The routes below ``/api/feeds``."""
    bp = Blueprint("feeds", __name__, url_prefix="/api/feeds")

    @bp.get("")
    def index() -> Response:
        return jsonify(list_all(bus))

    @bp.post("")
    def add() -> tuple[Response, int, dict[str, str]]:
        feed = _feed_from_request(settings)
        bus.put_feed(feed)
        answer = describe(feed, bus.statuses([feed.id])[feed.id])
        return jsonify(answer), HTTPStatus.CREATED, {"Location": url_for(".one", feed_id=feed.id)}

    @bp.get("/<feed_id>")
    def one(feed_id: str) -> Response:
        feed = bus.feed(feed_id)
        return jsonify(describe(feed, bus.statuses([feed_id])[feed_id]))

    @bp.delete("/<feed_id>")
    def remove(feed_id: str) -> tuple[str, int]:
        bus.remove_feed(feed_id)
        return "", HTTPStatus.NO_CONTENT

    @bp.get("/<feed_id>/timeline")
    def timeline(feed_id: str) -> Response:
        seconds = _seconds(settings)
        bus.feed(feed_id)
        kept = bus.timeline(feed_id, time.time() - seconds)
        return jsonify(
            {
                "labels": kept.labels,
                "unsure_below": kept.unsure_below,
                "tracks": _by_track(kept.points),
            }
        )

    return bp


def _feed_from_request(settings: Settings) -> Feed:
    """The feed that a request's body describes; raises BadField or SourceError."""
    try:
        body = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadField(
            "source", 'The body is not JSON: send an object such as {"source": "demo"}.'
        ) from error
    if not isinstance(body, dict):
        raise BadField("source", 'The body is no object: send one such as {"source": "demo"}.')
    for name in body:
        if name not in _FIELDS:
            raise BadField(
                str(name)[:40], f"{str(name)[:40]!r} is no field: there are {', '.join(_FIELDS)}."
            )
    source, name, fps = body.get("source"), body.get("name"), body.get("fps")
    if isinstance(source, int) and not isinstance(source, bool) and source >= 0:
        source = str(source)  # a webcam's number, as programs write it
    if not isinstance(source, str):
        raise BadField(
            "source",
            "'source' is missing or no text: give a webcam number, an rtsp:// or http:// address, "
            "a video file, a folder of images, or 'demo'.",
        )
    if name is not None and not (
        isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and name.isprintable()
    ):
        raise BadField("name", f"'name' must be text of at most {MAX_NAME_LENGTH} characters.")
    if fps is None:
        fps = settings.fps
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= MAX_FPS:
        raise BadField("fps", f"'fps' must be a number above 0 and up to {MAX_FPS:g}.")
    loop = body.get("loop", True)
    if not isinstance(loop, bool):
        raise BadField("loop", "'loop' must be true or false: whether a file starts again.")
    try:
        parsed = Source.parse(source)
    except SourceError as error:
        raise BadField("source", str(error)) from error
    try:
        return Feed.new(parsed, name=name, fps=float(fps), width=settings.width, loop=loop)
    except InvalidRecord as error:
        raise BadField("name", f"The feed cannot be made: {error}.") from error


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


def _by_track(points: Sequence[TimelinePoint]) -> list[dict[str, Any]]:
    tracks: dict[int, list[list[float]]] = defaultdict(list)
    for point in points:
        tracks[point.track].append([point.t, *point.scores])
    return [{"track": track, "points": _thin(rows)} for track, rows in sorted(tracks.items())]


def _thin(rows: list[list[float]]) -> list[list[float]]:
    """Evenly fewer rows, the newest always among them."""
    step = -(-len(rows) // _MAX_POINTS)
    return rows[(len(rows) - 1) % step :: step] if rows else rows
