"""When to search a whole picture for faces, and when to look only where some are known to be.

Searching everywhere takes most of the time that a frame takes, and between two frames little
happens. So a `Lookout` tells for each frame what is due. All faces are searched for afresh

- where nothing was searched before, or the clock fell back;
- a third of `every_s` after the last search while something is unsettled (`restless`: a face that
  moves fast, is missing, or is not sure yet);
- at once when half of the picture has changed, as at a cut;
- `_LONGEST_S` after the last time in any case.

What has changed outside the known faces is searched `every_s` after the last search, so that a new
face is found within that time.

Changes are told from a glimpse: a grey picture of 32 x 24.

A known face is not even looked at for `_STILL_S` after the last look (`Look`), as long as the place
where it should be now looks as it did then, in a grey picture of 16 x 16 of the face alone: who
holds still, or moves as evenly as before, is looked at in every third picture of 30 a second.

It promises: the same pictures and times give the same answers, on any machine; the state is two
numbers and a kilobyte of text, and half a kilobyte for each face.

Not here: the searching and following themselves (`workers.tracking`, `workers.vision.detector`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.vision.detector import BoxXYWH, Detection, ImageBGR

Glimpse = NDArray[np.uint8]
"""(24, 32): the picture in grey, very small, whatever its shape."""


class Due(NamedTuple):
    """A search that is due: for all faces `afresh`, or in an area for those beside the known ones.

    The area is in shares of the picture's sides.
    """

    afresh: bool
    area_xywh: BoxXYWH


AFRESH = Due(True, (0.0, 0.0, 1.0, 1.0))

_GLIMPSE_WH = (32, 24)
_LONGEST_S = 1.0
_RESTLESS_SHARE = 1 / 3
_TOLERANCE_S = 0.01  # frames come at about their times
# Of 255. The noise of a webcam by lamplight moves a cell by 1 to 3, a face that comes in by 20.
_CHANGED = 8
_CUT_SHARE = 0.5

_STILL_S = 0.09
_PATCH_SIDE = 16
# How much a patch may differ, as a share of its contrast. With this, 99 of 100 boxes lie 0.88 or
# more over those of searching every picture (intersection over union, four clips).
_DIFFERENT = 0.25
_LEAST_CONTRAST = 4.0  # of 255; a patch of less tells nothing


class Lookout:
    """Says for the frames of one feed when the whole picture is to be searched."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._afresh_at: float | None = None
        self._searched_at = 0.0
        self._searched = np.zeros(_GLIMPSE_WH[::-1], np.uint8)

    def state(self) -> list[float | str] | None:
        """Return all that the next frame needs, for JSON; None before the first search."""
        if self._afresh_at is None:
            return None
        pixels = base64.b64encode(self._searched.tobytes()).decode()
        return [self._afresh_at, self._searched_at, pixels]

    def restore(self, state: Sequence[float | str] | None) -> None:
        """Go on from `state()`."""
        if state is not None:
            afresh_at, searched_at, pixels = state
            self._afresh_at, self._searched_at = float(afresh_at), float(searched_at)
            flat = np.frombuffer(base64.b64decode(str(pixels)), np.uint8)
            self._searched = flat.reshape(_GLIMPSE_WH[::-1])

    def due(
        self, glimpse: Glimpse, t: float, known: Sequence[BoxXYWH], *, restless: bool
    ) -> Due | None:
        """Return the search that is due in the picture taken at `t`, if one is.

        `known` are the faces that are looked at anyway, in shares of the picture's sides.
        """
        if self._afresh_at is None or not 0 <= t - self._afresh_at < _LONGEST_S:
            return AFRESH
        changed = cv2.absdiff(glimpse, self._searched) > _CHANGED
        if np.count_nonzero(changed) >= _CUT_SHARE * changed.size:
            return AFRESH
        since_s = t - self._searched_at + _TOLERANCE_S
        if restless and since_s >= self.every_s * _RESTLESS_SHARE:
            return AFRESH
        if since_s < self.every_s:
            return None
        columns, rows = _GLIMPSE_WH
        for x, y, width, height in known:
            left, top = max(round(x * columns), 0), max(round(y * rows), 0)
            right, bottom = round((x + width) * columns), round((y + height) * rows)
            changed[top : max(bottom, 0), left : max(right, 0)] = False
        area_xywh = _area_of(changed)
        return None if area_xywh is None else Due(False, area_xywh)

    def searched(self, due: Due, glimpse: Glimpse, t: float) -> None:
        """Take note that this search was done."""
        self._searched_at, self._searched = round(t, 3), glimpse
        if due.afresh:
            self._afresh_at = self._searched_at


