"""Uploads that can be resumed: tus 1.0 (tus.io) with creation, termination and expiration.

A client says how long the file is, sends it in as many pieces as the line allows, and asks after a
break how much has arrived. The answer to the last piece names the video (``Moodline-Video``) or
says why the file is none; where that answer was lost, asking for the offset brings it again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus

from flask import Blueprint, Response, request, url_for

from shared.errors import BusError, MediaError
from web.bodies import Bodies, connection, options_of, pieces
from web.intake import Intake
from web.parts import Hold, Part, Parts, append
from web.problem import BadField, Refused

VERSION = "1.0.0"
_EXTENSIONS = "creation,termination,expiration"


def blueprint(bodies: Bodies, parts: Parts, intake: Intake) -> Blueprint:
    """The routes below ``/api/uploads``."""
    bp = Blueprint("uploads", __name__, url_prefix="/api/uploads")

    @bp.before_request
    def check_version() -> None:
        if request.method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
            raise Refused(
                HTTPStatus.PRECONDITION_FAILED,
                f"This address speaks the tus protocol: send Tus-Resumable: {VERSION}, or a form "
                "to /api/videos.",
            )

    @bp.after_request
    def sign(answer: Response) -> Response:
        answer.headers["Tus-Resumable"] = VERSION
        if answer.status_code == HTTPStatus.PRECONDITION_FAILED:
            answer.headers["Tus-Version"] = VERSION
        return answer

    @bp.route("", methods=["OPTIONS"], provide_automatic_options=False)
    def abilities() -> tuple[str, int, dict[str, str]]:
        about = {"Tus-Version": VERSION, "Tus-Extension": _EXTENSIONS}
        return "", HTTPStatus.NO_CONTENT, {**about, "Tus-Max-Size": str(bodies.max_bytes)}

    @bp.post("")
    def create() -> tuple[str, int, dict[str, str]]:
        length = _header_number("Upload-Length")
        bodies.require_small_enough(length)
        if length == 0:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "The file is empty: choose a video.", field="file"
            )
        wishes = _metadata(request.headers.get("Upload-Metadata", ""))
        parts.require_room(length)
        part = parts.new(length, wishes.get("filename", ""), options_of(wishes))
        where = url_for(".send", part_id=part.id)
        return "", HTTPStatus.CREATED, {"Location": where, **_expiry(parts, part.id)}

    @bp.route("/<part_id>", methods=["HEAD"])
    def arrived(part_id: str) -> tuple[str, int, dict[str, str]]:
        with parts.hold(part_id, connection()) as (part, _):
            try:
                return "", HTTPStatus.OK, _finished(parts, intake, part)
            except (BusError, MediaError) as error:
                # Not 503: clients take that to mean that the upload is gone, and send all anew.
                raise Refused(HTTPStatus.LOCKED, str(error), retry_after_s=5) from error

    @bp.patch("/<part_id>")
    def send(part_id: str) -> tuple[str, int, dict[str, str]]:
        offset = _header_number("Upload-Offset")
        with bodies.turn(), parts.hold(part_id, connection()) as (part, hold):
            if request.mimetype != "application/offset+octet-stream":
                raise Refused(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "Send a piece of the file as Content-Type: application/offset+octet-stream.",
                )
            _receive(parts, part, hold, offset)
            return "", HTTPStatus.NO_CONTENT, _finished(parts, intake, part)

    @bp.delete("/<part_id>")
    def forget(part_id: str) -> tuple[str, int]:
        with parts.hold(part_id, connection()):
            parts.remove(part_id)
        return "", HTTPStatus.NO_CONTENT

    return bp


def _receive(parts: Parts, part: Part, hold: Hold, offset: int) -> None:
    """Write the body to the end of a part."""
    _require_not_refused(part)
    arrived = part.length if part.video else parts.offset(part.id)
    if offset != arrived:
        raise Refused(
            HTTPStatus.CONFLICT,
            f"{arrived} bytes have arrived, so the next piece begins there and not at "
            f"{offset}: ask with HEAD.",
        )
    missing = part.length - arrived
    request.max_content_length = missing + 1
    if (request.content_length or 0) > missing:
        raise _more_than_said()
    if missing:
        parts.require_room(request.content_length or 0)
        append(parts.path(part.id), _no_more_than(missing, pieces(hold)))


def _finished(parts: Parts, intake: Intake, part: Part) -> dict[str, str]:
    """How far an upload is; one that is all there becomes a video first.

    A refusal is remembered: whoever asks again hears the same.
    """
    _require_not_refused(part)
    arrived = parts.offset(part.id)
    if not part.video and arrived >= part.length:
        try:
            video = intake.accept(parts.path(part.id), part.name, part.options)
        except Refused as refusal:
            if refusal.retry_after_s is None:
                parts.refuse(part, str(refusal))
            raise
        part = replace(part, video=video.id)
        parts.put(part)
    about = {"Upload-Length": str(part.length), **_expiry(parts, part.id)}
    if part.video:
        return {**about, "Upload-Offset": str(part.length), "Moodline-Video": part.video}
    return {**about, "Upload-Offset": str(arrived)}


def _require_not_refused(part: Part) -> None:
    if part.refusal:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, part.refusal, field="file")


def _no_more_than(size_bytes: int, body: Iterator[bytes]) -> Iterator[bytes]:
    for piece in body:
        if len(piece) > size_bytes:
            raise _more_than_said()
        size_bytes -= len(piece)
        yield piece


def _header_number(name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadField(name, f"The header {name} must be a whole number of bytes.")
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """tus's ``key base64,key base64``."""
    found = {}
    for pair in filter(None, (pair.strip() for pair in header.split(","))):
        key, _, encoded = pair.partition(" ")
        try:
            found[key] = base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError) as error:
            raise BadField(
                "Upload-Metadata", "Upload-Metadata must be pairs of a key and Base64."
            ) from error
    return found


def _expiry(parts: Parts, part_id: str) -> dict[str, str]:
    return {"Upload-Expires": formatdate(parts.expires_at(part_id), usegmt=True)}


def _more_than_said() -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "More came than Upload-Length said: start this upload anew.",
    )
