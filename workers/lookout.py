"""When to search a whole picture for faces, and when to look only where faces are known to be.

Searching everywhere takes most of the time that a frame takes, and between two frames little
happens. So a `Lookout` tells for each frame whether the search is due:

- where nothing was searched before, or the clock fell back;
- `every_s` after the last search, if the picture has changed outside the known faces since then,
  so that a new face is found within that time;
- after a third of it while something is unsettled (`restless`: a face that moves fast, is missing,
  or is not sure yet);
- at once when half of the picture has changed, as at a cut;
- `_LONGEST_S` after the last search in any case.

Changes are told from a glimpse: a grey picture of 32 x 24. It promises: the same pictures and times
give the same answers, on any machine; its state is a number and a kilobyte of text.

Not here: the searching and following themselves (`workers.tracking`, `workers.vision.detector`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.vision.detector import BoxXYWH, ImageBGR

Glimpse = NDArray[np.uint8]
"""(24, 32): the picture in grey, very small, whatever its shape."""

_GLIMPSE_WH = (32, 24)
_LONGEST_S = 1.0
_RESTLESS_SHARE = 1 / 3
_TOLERANCE_S = 0.01  # frames come at about their times
# Of 255. The noise of a webcam by lamplight moves a cell by 1 to 3, a face that comes in by 20.
_CHANGED = 8
_CUT_SHARE = 0.5


class Lookout:
    """Says for the frames of one feed when the whole picture is to be searched."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._searched_at: float | None = None
        self._searched = np.zeros(_GLIMPSE_WH[::-1], np.uint8)

    def state(self) -> list[float | str] | None:
        """Return all that the next frame needs, for JSON; None before the first search."""
        if self._searched_at is None:
            return None
        return [self._searched_at, base64.b64encode(self._searched.tobytes()).decode()]

    def restore(self, state: Sequence[float | str] | None) -> None:
        """Go on from `state()`."""
        if state is not None:
            searched_at, pixels = state
            self._searched_at = float(searched_at)
            flat = np.frombuffer(base64.b64decode(str(pixels)), np.uint8)
            self._searched = flat.reshape(_GLIMPSE_WH[::-1])

    def due(self, glimpse: Glimpse, t: float, known: Sequence[BoxXYWH], *, restless: bool) -> bool:
        """Return whether to search the picture taken at `t`.

        `known` are the faces that are looked at anyway, as shares of the picture's sides.
        """
        if self._searched_at is None or not 0 <= t - self._searched_at < _LONGEST_S:
            return True
        changed = cv2.absdiff(glimpse, self._searched) > _CHANGED
        if np.count_nonzero(changed) >= _CUT_SHARE * changed.size:
            return True
        period_s = self.every_s * (_RESTLESS_SHARE if restless else 1)
        if t - self._searched_at < period_s - _TOLERANCE_S:
            return False
        if restless:
            return True
        columns, rows = _GLIMPSE_WH
        for x, y, width, height in known:
            left, top = max(round(x * columns), 0), max(round(y * rows), 0)
            right, bottom = round((x + width) * columns), round((y + height) * rows)
            changed[top : max(bottom, 0), left : max(right, 0)] = False
        return bool(changed.any())

    def searched(self, glimpse: Glimpse, t: float) -> None:
        """Take note that this picture was searched."""
        self._searched_at, self._searched = round(t, 3), glimpse


def glimpse_of(image_bgr: ImageBGR) -> Glimpse:
    """Return the picture very small and grey: its green, of every fourth pixel or so."""
    height, width = image_bgr.shape[:2]
    columns, rows = _GLIMPSE_WH
    step_y, step_x = max(height // (5 * rows), 1), max(width // (5 * columns), 1)
    thinned = np.ascontiguousarray(image_bgr[::step_y, ::step_x, 1])
    small = cv2.resize(thinned, _GLIMPSE_WH, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
