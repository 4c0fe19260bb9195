"""Recorded videos over HTTP: how far each is, and what its owner does with it.

How videos come in: `web.form` and `web.uploads`; what was found in them: `web.report`.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest

from shared.errors import NotFound
from shared.video import MAX_NAME_LENGTH, Video
from shared.videos import Videos
from web.problem import BadField

_ID = re.compile(r"[0-9a-f]{16}")


def describe(videos: Videos, video: Video) -> dict[str, Any]:
    """A video as the API and the page see it."""
    footage = video.footage
    return {
        "id": video.id,
        "name": video.name,
        "status": video.status.value,
        "progress": round(video.progress, 4),
        "frames_total": video.frames_total,
        "frames_done": video.frames_done,
        "eta_s": videos.eta_s(video),
        "error": video.error or None,
        "created_at": video.created_at,
        "finished_at": video.finished_at,
        "size_bytes": video.size_bytes,
        "duration_s": footage.duration_s,
        "width": footage.width,
        "height": footage.height,
        "fps": footage.fps,
        "playable": footage.playable,
        "has_sound": footage.has_sound,
        "options": asdict(video.options),
        "updating": video.updating,
        "recorded": video.recorded
        and {
            "feed": video.recorded.feed,
            "began_at": video.recorded.began_at,
            "missed": video.recorded.missed,
            "ending": video.recorded.ending.value,
        },
        "exports": {
            kind.value: {
                "state": export.state.value,
                "progress": round(export.progress, 4),
                "error": export.error or None,
            }
            for kind, export in video.exports.items()
        },
    }


def blueprint(videos: Videos) -> Blueprint:
    """The routes of ``/api/videos`` and of a video itself."""
    bp = Blueprint("videos", __name__, url_prefix="/api/videos")
    bp.url_value_preprocessor(check_id)

    @bp.get("")
    def index() -> Response:
        return jsonify([describe(videos, video) for video in videos.all()])

    @bp.get("/<video_id>")
    def one(video_id: str) -> Response:
        return jsonify(describe(videos, videos.one(video_id)))

    @bp.patch("/<video_id>")
    def rename(video_id: str) -> Response:
        name = field_of_body("name")
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH:
            raise BadField("name", f"'name' must be text of at most {MAX_NAME_LENGTH} characters.")
        return jsonify(describe(videos, videos.rename(video_id, name)))

    @bp.delete("/<video_id>")
    def remove(video_id: str) -> tuple[str, int]:
        videos.delete(video_id)
        return "", HTTPStatus.NO_CONTENT

    @bp.post("/<video_id>/cancel")
    def cancel(video_id: str) -> Response:
        return jsonify(describe(videos, videos.cancel(video_id)))

    @bp.post("/<video_id>/retry")
    def retry(video_id: str) -> Response:
        return jsonify(describe(videos, videos.retry(video_id)))

    return bp


def check_id(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """For each route with a ``video_id``: raise NotFound for what can be none."""
    if values and not _ID.fullmatch(values.get("video_id", "0" * 16)):
        raise NotFound("There is no such video: GET /api/videos lists those there are.")


def field_of_body(field: str) -> Any:
    """The one field of the request's JSON object; raises BadField where it is not there."""
    try:
        body = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadField(field, f'The body is not JSON: send an object with "{field}".') from error
    if not isinstance(body, dict) or set(body) != {field}:
        raise BadField(field, f'Send an object with "{field}" and nothing else.')
    return body[field]
