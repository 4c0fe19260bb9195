"""Follow faces through a feed: the same face keeps its number, and its scores are smoothed.

A `Tracker` follows one feed. It promises: the same pictures give the same numbers; a number is
never used twice; a face keeps its number through head turns, blur and up to `FORGET_S` of being
hidden; what the detector is unsure of becomes a person only when it is seen again; its whole state
is small and goes through JSON (`state`, `from_state`) without changing what comes after, so that
any worker may serve any feed.

How: each face's place is predicted from its speed; predicted and found faces are paired so that
the sum of costs is smallest (distance, size and colours of hair, face and clothes), which is what
keeps two people who cross apart. Where the full search saw no face at a predicted place,
`FaceDetector.verify` looks there again; a box is never invented. With `search_every_s` the full
search comes only when it is due (`workers.lookout`): in the frames between, known faces are
followed by `FaceDetector.follow`, and if one of them is no longer there, the whole picture is
searched after all. While a face looks as it did a moment ago, its box goes on as its speed says.

Smoothing: exponential, with a time constant in seconds, so that it does not depend on the frame
rate; it starts anew after a gap of `SMOOTHING_GAP_S`.

Not here: finding faces and judging expressions (`workers.vision`), and keeping the state
(`shared.bus`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.schema import GLIMPSES
from workers.lookout import AFRESH, Look, Lookout, glimpse_of
from workers.vision.detector import BoxXYWH, Detection, FaceDetector, ImageBGR

FORGET_S = 2.5
"""A face that was not seen for longer gets a new number when it comes back."""
SMOOTHING_GAP_S = 1.0
"""Scores older than this say nothing of the present expression."""

_FORGET_UNCONFIRMED_S = 0.35
_SECOND_LOOK_S = 1.5  # how long `verify` is asked for a face; each look costs a millisecond
_SECOND_LOOKS = 4  # at most, in one frame
_SPEED_MEMORY_S = 0.15  # time constant of the speed's smoothing
_COAST_S = 0.4  # a hidden face goes on for about this long at its last speed
_MAX_TRACKS = 64
_CUT_WITHIN_S = 0.3
_FAST = 1.5  # face sizes a second, past which searches come more often
_STATE_VERSION = 3

# A face starts to be shown at once at this score (91 of 100 real faces on four clips), or when
# several sightings add up: the square lets three of 0.9 in, but not the backs of heads that the
# detector takes for faces with 0.85 to 0.88, a few frames in a row.
_SURE, _UNSURE = 0.95, 0.8

# Colours of the same person within 2.5 s lie up to 13 apart (95 of 100 pairs), those of different
# people 10 to 50: so colours alone decide nothing, but they break the ties when people cross.
_COLOURS_APART = 25.0
# After a cut (a looped clip, another camera) there is nothing but colours: then they must be close,
# and the face about as large as a cut between two moments of one scene makes it.
_SAME_COLOURS = 13.0
_CUT_GROWTH = 1.2  # natural logarithm: 3.3 times as large or as small
# Parts whose colours are compared, as shares of the face's box: left, right, top, bottom.
_PARTS = (
    (0.1, 0.9, -0.3, 0.05),  # hair
    (0.15, 0.85, 0.2, 0.95),  # face
    (-0.1, 1.1, 1.25, 1.8),  # collar
    (-0.1, 1.1, 1.8, 2.6),  # chest
)
_IMPOSSIBLE = 1e6
_AND_BRIGHTNESS = np.vstack([np.eye(3), np.full((1, 3), 1 / 3)])  # blue, green, red, their mean

Colours = tuple[tuple[int, int, int, int] | None, ...]
"""Of each part: brightness, red against green, yellow against blue, contrast; None: not in view."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A face of one frame with the number of the person it belongs to."""

    track: int
    detection: Detection


