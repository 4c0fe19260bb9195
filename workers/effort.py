"""How much a worker does for each live frame: less when frames wait too long, and all again after.

Each worker decides for itself, by how long the frames that it claims have waited. While they have
waited too long for `_RISE_AFTER_S`, it goes one step further down: it searches whole pictures less
often, then in smaller pictures, then takes only the newest frame of each feed and skips the rest.

Each `_LOOK_S` in which almost all frames came in time, it tries one step back. Whether it can keep
up there only the trial tells: how busy it is says little, because a step leaves out whole frames.
A trial that ends late soon after was in vain, and the next one waits twice as long, so that an
overload that lasts does not swing; but for as long as the worker is clearly less busy than before
that trial, the load has changed, and it does not wait.

Promises: from the last step it is back to doing everything within 10 s after an overload has ended,
also if no frame comes meanwhile, and also if what is left is nearly as much as it can do; within
25 s if what is left keeps it as busy as the overload did, for then nothing but a trial can tell.
Not here: what a step saves (`workers.pipeline`), and telling who looks on (`shared.bus`).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.schema import Degraded

_STEPS = tuple(Degraded)
_LATE_S, _IN_TIME_S = 0.15, 0.08  # from capture to claim
_RISE_AFTER_S = 0.5
_LOOK_S = 2.0
_CALM = 0.8  # the share of claims in time: on a busy machine some are late at any load
_VAIN_WITHIN_S = 4.0
_LONGEST_PAUSE_S = 20.0
_LESS_BUSY = 0.93  # of how busy it was before the trial in vain


@dataclass(slots=True)
class _Trial:
    """A step back: from which step, when, and how busy the worker was before (share of time)."""

    step: int
    at: float
    busy: float


@dataclass(slots=True)
class _Vain:
    """What trials in vain from a step have taught."""

    busy: float
    pause_s: float
    until: float


class Effort:
    """One worker's step. Times are seconds of one clock that never falls."""

    def __init__(self) -> None:
        self._step = 0
        self._late_since: float | None = None
        self._trial: _Trial | None = None
        self._vain: dict[int, _Vain] = {}
        self._claimed_at = 0.0
        self._look_anew(0.0)

    @property
    def degraded(self) -> Degraded:
        """What is left out now."""
        return _STEPS[self._step]

    def claimed(self, waited_s: float, now: float) -> None:
        """Take note that a batch was claimed whose oldest frame had waited for so long."""
        if now - self._claimed_at >= _LOOK_S:  # nothing came meanwhile: what was before is over
            self._late_since = None
            self._look_anew(self._claimed_at)
        self._claimed_at = now
        self._claims += 1
        self._in_time += waited_s <= _IN_TIME_S
        if waited_s <= _LATE_S:
            self._late_since = None
            if now - self._looked_at >= _LOOK_S:
                self._look(now)
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since >= _RISE_AFTER_S:
            self._leave_out_more(now)

    def worked(self, busy_s: float) -> None:
        """Take note of how long the batch took."""
        self._busy_s += busy_s

    def _leave_out_more(self, now: float) -> None:
        trial, self._trial = self._trial, None
        if trial is not None and now - trial.at <= _VAIN_WITHIN_S:
            before = self._vain.get(trial.step)
            pause_s = min(2 * (before.pause_s if before else _LOOK_S), _LONGEST_PAUSE_S)
            self._vain[trial.step] = _Vain(trial.busy, pause_s, now + pause_s)
        self._step = min(self._step + 1, len(_STEPS) - 1)
        self._late_since = now
        self._look_anew(now)

    def _look(self, now: float) -> None:
        """Go back where that is worth a trial."""
        looked_s = now - self._looked_at
        busy = self._busy_s / looked_s
        if self._trial is not None and now - self._trial.at > _VAIN_WITHIN_S:
            self._vain.pop(self._trial.step, None)
            self._trial = None
        if self._step and self._in_time >= _CALM * self._claims and self._may_try(busy, now):
            self._trial = _Trial(self._step, now, busy)
            # As many steps as there was time for, should no frame have come for long.
            self._step = max(self._step - int(looked_s / _LOOK_S), 0)
        self._look_anew(now)

    def _may_try(self, busy: float, now: float) -> bool:
        vain = self._vain.get(self._step)
        return vain is None or now >= vain.until or busy < _LESS_BUSY * vain.busy

    def _look_anew(self, now: float) -> None:
        self._looked_at = now
        self._claims = self._in_time = 0
        self._busy_s = 0.0
