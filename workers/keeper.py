"""Looks after recorded videos, beside the work, in a thread of every worker process.

One keeper at a time leads, under a lock in Redis that runs out with its process; so the videos are
looked after as long as any worker lives. What a keeper does can be done twice and cut off anywhere.

Not here: what looking after means (`shared.videos.Videos.keep`).
"""

from __future__ import annotations

import threading

import structlog

from shared.errors import MediaError, MoodlineError
from shared.videos import Videos

_log = structlog.get_logger(__name__)

_EVERY_S = 2.0


class Keeper:
    """`name` is unique among all keepers; `retention_s`: how long finished videos are kept."""

    def __init__(self, videos: Videos, *, name: str, retention_s: float | None) -> None:
        self._videos = videos
        self._name = name
        self._retention_s = retention_s

    def turn(self) -> None:
        """Look after all videos once, if no other keeper does."""
        if self._videos.lead(self._name):
            self._videos.keep(retention_s=self._retention_s)

    def run(self, stopping: threading.Event) -> None:
        """Take turns until `stopping`."""
        told = ""
        while True:
            try:
                self.turn()
                told = ""
            except MoodlineError as error:
                # Of Redis others tell; of the storage nobody else, and once is enough.
                is_news = isinstance(error, MediaError) and str(error) != told
                tell = _log.warning if is_news else _log.info
                tell("the videos are not looked after for a moment", error=str(error))
                told = str(error)
            except Exception:  # noqa: BLE001 - the outermost loop of a thread that must go on
                _log.exception("looking after the videos failed")
            if stopping.wait(_EVERY_S):
                return