@dataclass(slots=True)
class _Track:
    """What is known of one face. Values are kept as rounded as in the state (see `_seen_at`)."""

    number: int  # 0 until confirmed: numbers are given only to what is shown
    evidence: float
    seen_at: float
    centre_x: float
    centre_y: float
    width: float
    height: float
    speed_x: float
    speed_y: float
    colours: Colours
    look: Look | None = None  # the last one, between full searches

    @classmethod
    def start(cls, t: float, box_xywh: BoxXYWH, colours: Colours) -> Self:
        track = cls(0, 0.0, t, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, colours)
        track._place(t, box_xywh)
        return track

    def predicted(self, t: float) -> BoxXYWH:
        """Where the face should be now: it slows down while nobody sees it."""
        coasting_s = _COAST_S * (1 - math.exp(-max(t - self.seen_at, 0.0) / _COAST_S))
        x = self.centre_x + self.speed_x * coasting_s - self.width / 2
        y = self.centre_y + self.speed_y * coasting_s - self.height / 2
        return (x, y, self.width, self.height)

    def see(self, t: float, face: Detection, colours: Colours, *, crowded: bool) -> None:
        """Take in a sighting; while another face is close, the colours may be the other's."""
        step_s = t - self.seen_at
        x, y = self.centre_x, self.centre_y
        self._place(t, face.box_xywh)
        if step_s > 0:
            weight = 1 - math.exp(-step_s / _SPEED_MEMORY_S)
            self.speed_x += weight * ((self.centre_x - x) / step_s - self.speed_x)
            self.speed_y += weight * ((self.centre_y - y) / step_s - self.speed_y)
            self.speed_x, self.speed_y = round(self.speed_x, 1), round(self.speed_y, 1)
        if not crowded:
            self.colours = _blend(self.colours, colours)

    def is_restless(self, t: float, last_t: float) -> bool:
        """Whether it is not sure yet, missing since the last frame, or moves fast."""
        if self.number == 0 or self.seen_at != last_t:
            return t - self.seen_at <= _SECOND_LOOK_S
        return math.hypot(self.speed_x, self.speed_y) > _FAST * max(self.width, self.height)

    def jump(self, box_xywh: BoxXYWH) -> None:
        """Be elsewhere from one frame to the next without having moved there."""
        self._place(self.seen_at, box_xywh)
        self.speed_x = self.speed_y = 0.0

    def _place(self, t: float, box_xywh: BoxXYWH) -> None:
        x, y, width, height = box_xywh
        self.seen_at = round(t, 3)
        self.centre_x, self.centre_y = round(x + width / 2, 1), round(y + height / 2, 1)
        self.width, self.height = round(width, 1), round(height, 1)


