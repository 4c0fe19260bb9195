"""Reads the results of the feeds that somebody watches, once, and hands them to all who do.

One thread reads Redis for the whole process, whatever the number of viewers. A taker is called in
that thread with each result in turn and must not block; how much of it a slow viewer gets is the
taker's business. What is costly about a result is made at most once, when first asked for.

What it leaves out: who the viewers are, and over which protocol they watch.
"""

from __future__ import annotations

import functools
import io
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import structlog
from PIL import Image

from shared import overlay
from shared.bus import Analysed, Bus
from shared.errors import BusError, MoodlineError

_log = structlog.get_logger(__name__)
_BLOCK_S = 0.2  # the longest that a newly watched feed waits for the reader to notice
# At most a hundred reads a second, however many results come: several at once cost half as much.
_GATHER_S = 0.01
_PAUSE_S = 0.4  # between attempts while Redis is away
_REPORT_EVERY_S = 1.0
# Share of the width, and JPEG quality: about a half, a fifth, an eighth, a sixteenth of the bytes.
_SMALLER = ((0.75, 60), (0.5, 55), (0.375, 50), (0.25, 45))


class Shot:
    """One analysed picture on its way to viewers.

    `order` rises with each picture of a feed; `meta` is the contract's, without time of sending.
    """

    def __init__(self, analysed: Analysed, jpeg: bytes) -> None:
        self.feed = analysed.result.feed
        self.result = analysed.result
        self.jpeg = jpeg
        milliseconds, _, count = analysed.id.partition("-")
        self.order = (int(milliseconds), int(count or 0))
        self._drawing = threading.Lock()
        self._annotated: bytes | None = None
        self._sizes = [jpeg]  # each smaller than the one before

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        # A frame's id is Redis's time of storing it: what came before is capture, after it waiting.
        return {**self.result.to_dict(), "stored_at": self.order[0] / 1000}

    def jpeg_within(self, most_bytes: int) -> bytes:
        """The picture in at most so many bytes, as far as it can still be told what is in it.

        Smaller and coarser as need be; each size is made at most once for all who ask.
        """
        with self._drawing:
            for step in range(len(_SMALLER) + 1):
                if step == len(self._sizes):
                    share, quality = _SMALLER[step - 1]
                    self._sizes.append(_smaller(self.jpeg, share, quality))
                if len(self._sizes[step]) <= most_bytes:
                    return self._sizes[step]
            return min(self._sizes, key=len)

    def annotated(self) -> bytes:
        """The picture as JPEG with the faces drawn in; drawn once for all who ask."""
        with self._drawing:
            if self._annotated is None:
                try:
                    self._annotated = overlay.annotate_jpeg(self.jpeg, self.result.faces)
                except OSError:  # damaged, and only OpenCV could make something of it
                    self._annotated = self.jpeg
            return self._annotated


Taker = Callable[[Shot], None]


class Follower:
    """Hands each result of a watched feed to its takers. Safe to use from any thread.

    `name` tells this process from others that count viewers of the same feeds.
    """

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._lock = threading.Lock()
        self._takers: dict[str, list[Taker]] = defaultdict(list)
        self._cursors: dict[str, str] = {}
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported: dict[str, int] = {}
        self._report_due = 0.0

    def add(self, feed_id: str, taker: Taker) -> None:
        """Let `taker` have the newest result of a feed at once, then each new one.

        Raises NotFound for an unknown feed and BusError where Redis is away.
        """
        self._bus.feed(feed_id)
        newest = self._bus.latest(feed_id)
        with self._lock:
            self._takers[feed_id].append(taker)
            self._cursors.setdefault(feed_id, newest.id if newest else "0")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
                self._thread.start()
        self._wanted.set()
        if newest is not None and newest.jpeg is not None:
            taker(Shot(newest, newest.jpeg))

    def remove(self, feed_id: str, taker: Taker) -> None:
        """Stop handing results of that feed to `taker`."""
        with self._lock:
            takers = self._takers.get(feed_id, [])
            if taker in takers:
                takers.remove(taker)
            if not takers:
                self._takers.pop(feed_id, None)
                self._cursors.pop(feed_id, None)

    def viewers(self) -> dict[str, int]:
        """How many takers each watched feed has."""
        with self._lock:
            return {feed: len(takers) for feed, takers in self._takers.items()}

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """End the thread, which takes no longer than one read."""
        self._closed.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                cursors = dict(self._cursors)
            if not cursors and not self._reported:
                self._wanted.wait()
                self._wanted.clear()
                continue
            try:
                self._report_viewers()
                if cursors:
                    self._turn(cursors)
            except BusError as error:
                _log.info("results cannot be read", reason=str(error))
                self._closed.wait(_PAUSE_S)
            except MoodlineError:
                _log.exception("a result was skipped")
                with self._lock:
                    self._cursors = dict.fromkeys(self._cursors, "$")
                self._closed.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001 - the thread serves every viewer, so it outlives a defect
                _log.exception("following failed")
                self._closed.wait(_PAUSE_S)

    def _turn(self, cursors: dict[str, str]) -> None:
        found = self._bus.results_after(cursors, _BLOCK_S)
        read_at = time.monotonic()
        for analysed in found:
            feed = analysed.result.feed
            with self._lock:
                if feed not in self._cursors:
                    continue
                self._cursors[feed] = analysed.id
                takers = list(self._takers[feed])
            if analysed.jpeg is None:
                continue
            shot = Shot(analysed, analysed.jpeg)
            for taker in takers:
                taker(shot)
        if (left := read_at + _GATHER_S - time.monotonic()) > 0:
            time.sleep(left)

    def _report_viewers(self) -> None:
        viewers = self.viewers()
        if viewers != self._reported or time.monotonic() >= self._report_due:
            self._bus.put_viewers(self._name, viewers)
            self._reported = viewers
            self._report_due = time.monotonic() + _REPORT_EVERY_S


def _smaller(jpeg: bytes, share: float, quality: int) -> bytes:
    """The picture with that share of its width and height; as it is where it is damaged."""
    out = io.BytesIO()
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
            picture.thumbnail(size, Image.Resampling.BILINEAR, reducing_gap=1.5)
            picture.save(out, "JPEG", quality=quality)
    except OSError:
        return jpeg
    return out.getvalue()