def _area_of(changed: NDArray[np.bool_]) -> BoxXYWH | None:
    """The smallest part with all changes, in quarters of the picture; None where there are none."""
    spans = []
    for axis in (0, 1):
        cells = np.flatnonzero(changed.any(axis=axis))
        if not len(cells):
            return None
        # With a cell's margin: a face is larger than what of it has changed.
        quarter = changed.shape[1 - axis] / 4
        first = int(max(int(cells[0]) - 1, 0) / quarter)
        last = int(min(int(cells[-1]) + 1, changed.shape[1 - axis] - 1) / quarter)
        spans.append((first / 4, (last + 1 - first) / 4))
    (x, width), (y, height) = spans
    return (x, y, width, height)


def glimpse_of(image_bgr: ImageBGR) -> Glimpse:
    """Return the picture very small and grey: its green, of every fourth pixel or so."""
    height, width = image_bgr.shape[:2]
    columns, rows = _GLIMPSE_WH
    step_y, step_x = max(height // (5 * rows), 1), max(width // (5 * columns), 1)
    thinned = np.ascontiguousarray(image_bgr[::step_y, ::step_x, 1])
    small = cv2.resize(thinned, _GLIMPSE_WH, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


class Look(NamedTuple):
    """What a look at a face saw, rounded as in the state: offsets are from the box's middle.

    `contrast` is the patch's, kept so that it is not told anew in each frame.
    """

    t: float
    width: float
    height: float
    score: float
    landmark_offsets: list[list[float]]
    patch: NDArray[np.uint8]
    contrast: float

    @classmethod
    def at(cls, image_bgr: ImageBGR, face: Detection, t: float) -> Self | None:
        """Take note of a face that was just looked at; None where its place tells nothing."""
        x, y, width, height = face.box_xywh
        offsets = [
            [round(there_x - x - width / 2, 1), round(there_y - y - height / 2, 1)]
            for there_x, there_y in face.landmarks_xy
        ]
        patch = _patch_of(image_bgr, face.box_xywh)
        contrast = round(_contrast(patch), 1)
        if contrast < _LEAST_CONTRAST:
            return None
        return cls(
            t=round(t, 3),
            width=round(width, 1),
            height=round(height, 1),
            score=round(face.score, 4),
            landmark_offsets=offsets,
            patch=patch,
            contrast=contrast,
        )

    def state(self) -> list[Any]:
        """Return it for JSON."""
        return [*self[:5], base64.b64encode(self.patch.tobytes()).decode()]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        t, width, height, score, offsets, pixels = state
        flat = np.frombuffer(base64.b64decode(str(pixels)), np.uint8)
        patch = flat.reshape(_PATCH_SIDE, _PATCH_SIDE)
        return cls(t, width, height, score, offsets, patch, round(_contrast(patch), 1))

    def still(self, image_bgr: ImageBGR, place_xywh: BoxXYWH, t: float) -> Detection | None:
        """Return the face where it should be at `t`; None where it has to be looked at again."""
        height, width = image_bgr.shape[:2]
        fits = self.width <= width and self.height <= height  # pictures may have become smaller
        if not (fits and 0 <= t - self.t <= _STILL_S):
            return None
        x = place_xywh[0] + (place_xywh[2] - self.width) / 2
        y = place_xywh[1] + (place_xywh[3] - self.height) / 2
        # Boxes end where the picture ends: who is cut by its edge does not move out of it.
        x, y = min(max(x, 0.0), width - self.width), min(max(y, 0.0), height - self.height)
        box_xywh = (x, y, self.width, self.height)
        # Without their means: a lamp, or the camera's exposure, may change the brightness.
        change = cv2.subtract(_patch_of(image_bgr, box_xywh), self.patch, dtype=cv2.CV_16S)
        if _contrast(change) > _DIFFERENT * self.contrast:
            return None
        centre_x, centre_y = x + self.width / 2, y + self.height / 2
        landmarks = tuple((centre_x + dx, centre_y + dy) for dx, dy in self.landmark_offsets)
        return Detection(box_xywh, self.score, landmarks)


def _patch_of(image_bgr: ImageBGR, box_xywh: BoxXYWH) -> NDArray[np.uint8]:
    """Return the box within the picture very small and grey: its green."""
    x, y, width, height = (round(value) for value in box_xywh)
    green = image_bgr[y : y + max(height, 1), x : x + max(width, 1), 1]
    step = max(min(green.shape) // (2 * _PATCH_SIDE), 1)
    thinned = np.ascontiguousarray(green[::step, ::step])
    small = cv2.resize(thinned, (_PATCH_SIDE, _PATCH_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _contrast(patch: Any) -> float:
    _, deviation = cv2.meanStdDev(patch)
    return float(deviation[0, 0])