class Tracker:
    """The faces of one feed; see the module's docstring for what it promises.

    Times are seconds on any clock that only rises; where it falls, all faces get new numbers.
    `search_every_s` is how long a new face may go unseen; 0 searches every picture.
    """

    def __init__(self, *, smoothing_s: float = 0.4, search_every_s: float = 0.0) -> None:
        self._smoothing_s = smoothing_s
        self._lookout = Lookout(search_every_s)
        self._tracks: list[_Track] = []
        self._next_number = 1
        self._t = 0.0
        self._smoothed: dict[int, tuple[float, list[float]]] = {}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any] | None,
        *,
        smoothing_s: float = 0.4,
        search_every_s: float = 0.0,
    ) -> Self:
        """Go on from `state()`; from None, or another version's state, with no face known."""
        tracker = cls(smoothing_s=smoothing_s, search_every_s=search_every_s)
        if state is None or state.get("version") != _STATE_VERSION:
            return tracker
        tracker._t = state["t"]
        tracker._next_number = state["next"]
        for *values, parts in state["tracks"]:
            colours = tuple(None if part is None else tuple(part) for part in parts)
            values.append(colours)
            tracker._tracks.append(_Track(*values))
        for number, (t, scores) in state["scores"].items():
            tracker._smoothed[int(number)] = (t, scores)
        glimpses = state.get(GLIMPSES)
        if glimpses:
            tracker._lookout.restore(glimpses["lookout"])
            for index, look in glimpses["looks"]:
                tracker._tracks[index].look = Look.from_state(look)
        return tracker

    def state(self) -> dict[str, Any]:
        """Return all that the next frame needs, for JSON: some 700 bytes a face, and 1 kB.

        What shows something of the picture is apart (`GLIMPSES`): without it, all is searched.
        """
        known = {track.number for track in self._tracks}
        looks = [
            [index, track.look.state()] for index, track in enumerate(self._tracks) if track.look
        ]
        return {
            "version": _STATE_VERSION,
            "t": self._t,
            "next": self._next_number,
            "tracks": [
                [getattr(track, name) for name in _Track.__slots__[:-1]] for track in self._tracks
            ],
            "scores": {
                str(number): [t, scores]
                for number, (t, scores) in self._smoothed.items()
                if number in known
            },
            GLIMPSES: {"lookout": self._lookout.state(), "looks": looks},
        }

    def follow(self, detector: FaceDetector, image_bgr: ImageBGR, t: float) -> list[Tracked]:
        """Find the faces in the picture taken at `t`, and say whose they are.

        The order is that of the detector, the surest first.
        """
        faces, colours = self.find(detector, image_bgr, t)
        return self.update(faces, t, colours)

    def find(
        self, detector: FaceDetector, image_bgr: ImageBGR, t: float
    ) -> tuple[list[Detection], list[Colours]]:
        """Return all faces in the picture taken at `t` with their colours, as `update` takes them.

        Besides the detector's those that are where a known face should be, when asked again.
        """
        followed = self._followed(detector, image_bgr, t) if self._lookout.every_s else None
        faces, known = followed or (detector.detect(image_bgr, self._expected(t)), {})
        faces += self._look_again(detector, image_bgr, faces, t)
        return faces, [
            known.get(face.box_xywh) or colours_of(image_bgr, face.box_xywh) for face in faces
        ]

    def update(
        self, faces: Sequence[Detection], t: float, colours: Sequence[Colours] = ()
    ) -> list[Tracked]:
        """Say whose the faces are that were found in the picture taken at `t`.

        `colours` are those of each face (`colours_of`); without them place and size decide.
        """
        self._forget(t)
        colours = colours or [(None,) * len(_PARTS)] * len(faces)
        looks = list(zip(faces, colours, strict=True))
        costs = [[_cost(track, t, face, look) for face, look in looks] for track in self._tracks]
        owners = {
            column: self._tracks[row]
            for row, column in _cheapest_pairs(costs)
            if costs[row][column] < _IMPOSSIBLE
        }
        gone = self._gone_at_a_cut(list(owners.values()), t)
        if gone:
            strangers = [i for i in range(len(faces)) if i not in owners or not owners[i].number]
            owners |= self._after_cut(gone, faces, colours, strangers)
        shown = []
        for index, (face, look) in enumerate(looks):
            crowded = len(faces) > 1 and any(
                _overlap(_surroundings(face.box_xywh), _surroundings(other.box_xywh)) > 0
                for other in faces
                if other is not face
            )
            owner = owners.get(index)
            if owner is None:
                if len(self._tracks) >= _MAX_TRACKS or face.score <= _UNSURE:
                    continue
                owner = _Track.start(t, face.box_xywh, look)
                self._tracks.append(owner)
            else:
                owner.see(t, face, look, crowded=crowded)
            if owner.number == 0:
                strength = max(0.0, (face.score - _UNSURE) / (_SURE - _UNSURE)) ** 2
                owner.evidence = round(owner.evidence + strength, 3)
                if owner.evidence < 1:
                    continue
                owner.number = self._next_number
                self._next_number += 1
            shown.append(Tracked(owner.number, face))
        return shown

    def smooth(self, track: int, scores: Sequence[float], t: float) -> list[float]:
        """Return the track's scores at `t`, smoothed over its past; they sum to 1 as given ones do.

        Call once a frame, in order of time.
        """
        before = self._smoothed.get(track)
        if before is None or not 0 <= t - before[0] <= SMOOTHING_GAP_S or self._smoothing_s == 0:
            smoothed = scores
        else:
            weight = 1 - math.exp(-(t - before[0]) / self._smoothing_s)
            smoothed = [
                last + weight * (now - last) for last, now in zip(before[1], scores, strict=True)
            ]
        # As rounded as in the state, so that a worker who takes over continues exactly.
        kept = [round(score, 4) for score in smoothed]
        self._smoothed[track] = (round(t, 3), kept)
        total = sum(kept)
        return [score / total for score in kept]

    def _gone_at_a_cut(self, found: Sequence[_Track], t: float) -> list[_Track]:
        """The people who went at a cut, if there was one; somebody may happen to be in his place.

        That is so where everybody who was shown a moment ago is gone at once, or several are and
        hardly anybody is left.
        """
        shown = [
            track for track in self._tracks if track.number and t - track.seen_at <= _CUT_WITHIN_S
        ]
        here = {0} | {track.number for track in found}
        gone = sum(track.number not in here for track in shown)
        nobody = here == {0} and gone > 0
        if nobody or (gone > 1 and 2 * gone > len(shown)):
            return [track for track in self._tracks if track.number not in here]
        return []

    def _after_cut(
        self,
        tracks: Sequence[_Track],
        faces: Sequence[Detection],
        colours: Sequence[Colours],
        strangers: Sequence[int],
    ) -> dict[int, _Track]:
        """Find people again among the strangers, by their colours alone, wherever they are now."""
        costs = [[_IMPOSSIBLE] * len(strangers) for _ in tracks]
        for row, track in enumerate(tracks):
            for column, index in enumerate(strangers):
                apart = _apart(track.colours, colours[index])
                face_size = math.sqrt(faces[index].box_xywh[2] * faces[index].box_xywh[3])
                growth = abs(math.log(face_size / math.sqrt(track.width * track.height)))
                if apart is not None and apart <= _SAME_COLOURS and growth <= _CUT_GROWTH:
                    costs[row][column] = apart
        again = {}
        for row, column in _cheapest_pairs(costs):
            if costs[row][column] < _IMPOSSIBLE:
                index = strangers[column]
                tracks[row].jump(faces[index].box_xywh)
                again[index] = tracks[row]
        return again

    def _forget(self, t: float) -> None:
        if t < self._t:
            self._tracks.clear()
        self._t = round(t, 3)
        self._tracks = [
            track
            for track in self._tracks
            if t - track.seen_at <= (FORGET_S if track.number else _FORGET_UNCONFIRMED_S)
        ]

    def _expected(self, t: float) -> list[BoxXYWH]:
        """Where the faces shown in the last frame should be now, if every picture is searched.

        Seldom searches are to be afresh: they are what ends the following of something else.
        """
        if self._lookout.every_s or t < self._t:
            return []
        return [
            track.predicted(t)
            for track in self._tracks
            if track.number and track.seen_at == self._t
        ]

    def _followed(
        self, detector: FaceDetector, image_bgr: ImageBGR, t: float
    ) -> tuple[list[Detection], dict[BoxXYWH, Colours]] | None:
        """Find the faces of the last frame where they should be now; None: search the picture.

        With the colours of those that have not changed, by their boxes.
        """
        height, width = image_bgr.shape[:2]
        glimpse = glimpse_of(image_bgr)
        tracks = [track for track in self._tracks if track.seen_at == self._t]
        places = [track.predicted(t) for track in tracks]
        known = [(x / width, y / height, w / width, h / height) for x, y, w, h in places]
        restless = any(track.is_restless(t, self._t) for track in self._tracks)
        due = self._lookout.due(glimpse, t, known, restless=restless) if t >= self._t else AFRESH
        if due is None or not due.afresh:
            still, found = self._still(detector, image_bgr, t, tracks, places)
            faces = _apart_from([], found)
            if len(faces) == len(places):
                if due is not None:
                    new = detector.search_beside(image_bgr, faces, due.area_xywh)
                    faces += _apart_from(faces, new)
                    self._lookout.searched(due, glimpse, t)
                return sorted(faces, key=lambda face: -face.score), still
        self._lookout.searched(AFRESH, glimpse, t)
        return None

    def _still(
        self,
        detector: FaceDetector,
        image_bgr: ImageBGR,
        t: float,
        tracks: Sequence[_Track],
        places: Sequence[BoxXYWH],
    ) -> tuple[dict[BoxXYWH, Colours], list[Detection | None]]:
        """Say what is at each track's place, and the colours of what is as it was."""
        still: dict[BoxXYWH, Colours] = {}
        found: list[Detection | None] = []
        for track, place in zip(tracks, places, strict=True):
            face = track.look.still(image_bgr, place, t) if track.look else None
            if face is not None:
                still[face.box_xywh] = track.colours
            found.append(face)
        moved = [index for index, face in enumerate(found) if face is None]
        looked = detector.follow(image_bgr, [places[index] for index in moved])
        for index, face in zip(moved, looked, strict=True):
            found[index] = face
            sure = face is not None and tracks[index].number
            tracks[index].look = Look.at(image_bgr, face, t) if face and sure else None
        return still, found

    def _look_again(
        self, detector: FaceDetector, image_bgr: ImageBGR, faces: Sequence[Detection], t: float
    ) -> list[Detection]:
        """Ask the detector about shown faces that it did not find where they should be."""
        height, width = image_bgr.shape[:2]
        places = []
        for track in sorted(self._tracks, key=lambda track: -track.seen_at):
            if track.number and 0 <= t - track.seen_at <= _SECOND_LOOK_S:
                place = track.predicted(t)
                in_picture = _overlap(place, (0, 0, width, height)) > 0
                if in_picture and all(_overlap(place, face.box_xywh) < 0.3 for face in faces):
                    places.append(place)
        return _apart_from(faces, detector.verify(image_bgr, places[:_SECOND_LOOKS]))


