"""What stands between a camera and the page: told by ``/readyz`` and to every open page."""

from __future__ import annotations

from dataclasses import dataclass

from shared.bus import Bus
from shared.errors import BusError


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
