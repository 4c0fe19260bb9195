"""The feeds over HTTP: list, add, change, order, remove.

Sources leave this process masked, whoever asks. Capture follows the registry, so nothing here has
to be told to anybody, and nothing has to be started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import BadRequest

from shared.bus import Bus
from shared.config import Settings
from shared.errors import InvalidRecord, SourceError
from shared.recording_bus import RecordingBus
from shared.recordings import Recording, Saved
from shared.schema import (
    MAX_FPS,
    MAX_NAME_LENGTH,
    MAX_WIDTH,
    MIN_WIDTH,
    Feed,
    FeedStatus,
)
from shared.source import Source, SourceKind
from web.problem import BadField


def describe(
    feed: Feed, status: FeedStatus, recording: Recording | None, saved: Saved | None
) -> dict[str, Any]:
    """A feed as the API and the page see it."""
    return {
        "id": feed.id,
        "name": feed.name,
        "source": feed.source.masked,
        "kind": feed.source.kind.value,
        "status": status.state.value,
        "error": status.error or None,
        "error_kind": status.trouble or None,
        "fps_in": round(status.fps_in, 2),
        "fps_analysed": round(status.fps_analysed, 2),
        "captured": status.captured,
        "analysed": status.analysed,
        "dropped": status.dropped,
        "drops": {drop.value: count for drop, count in status.drops.items()},
        "aside": status.aside or None,
        "degraded": status.degraded.value,
        "reconnects": status.reconnects,
        "latency_ms": {"p50": status.latency_p50_ms, "p95": status.latency_p95_ms},
        "viewers": status.viewers,
        "fps": feed.fps,
        "width": feed.width,
        "loop": feed.loop,
        "enabled": feed.enabled,
        "created_at": feed.created_at,
        "recording": recording
        and {
            "state": recording.state.value,
            "since": recording.since,
            "frames": recording.frames,
            "missed": recording.missed,
        },
        "recorded": saved
        and {
            "video": saved.video or None,
            "name": saved.name,
            "ending": saved.ending.value,
            "frames": saved.frames,
            "missed": saved.missed,
        },
    }


def describe_all(bus: Bus, recordings: RecordingBus, feeds: Sequence[Feed]) -> list[dict[str, Any]]:
    """Feeds with how each is doing now."""
    ids = [feed.id for feed in feeds]
    statuses, seen = bus.statuses(ids), recordings.seen(ids)
    return [describe(feed, statuses[feed.id], *seen[feed.id]) for feed in feeds]


def list_all(bus: Bus, recordings: RecordingBus) -> list[dict[str, Any]]:
    """Every feed, in people's order."""
    return describe_all(bus, recordings, bus.feeds())


def blueprint(settings: Settings, bus: Bus, recordings: RecordingBus) -> Blueprint:
    """The routes below ``/api/feeds``."""
    bp = Blueprint("feeds", __name__, url_prefix="/api/feeds")

    def described(feed: Feed) -> dict[str, Any]:
        return describe_all(bus, recordings, [feed])[0]

    @bp.get("")
    def index() -> Response:
        return jsonify(list_all(bus, recordings))

    @bp.post("")
    def add() -> tuple[Response, int, dict[str, str]]:
        feed = _new_feed(settings)
        bus.put_feed(feed)
        answer = described(feed)
        return jsonify(answer), HTTPStatus.CREATED, {"Location": url_for(".one", feed_id=feed.id)}

    @bp.put("/order")
    def order() -> Response:
        bus.order_feeds(_order())
        return jsonify(list_all(bus, recordings))

    @bp.get("/<feed_id>")
    def one(feed_id: str) -> Response:
        return jsonify(described(bus.feed(feed_id)))

    @bp.patch("/<feed_id>")
    def change(feed_id: str) -> Response:
        body = _fields('{"name": "Hall"}')
        feed = bus.change_feed(feed_id, lambda feed: _changed(feed, body, settings))
        return jsonify(described(feed))

    @bp.delete("/<feed_id>")
    def remove(feed_id: str) -> tuple[str, int]:
        bus.remove_feed(feed_id)
        return "", HTTPStatus.NO_CONTENT

    return bp