def _apart_from(known: Sequence[Detection], faces: Sequence[Detection | None]) -> list[Detection]:
    """The faces that are there, and are neither one of those known nor one that came before."""
    found: list[Detection] = []
    for face in faces:
        if face and all(
            _overlap(face.box_xywh, other.box_xywh) < 0.3 for other in [*known, *found]
        ):
            found.append(face)
    return found


def colours_of(image_bgr: ImageBGR, box_xywh: BoxXYWH) -> Colours:
    """Return the mean colours of hair, face, collar and chest of the person with that face."""
    x, y, width, height = box_xywh
    picture_height, picture_width = image_bgr.shape[:2]
    colours: list[tuple[int, int, int, int] | None] = []
    for left, right, top, bottom in _PARTS:
        x0, x1 = (min(max(int(x + part * width), 0), picture_width) for part in (left, right))
        y0, y1 = (min(max(int(y + part * height), 0), picture_height) for part in (top, bottom))
        in_view = (x1 - x0) * (y1 - y0) / ((right - left) * width * (bottom - top) * height)
        if in_view < 0.5 or x1 - x0 < 2 or y1 - y0 < 2:
            colours.append(None)
            continue
        # 16 x 16 samples tell the mean of a large part as well as all of its pixels.
        region = image_bgr[y0 : y1 : (y1 - y0) // 16 + 1, x0 : x1 : (x1 - x0) // 16 + 1]
        samples = cv2.transform(np.ascontiguousarray(region), _AND_BRIGHTNESS)
        means, deviations = cv2.meanStdDev(samples)
        blue, green, red = means[:3, 0].tolist()
        brightness = (blue + green + red) / 3
        contrast = float(deviations[3, 0])
        values = (brightness, red - green, (red + green) / 2 - blue, contrast)
        colours.append(tuple(round(value) for value in values))  # type: ignore[arg-type]
    return tuple(colours)


def _apart(a: Colours, b: Colours) -> float | None:
    """Return how far two people's colours lie apart; None where no part is in view of both.

    The part that differs most is left out if there are three or more: a hand or another person may
    be before it. Brightness and contrast count half, because light changes them.
    """
    distances = sorted(
        math.sqrt(
            (one[0] - two[0]) ** 2 / 2
            + (one[1] - two[1]) ** 2
            + (one[2] - two[2]) ** 2
            + (one[3] - two[3]) ** 2 / 2
        )
        for one, two in zip(a, b, strict=True)
        if one is not None and two is not None
    )
    if len(distances) > 2:
        distances.pop()
    return sum(distances) / len(distances) if distances else None


def _blend(old: Colours, new: Colours) -> Colours:
    """Move a tenth of the way, at least one step; parts out of view stay as they were."""
    return tuple(
        was
        if now is None or now == was
        else now
        if was is None
        else tuple(
            a + ((b - a + 9) // 10 if b > a else -((a - b + 9) // 10))
            for a, b in zip(was, now, strict=True)
        )  # type: ignore[misc]
        for was, now in zip(old, new, strict=True)
    )


def _cost(track: _Track, t: float, face: Detection, colours: Colours) -> float:
    """Return what it costs to take the face for the track's; `_IMPOSSIBLE` where it cannot be.

    Distances are in face sizes. A face may move two sizes a second away from where it was
    predicted; the longer it was hidden, the more its colours must be the same.
    """
    x, y, width, height = track.predicted(t)
    face_x, face_y, face_width, face_height = face.box_xywh
    size = math.sqrt(width * height)
    face_size = math.sqrt(face_width * face_height)
    away = math.hypot(
        face_x + face_width / 2 - x - width / 2, face_y + face_height / 2 - y - height / 2
    ) / max(size, face_size)
    growth = abs(math.log(face_size / size))
    hidden_s = max(t - track.seen_at, 0.0)
    if away > min(0.6 + 2 * hidden_s, 4) or growth > min(0.4 + 0.4 * hidden_s, 0.9):
        return _IMPOSSIBLE
    apart = _apart(track.colours, colours)
    if apart is None:
        return away + growth
    if hidden_s > 0.3 and apart > _COLOURS_APART:
        return _IMPOSSIBLE
    return away + growth + apart / _COLOURS_APART


def _cheapest_pairs(costs: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Return pairs (row, column), as many as there can be, so that their costs sum to the least."""
    rows, columns = len(costs), len(costs[0]) if costs else 0
    if rows <= 1 and columns <= 1:
        return [(0, 0)] * (rows * columns)
    if rows > columns:
        return [(row, column) for column, row in _assigned(np.array(costs).T)]
    return _assigned(np.array(costs).reshape(rows, columns))


def _assigned(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The same for no more rows than columns.

    The assignment problem by shortest augmenting paths (Jonker and Volgenant 1987): rows come in
    one by one, each along the cheapest chain of changes. Row and column 0 stand for "nobody".
    """
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.zeros(columns + 1, int)
    for row in range(1, rows + 1):
        owner[0] = row
        column = 0
        least = np.full(columns + 1, np.inf)
        came_from = np.zeros(columns + 1, int)
        done = np.zeros(columns + 1, bool)
        while owner[column]:
            done[column] = True
            reduced = np.full(columns + 1, np.inf)
            reduced[1:] = costs[owner[column] - 1] - row_price[owner[column]] - column_price[1:]
            shorter = ~done & (reduced < least)
            least[shorter] = reduced[shorter]
            came_from[shorter] = column
            column = int(np.argmin(np.where(done, np.inf, least)))
            step = least[column]
            row_price[owner[done]] += step
            column_price[done] -= step
            least[~done] -= step
        while column:
            owner[column] = owner[came_from[column]]
            column = int(came_from[column])
    return [
        (int(owner[column]) - 1, column - 1) for column in range(1, columns + 1) if owner[column]
    ]


def _overlap(a: BoxXYWH, b: BoxXYWH) -> float:
    """Intersection over the smaller box."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / min(a[2] * a[3], b[2] * b[3])


def _surroundings(box_xywh: BoxXYWH) -> BoxXYWH:
    """The region that `colours_of` looks at."""
    x, y, width, height = box_xywh
    return (x - 0.1 * width, y - 0.3 * height, 1.2 * width, 2.9 * height)
