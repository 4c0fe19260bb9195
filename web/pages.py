"""The pages, their files, and the description of the API.

Files lie below ``/assets/<digest>/``: the digest is that of all of them together, so that a browser
keeps them for good and still never mixes two versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from flask import Blueprint, Response, jsonify, render_template, send_from_directory

from web import openapi
from web.session import Sessions

_STATIC = Path(__file__).parent / "static"
_A_YEAR_S = 365 * 24 * 3600


def blueprint(sessions: Sessions) -> Blueprint:
    """The pages (``/``, ``/videos`` …), ``/assets/…`` and ``/api/openapi.json``."""
    bp = Blueprint("pages", __name__)
    current = _digest(_STATIC)

    @bp.get("/")
    def dashboard() -> str:
        return render_template("dashboard.html", can_log_out=sessions.required)

    @bp.get("/events")
    def events() -> str:
        return render_template("events.html", can_log_out=sessions.required)

    @bp.get("/videos", strict_slashes=False)
    def videos() -> str:
        return render_template("videos.html", can_log_out=sessions.required)

    @bp.get("/videos/<video_id>")
    def report(video_id: str) -> str:
        # Whether there is such a video, the page finds out and says.
        return render_template("report.html", video_id=video_id, can_log_out=sessions.required)

    @bp.get("/cameras")
    def cameras() -> str:
        return render_template("cameras.html", can_log_out=sessions.required)

    @bp.get("/assets/<digest>/<path:name>")
    def asset(digest: str, name: str) -> Response:
        answer = send_from_directory(_STATIC, name, max_age=_A_YEAR_S, conditional=True)
        if digest == current:
            answer.cache_control.immutable = True
        else:  # a page from before an update asks: answer, and do not let it keep the answer
            answer.cache_control.no_cache = True
            answer.cache_control.max_age = None
        return answer

    @bp.get("/api/openapi.json")
    def api() -> Response:
        return jsonify(openapi.describe())

    @bp.app_context_processor
    def addresses() -> dict[str, Callable[[str], str]]:
        return {"asset": f"/assets/{current}/{{}}".format}

    return bp


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
