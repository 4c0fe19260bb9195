"""A video as a form: ``POST /api/videos`` with the file and what is wanted of it.

The file goes to the disk while the form is still coming in; only the other fields, short as they
are, are kept in memory. The fields may come in any order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from shared.videos import Videos
from web.bodies import Bodies, options_of, pieces
from web.intake import Intake
from web.parts import Hold, Parts, append
from web.problem import BadField, Refused
from web.videos import describe

_FORM_BYTES = 1024 * 1024  # of a form, beside the file
_FIELD_BYTES = 256
_FIELDS = ("file", "fps", "start", "end")


def blueprint(bodies: Bodies, parts: Parts, intake: Intake, videos: Videos) -> Blueprint:
    """``POST /api/videos``."""
    bp = Blueprint("form", __name__)

    @bp.post("/api/videos")
    def add() -> tuple[Response, int, dict[str, str]]:
        request.max_content_length = bodies.max_bytes + 2 * _FORM_BYTES
        size_bytes = request.content_length or 0
        with bodies.turn():
            boundary = _boundary()
            bodies.require_small_enough(size_bytes - _FORM_BYTES)
            parts.require_room(size_bytes)
            form = _Form(bodies)
            with parts.temporary() as path:
                append(path, form.file_of(pieces(Hold(None)), boundary))
                video = intake.accept(path, form.name, options_of(form.fields))
        where = url_for("videos.one", video_id=video.id)
        return jsonify(describe(videos, video)), HTTPStatus.ACCEPTED, {"Location": where}

    return bp


@dataclass(slots=True)
class _Form:
    """What a form says, filled while its file passes through `file_of`."""

    bodies: Bodies
    name: str = ""
    fields: dict[str, str] = field(default_factory=dict)

    def file_of(self, body: Iterator[bytes], boundary: bytes) -> Iterator[bytes]:
        """The bytes of the form's one file; raises BadField or Refused at what does not fit."""
        decoder = MultipartDecoder(boundary, _FORM_BYTES, max_parts=2 * len(_FIELDS))
        current, size_bytes = "", 0
        for piece in itertools.chain(body, [None]):
            for event in _events(decoder, piece):
                if isinstance(event, File | Field):
                    current = self._begin(event)
                elif isinstance(event, Data) and current == "file":
                    size_bytes += len(event.data)
                    self.bodies.require_small_enough(size_bytes)
                    yield event.data
                elif isinstance(event, Data):
                    self.fields[current] += event.data.decode("utf-8", "replace")
                    if len(self.fields[current]) > _FIELD_BYTES:
                        raise BadField(current, f"{current!r} is too long: it is a number.")
        if "file" not in self.fields:
            raise BadField("file", "The form has no part called 'file': send the video as that.")

    def _begin(self, event: File | Field) -> str:
        # Not every client says a file name; the decoder says None for a part without any name.
        name = event.name or ""
        if name not in _FIELDS:
            raise BadField(name[:40], f"{name[:40]!r} is no field: there are {', '.join(_FIELDS)}.")
        if name in self.fields:
            raise BadField(name, f"{name!r} was given twice: send one video at a time.")
        self.fields[name] = ""
        if isinstance(event, File):
            self.name = event.filename.replace("%22", '"')  # browsers cannot say it otherwise
        return name


def _events(decoder: MultipartDecoder, piece: bytes | None) -> Iterator[Data | File | Field]:
    """What one more piece of a form brings."""
    try:
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, Data | File | Field):
                yield event
    except (ValueError, RequestEntityTooLarge) as error:
        raise BadField(
            "file",
            "The body is no form as declared: send multipart/form-data with the video as 'file', "
            "for example with `curl -F file=@video.mp4`.",
        ) from error


def _boundary() -> bytes:
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "Send the video as part 'file' of multipart/form-data, for example with "
            "`curl -F file=@video.mp4`, or by the tus protocol to /api/uploads.",
            field="file",
        )
    return boundary.encode("utf-8", "replace")
