"""What stands between a camera and the page: told by ``/readyz`` and to every open page."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from shared.bus import Bus
from shared.errors import BusError, ConfigError, MediaError
from shared.media import Media

_PROBE = "probe/web"  # a path of the storage that nothing else uses
_PROBE_EVERY_S = 15.0
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that analysis needs and that is not there; `detail` says what to do."""

    part: str
    detail: str


def missing(bus: Bus) -> list[Missing]:
    """All that is missing; nothing: ready."""
    try:
        restored = bus.feeds_version() is not None
        workers = bus.workers()
    except BusError as error:
        return [Missing("redis", str(error))]
    found = []
    if not restored:
        found.append(
            Missing("capture", "No capture has started yet: run `moodline capture`, or `up`.")
        )
    if not workers:
        found.append(
            Missing(
                "worker",
                "No worker is running, so pictures are captured but not analysed: "
                "run `moodline worker`, or see in its log why it ended.",
            )
        )
    return found


class StorageProbe:
    """Whether the storage of videos takes a file, tried now and then in a thread of its own.

    A storage that hangs holds up that thread alone: who asks waits `_PATIENCE_S` at most.
    """

    def __init__(self, media: Media) -> None:
        self._media = media
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._started_at = float("-inf")
        self._problem = ""

    def problem(self) -> str:
        """What is wrong with the storage; empty: nothing."""
        with self._lock:
            now = time.monotonic()
            if self._ended.is_set() and now - self._started_at > _PROBE_EVERY_S:
                self._ended.clear()
                self._started_at = now
                threading.Thread(target=self._try, name="probe", daemon=True).start()
            left_s = self._started_at + _PATIENCE_S - now
        if self._ended.wait(max(0.0, left_s)):
            return self._problem
        return (
            f"The storage {self._media.address} has not answered for "
            f"{time.monotonic() - self._started_at:.0f} s: check MEDIA_URL and the way there."
        )

    def _try(self) -> None:
        try:
            self._media.write(_PROBE, b"ready")
        except (MediaError, ConfigError) as error:
            self._problem = str(error)
        else:
            self._problem = ""
        finally:
            self._ended.set()
