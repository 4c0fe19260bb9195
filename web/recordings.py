"""Recording a live feed, over HTTP: start, stop, and what will be kept where.

How a recording goes stands in the description of its feed (`web.feeds`), which everybody who sees
the feed gets; what has become of it is a video (`web.videos`).
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest

from shared.bus import Bus
from shared.config import Settings
from shared.errors import Conflict
from shared.recording_bus import RecordingBus
from shared.schema import FeedState
from shared.source import mask_address
from shared.video import MAX_NAME_LENGTH
from web.feeds import describe_all
from web.problem import BadField


def blueprint(settings: Settings, bus: Bus, recordings: RecordingBus) -> Blueprint:
    """The routes of ``/api/feeds/{id}/recording``."""
    bp = Blueprint("recordings", __name__, url_prefix="/api/feeds/<feed_id>/recording")

    def described(feed_id: str) -> dict[str, Any]:
        feed = describe_all(bus, recordings, [bus.feed(feed_id)])[0]
        return {
            "recording": feed["recording"],
            "recorded": feed["recorded"],
            "kept_in": mask_address(settings.media_address),
            "kept_days": settings.retention_days or None,
            "longest_h": settings.recording_max_h,
        }

    @bp.get("")
    def one(feed_id: str) -> Response:
        return jsonify(described(feed_id))

    @bp.post("")
    def start(feed_id: str) -> tuple[Response, int]:
        name = _name()
        feed = bus.feed(feed_id)
        state = bus.statuses([feed_id])[feed_id].state
        if not feed.enabled:
            raise Conflict("This feed is switched off: switch it on, then record it.")
        if state is FeedState.ENDED:
            raise Conflict("This feed's source has ended: there is nothing to record.")
        if not bus.capture_is_running():
            raise Conflict(
                "Nobody is there to record: run `moodline capture`, or everything with "
                "`moodline up`."
            )
        recordings.start(feed_id, secrets.token_hex(8), name)
        return jsonify(described(feed_id)), HTTPStatus.ACCEPTED

    @bp.delete("")
    def stop(feed_id: str) -> Response:
        bus.feed(feed_id)
        recordings.stop(feed_id)
        return jsonify(described(feed_id))

    return bp


def _name() -> str:
    """The name in the request's body, "" where there is none; raises BadField."""
    if not request.content_length:
        return ""
    try:
        body = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadField("name", 'The body is not JSON: send {"name": "…"}, or none.') from error
    if not isinstance(body, dict) or not body.keys() <= {"name"}:
        raise BadField("name", 'Send an object with "name" and nothing else, or no body.')
    name = body.get("name")
    if name is None:
        return ""
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise BadField("name", f"'name' must be text of at most {MAX_NAME_LENGTH} characters.")
    return name.strip()