def _fields(example: str) -> dict[str, Any]:
    """The JSON object of the request, of a feed's fields and no other; raises BadField."""
    body = _json(f"an object such as {example}", "source")
    if not isinstance(body, dict):
        raise BadField("source", f"The body is no object: send one such as {example}.")
    for name in body:
        if name not in _CHECKS:
            known = ", ".join(_CHECKS)
            raise BadField(str(name)[:40], f"{str(name)[:40]!r} is no field: there are {known}.")
    return body


def _json(wanted: str, field: str) -> Any:
    try:
        return request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadField(field, f"The body is not JSON: send {wanted}.") from error


def _source(value: object) -> Source:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = str(value)  # a webcam's number, as programs write it
    if not isinstance(value, str):
        raise BadField(
            "source",
            "'source' is missing or no text: give a webcam number, an rtsp:// or http:// address, "
            "a video file, a folder of images, or 'demo'.",
        )
    try:
        source = Source.parse(value)
    except SourceError as error:
        raise BadField("source", str(error)) from error
    if source.kind is SourceKind.STREAM and "***" in source.text and source.text == source.masked:
        raise BadField(
            "source",
            f"{source.masked} is an address as it is shown, without its password: "
            "write user and password in full.",
        )
    return source


def source_from_request(example: str) -> Source:
    """The source that a request's body holds, and nothing else; raises BadField."""
    body = _fields(example)
    for name in body.keys() - {"source"}:
        raise BadField(name, f"{name!r} is not wanted here: send an object such as {example}.")
    return _source(body.get("source"))


def _name(value: object) -> str:
    if not (isinstance(value, str) and len(value) <= MAX_NAME_LENGTH and value.isprintable()):
        raise BadField("name", f"'name' must be text of at most {MAX_NAME_LENGTH} characters.")
    return value.strip()


def _fps(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_FPS:
        raise BadField("fps", f"'fps' must be a number above 0 and up to {MAX_FPS:g}.")
    return float(value)


def _width(value: object) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not MIN_WIDTH <= cast("int", value) <= MAX_WIDTH:
        raise BadField(
            "width", f"'width' must be a whole number of pixels, {MIN_WIDTH} to {MAX_WIDTH}."
        )
    return cast("int", value)


def _loop(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadField("loop", "'loop' must be true or false: whether a file starts again.")
    return value


def _enabled(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadField("enabled", "'enabled' must be true or false: whether it is captured.")
    return value


_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "source": _source,
    "name": _name,
    "fps": _fps,
    "width": _width,
    "loop": _loop,
    "enabled": _enabled,
}


def _checked(body: Mapping[str, object], settings: Settings) -> dict[str, Any]:
    """What is given, as a Feed takes it; null is what a feed has that nobody gave anything."""
    defaults = {"name": "", "fps": settings.fps, "width": settings.width, "loop": True}
    return {
        name: check(defaults.get(name) if body[name] is None else body[name])
        for name, check in _CHECKS.items()
        if name in body
    }


def _new_feed(settings: Settings) -> Feed:
    """The feed that a request's body describes; raises BadField."""
    body = {"source": None, "fps": None, "width": None, **_fields('{"source": "demo"}')}
    try:
        return Feed.new(**_checked(body, settings))
    except InvalidRecord as error:
        raise BadField("name", f"The feed cannot be made: {error}.") from error


def _changed(feed: Feed, body: Mapping[str, object], settings: Settings) -> Feed:
    """The feed with what a request's body gives; raises BadField or Conflict.

    A source that is given as it was shown stays as it is, password and all.
    """
    given = {n: v for n, v in body.items() if (n, v) != ("source", feed.source.masked)}
    values = _checked(given, settings)
    if values.get("name") == "":
        source: Source = values.get("source", feed.source)
        values["name"] = source.default_name[:MAX_NAME_LENGTH]
    try:
        return feed.changed(**values)
    except InvalidRecord as error:
        raise BadField("name", f"The feed cannot be changed: {error}.") from error


def _order() -> list[str]:
    """The ids that a request's body lists; raises BadField."""
    ids = _json("a list of feeds' ids", "order")
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise BadField("order", "The body must be a list of feeds' ids, first to last.")
    if len(set(ids)) < len(ids):
        raise BadField("order", "A feed is listed twice: list each once, first to last.")
    return ids
