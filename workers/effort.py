"""How much a worker does for each live frame: less when frames wait too long, and all again after.

Each worker decides for itself, by how long the frames that it claims have waited. While they have
waited too long for `_RISE_AFTER_S`, it goes one step further down: it searches whole pictures less
often, then in smaller pictures, then takes only the newest frame of each feed and skips the rest.
It goes one step back when for `_FALL_AFTER_S` frames came in time and the worker had time to spare,
so that it does not swing between a step that is too much and one that is too little.

Promises: from the last step it is back to doing everything within 10 s after an overload has ended,
also if no frame comes meanwhile. Not here: what a step saves (`workers.pipeline`), and telling who
looks on (`shared.bus`).
"""

from __future__ import annotations

from shared.schema import Degraded

_STEPS = tuple(Degraded)
_LATE_S, _IN_TIME_S = 0.15, 0.08  # from capture to claim
_RISE_AFTER_S = 0.5
_FALL_AFTER_S = 2.5
_SPARE = 0.3  # the share of its time that a worker must have had left


class Effort:
    """One worker's step. Times are seconds of one clock that never falls."""

    def __init__(self) -> None:
        self._step = 0
        self._late_since: float | None = None
        self._calm_since = 0.0
        self._busy_s = 0.0

    @property
    def degraded(self) -> Degraded:
        """What is left out now."""
        return _STEPS[self._step]

    def claimed(self, waited_s: float, now: float) -> None:
        """Take note that a batch was claimed whose oldest frame had waited for so long."""
        if waited_s > _LATE_S:
            self._start_calm(now)
            if self._late_since is None:
                self._late_since = now
            elif now - self._late_since >= _RISE_AFTER_S:
                self._step = min(self._step + 1, len(_STEPS) - 1)
                self._late_since = now
            return
        self._late_since = None
        calm_s = now - self._calm_since
        if waited_s > _IN_TIME_S or (
            calm_s >= _FALL_AFTER_S and self._busy_s > (1 - _SPARE) * calm_s
        ):
            self._start_calm(now)
        elif calm_s >= _FALL_AFTER_S:
            # As many steps as there was time for, should no frame have come for long.
            self._step = max(self._step - int(calm_s / _FALL_AFTER_S), 0)
            self._start_calm(now)

    def worked(self, busy_s: float) -> None:
        """Take note of how long the batch took."""
        self._busy_s += busy_s

    def _start_calm(self, now: float) -> None:
        self._calm_since = now
        self._busy_s = 0.0
