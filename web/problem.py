"""Answers for what went wrong: `application/problem+json` (RFC 9457) that says what to do.

A browser that goes to an address that is none gets a page instead, with the ways on.

One place turns Moodline's errors and HTTP's own into such answers; views only raise. Nothing of a
defect's inside leaves the process: the log has it.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from shared.errors import (
    BusError,
    Conflict,
    InvalidRecord,
    MediaError,
    MoodlineError,
    NotFound,
    SourceError,
)

_log = structlog.get_logger(__name__)
_STATUS: dict[type[MoodlineError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    BusError: HTTPStatus.SERVICE_UNAVAILABLE,
    MediaError: HTTPStatus.SERVICE_UNAVAILABLE,
    SourceError: HTTPStatus.BAD_REQUEST,
    InvalidRecord: HTTPStatus.BAD_REQUEST,
}
_ADVICE = {
    HTTPStatus.NOT_FOUND: "Nothing is at this address: /api/openapi.json lists what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address takes other methods: see /api/openapi.json.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request is too large: send a shorter one.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send a JSON object with Content-Type: application/json.",
}


class Refused(MoodlineError):
    """A request that cannot be done as it is; `status` says why in HTTP's words.

    `field` names what is wrong with it, if that is one thing; `retry_after_s` is given where the
    same request will do later; `more` are further members of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.more = more
        self.status = status
        self.field = field
        self.retry_after_s = retry_after_s


class BadField(Refused):
    """A field of a request that does not fit; `field` is its name."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, detail, field=field)


def problem(status: int, detail: str, **more: Any) -> Response:
    """An error answer; `more` are further members, such as the `field` that is wrong."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        **more,
    }
    return Response(json.dumps(body), status, content_type="application/problem+json")


def register(app: Flask) -> None:
    """Answer every error of this app with a problem."""
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(MoodlineError, _ours)
    app.register_error_handler(HTTPException, _https)
    app.register_error_handler(Exception, _defect)


def _refused(error: Refused) -> Response:
    field = {} if error.field is None else {"field": error.field}
    answer = problem(error.status, str(error), **field, **error.more)
    if error.retry_after_s is not None:
        answer.headers["Retry-After"] = str(error.retry_after_s)
    return answer


def _ours(error: MoodlineError) -> Response:
    status = next(
        (_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    answer = problem(status, str(error))
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = "2"
    return answer


def _https(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    if status is HTTPStatus.NOT_FOUND and _is_for_a_person():
        return make_response(render_template("missing.html"), status)
    answer = problem(status, _ADVICE.get(status) or error.description or status.phrase)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "retry-after", "content-range"):
            answer.headers[name] = value
    return answer


def _is_for_a_person() -> bool:
    """Whether a browser goes to a page: what is below /api and /assets, programs ask for."""
    wants_page = request.headers.get("Sec-Fetch-Mode") == "navigate"
    return wants_page and not request.path.startswith(("/api/", "/assets/"))


def _defect(_error: Exception) -> Response:
    _log.exception("request failed", method=request.method, path=request.path)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Moodline failed at this request; its log says where. Try again, and report it.",
    )
