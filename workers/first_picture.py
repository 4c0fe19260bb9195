"""The process that tries one source: open it, send its first picture to Redis, end.

It reads what to try, password included, from its standard input, and lives no longer than the
process at the other end of that pipe, which also kills it when it takes too long
(`workers.trials`). The picture is in memory only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from typing import NoReturn

import cv2
import structlog

from shared.bus import Bus
from shared.config import Settings
from shared.errors import SourceError
from shared.schema import Feed, FirstPicture
from shared.source import Source, SourceKind
from workers import sources
from workers.jpeg import Encoder
from workers.sources import Limits, Pulse

_log = structlog.get_logger(__name__)

MAX_WIDTH = 640
_FPS = 15.0
_EXPOSURE_PICTURES = 6  # a webcam's first pictures are dark: it has yet to find its exposure


def run(settings: Settings, redis_url: str) -> NoReturn:
    """Answer the one question that comes over standard input, and end the process."""
    cv2.setNumThreads(1)
    question = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, name="watch", daemon=True).start()
    source = Source.parse(question["source"])
    bus = Bus(redis_url)
    bus.answer_trial(question["id"], _look(settings, bus, source, question["feed"]))
    os._exit(0)  # also where a library's thread hangs


def _look(settings: Settings, bus: Bus, source: Source, captured_by: str) -> FirstPicture:
    limits = Limits(_FPS, MAX_WIDTH)
    try:
        jpeg = bus.newest_frame(captured_by) if captured_by else None
        if jpeg is not None:
            return FirstPicture(_narrow(jpeg, settings.jpeg_quality), feed=captured_by)
        return FirstPicture(_first(source, limits, settings.jpeg_quality))
    except SourceError as error:
        return FirstPicture(problem=str(error), trouble=error.trouble)
    except Exception:  # noqa: BLE001 - a defect: say it without credentials
        trace = source.scrub(traceback.format_exc())
        _log.error("a source could not be tried, by a defect", trace=trace)
        return FirstPicture(
            problem=f"Moodline failed at trying {source.masked}; the log of its capture process "
            "says where."
        )


def _first(source: Source, limits: Limits, jpeg_quality: int) -> bytes:
    feed = Feed.new(source, fps=limits.fps, width=limits.width)
    pictures = sources.read(
        feed, jpeg_quality=jpeg_quality, pulse=Pulse(), stop=threading.Event(), limits=limits
    )
    picture = next(pictures)
    if source.kind is SourceKind.WEBCAM:
        for _ in range(_EXPOSURE_PICTURES):
            picture = next(pictures)
    return picture.jpeg


def _narrow(jpeg: bytes, jpeg_quality: int) -> bytes:
    narrow = Encoder(jpeg_quality).from_jpeg(jpeg, MAX_WIDTH)
    if narrow is None:
        raise SourceError("The camera sends pictures that cannot be read: check what it sends.")
    return narrow


def _end_with_parent() -> None:
    # Not through the buffered reader: its lock would be held at the interpreter's end.
    while os.read(0, 64):
        pass
    os._exit(1)
