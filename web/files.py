"""Stored files over HTTP: whole or in ranges, checked anew before a kept copy is used.

A file is streamed from wherever it lies, a folder or a bucket, in pieces: its size does not matter.
Its ETag is the storage's own word for this very version, so a download that is continued, or a
player that seeks, never mixes two versions. What a file is called for the user is a header and
nothing else; what it is (its content type) is said by this code and never by who sent it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from flask import Response, request
from werkzeug.wsgi import FileWrapper

from shared.media import Media

JSON = "application/json"
CSV = "text/csv; charset=utf-8"
JPEG = "image/jpeg"
MP4 = "video/mp4"
PDF = "application/pdf"
_PIECE_BYTES = 256 * 1024
_STEM_LENGTH = 100
_PLAYER_BYTES = 4 * 1024 * 1024
_ONE_RANGE = re.compile(r"bytes=(?:\d+-\d*|-\d+)")
_OPEN_RANGE = re.compile(r"bytes=(\d+)-")
_TYPES = {  # of a container by its usual name; a browser is told no other
    "mp4": MP4,
    "mov": MP4,  # what browsers play of it, they play as that
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "ts": "video/mp2t",
    "mpg": "video/mpeg",
    "ogg": "video/ogg",
    "flv": "video/x-flv",
    "asf": "video/x-ms-asf",
}


def send(media: Media, path: str, content_type: str, name: str) -> Response:
    """Answer the current request with a stored file, called `name` when it is saved.

    ``?download=1`` makes a browser save it instead of showing it. Raises NotFound.
    """
    file = media.open(path)
    try:
        size_bytes, version = media.stamp(file)
        # Not the server's own file wrapper: it cannot seek, and would read a film up to its middle.
        answer = Response(
            FileWrapper(file, _PIECE_BYTES), content_type=content_type, direct_passthrough=True
        )
        answer.call_on_close(file.close)
        answer.content_length = size_bytes
        answer.set_etag(version)
        answer.headers["Cache-Control"] = "private, no-cache"
        shown = "attachment" if request.args.get("download", "0") not in ("", "0") else "inline"
        answer.headers.set("Content-Disposition", shown, **_names(name))
        # Several ranges would need a multipart answer, and other units than bytes there are none:
        # for those a server may give the whole file.
        wanted = _wanted_range()
        answer.make_conditional(
            {**request.environ, "HTTP_RANGE": wanted} if wanted else request.environ,
            accept_ranges=True,
            complete_length=size_bytes if _ONE_RANGE.fullmatch(wanted) else None,
        )
    except BaseException:
        file.close()
        raise
    return answer


def _wanted_range() -> str:
    """What part of the file is asked for, as a Range header; empty for all of it.

    A player asks for all from some place on, reads a few seconds ahead, and then stops reading
    while it is paused: that would hold a thread here, and one of the six connections that a browser
    opens to a server. So a player is given a piece, and asks for the next when it wants it.
    """
    wanted = request.headers.get("Range", "")
    onwards = _OPEN_RANGE.fullmatch(wanted)
    if onwards and request.headers.get("Sec-Fetch-Dest") in ("video", "audio"):
        start = int(onwards[1])
        return f"bytes={start}-{start + _PLAYER_BYTES - 1}"
    return wanted


def named_after(video_name: str, what: str) -> str:
    """``Holiday.MOV`` and ``.results.json`` make ``Holiday.results.json``."""
    return f"{PurePosixPath(video_name).stem[:_STEM_LENGTH]}{what}"


def type_of(container: str) -> str:
    """The content type of a video file by the container that was found to be its."""
    return _TYPES.get(container, "application/octet-stream")


def _names(name: str) -> dict[str, str]:
    """The parameters of Content-Disposition: for old programs in ASCII, for the others as it is."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    if plain == name:
        return {"filename": name}
    return {"filename": plain, "filename*": f"UTF-8''{quote(name, safe='')}"}
