"""Make the demo clip from a public-domain portrait: `python -m workers.demo.make_demo`.

The portrait is NASA's of Eileen Collins as scikit-image ships it (`skimage.data.astronaut`, public
domain). It sways gently before a camera, blinks, and changes its expression: neutral, happy,
surprised, sad, angry, and back, so that the end meets the beginning. The expressions are made, not
found: they show what Moodline does, and say nothing about the person.

How an expression is made: each column of the face is stretched and squeezed between a few curves
(brow, eyelids, edges of the lips, chin) that move; this can fold nothing over. The mouth is also
made narrower or wider, the folds of the smile are retouched away where there is no smile, and an
open mouth is dark inside. All measures are pixels of the portrait.

Needs scikit-image, a development dependency; playing the clip does not. The same libraries give the
same pictures. Not here: playing it (`workers.sources`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import av
import click
import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

CLIP = Path(__file__).parent / "demo.mp4"
FPS = 15
SIZE_WH = (640, 480)
DURATION_S = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expression:
    """Where the moving curves of the face are; the defaults are the portrait as it is, smiling."""

    mouth_half_width: float = 21.7
    corners_y: float = 139.7
    upper_lip_y: float = 144.3  # lower edge of the upper lip, in the middle
    lower_lip_y: float = 149.8  # upper edge of the lower lip, in the middle
    upper_lip_height: float = 4.2
    lower_lip_height: float = 4.6
    jaw_drop: float = 0.0
    brow_inner_drop: float = 0.0
    brow_outer_drop: float = 0.0
    brows_together: float = 0.0
    lids_shut: float = 0.0  # 1: shut; below 0: wider open than in the portrait
    smile: float = 1.0  # how much of the folds of the smile stays

    def towards(self, other: Expression, share: float) -> Expression:
        return Expression(
            *(
                getattr(self, field.name) * (1 - share) + getattr(other, field.name) * share
                for field in fields(self)
            )
        )


HAPPY = Expression(mouth_half_width=22.6, corners_y=138.9, lids_shut=0.12)
NEUTRAL = Expression(
    mouth_half_width=17.0,
    corners_y=147.6,
    upper_lip_y=145.3,
    lower_lip_y=145.8,
    upper_lip_height=4.0,
    lower_lip_height=4.8,
    jaw_drop=-1.0,
    lids_shut=0.06,
    smile=0.0,
)
SURPRISED = Expression(
    mouth_half_width=14.2,
    corners_y=150.5,
    upper_lip_y=143.3,
    lower_lip_y=161.0,
    upper_lip_height=4.4,
    lower_lip_height=5.0,
    jaw_drop=11.0,
    brow_inner_drop=-6.5,
    brow_outer_drop=-6.0,
    lids_shut=-0.42,
    smile=0.0,
)
SAD = Expression(
    mouth_half_width=18.5,
    corners_y=150.8,
    upper_lip_y=144.6,
    lower_lip_y=145.1,
    upper_lip_height=4.0,
    lower_lip_height=5.4,
    jaw_drop=-2.5,
    brow_inner_drop=-7.0,
    brow_outer_drop=4.5,
    brows_together=4.0,
    lids_shut=0.28,
    smile=0.0,
)
ANGRY = Expression(
    mouth_half_width=15.5,
    corners_y=148.8,
    upper_lip_y=145.6,
    lower_lip_y=146.0,
    upper_lip_height=2.8,
    lower_lip_height=4.4,
    jaw_drop=-1.0,
    brow_inner_drop=7.0,
    brow_outer_drop=-1.5,
    brows_together=2.5,
    lids_shut=0.05,
    smile=0.0,
)

# When each expression is reached and how long it is held, in seconds; the changes lie between.
SCRIPT = (
    (0.0, 1.2, NEUTRAL),
    (2.2, 2.4, HAPPY),
    (5.6, 0.9, NEUTRAL),
    (7.1, 2.0, SURPRISED),
    (10.1, 0.8, NEUTRAL),
    (11.9, 2.2, SAD),
    (15.1, 0.5, NEUTRAL),
    (16.5, 1.9, ANGRY),
    (19.4, 0.6, NEUTRAL),
)
BLINKS_S = (0.6, 5.9, 10.5, 15.3, 19.7)

# The face in the portrait.
_LEFT, _TOP, _RIGHT, _BOTTOM = 165, 70, 285, 205
_FINE = 3  # working pixels to one of the portrait
_MOUTH_X = 223.8
_NOSE_Y, _NECK_BELOW_CHIN = 133.0, 16.0


def expression_at(t: float) -> Expression:
    """Return the face at `t` seconds, blinks included."""
    face = SCRIPT[-1][2]
    for (start, hold, expression), (end, _, following) in pairwise(SCRIPT):
        if start <= t < end:
            face = expression.towards(following, _ease((t - start - hold) / (end - start - hold)))
    shut = max(math.exp(-(((t - blink) / 0.085) ** 2)) for blink in BLINKS_S)
    return replace(face, lids_shut=face.lids_shut + (1 - face.lids_shut) * shut)


def _ease(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _mouth_curves(face: Expression, along: Floats) -> list[Floats]:
    """Return the y of the lips' four edges, from above; `along` runs -1..1 between the corners."""
    bow = 1 - along**2
    upper = face.corners_y + (face.upper_lip_y - face.corners_y) * bow
    lower = face.corners_y + (face.lower_lip_y - face.corners_y) * bow
    return [
        upper - face.upper_lip_height * bow - 0.2,
        upper,
        lower,
        lower + face.lower_lip_height * bow + 1.0,
    ]


def _eye_curves(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the y of brow, upper lid and lower lid in the portrait; lids meet beside the eyes."""
    left = x < 224
    brow = np.where(left, 88.8 + 0.022 * (x - 198) ** 2, 92.3 + 0.012 * (x - 250) ** 2)
    lower = np.where(left, 104.6 - 0.025 * (x - 203) ** 2, 106.6 - 0.02 * (x - 247) ** 2)
    upper = np.where(left, 96.9 + 0.05 * (x - 201.5) ** 2, 99.0 + 0.045 * (x - 248) ** 2)
    middle = np.where(left, 102.0, 104.6)
    lower = np.maximum(lower, middle)
    return np.minimum(brow, 94.5), np.minimum(upper, middle), lower


class Portrait:
    """The portrait in working pixels, with and without the folds of the smile."""

    def __init__(self) -> None:
        picture = skimage.data.astronaut()[..., ::-1]  # type: ignore[no-untyped-call]
        self.smiling = np.asarray(
            cv2.resize(picture, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_CUBIC)
        )
        self.relaxed = _without_smile(self.smiling)

    def with_expression(self, face: Expression) -> NDArray[np.uint8]:
        """Return the portrait, three times as large as it was, with that expression."""
        blend = cv2.addWeighted(self.smiling, face.smile, self.relaxed, 1 - face.smile, 0)
        source_x, source_y, inside_mouth, lip_line = _face_maps(face)
        region = cv2.remap(
            blend,
            (source_x * _FINE).astype(np.float32),
            (source_y * _FINE).astype(np.float32),
            cv2.INTER_CUBIC,
        ).astype(np.float64)
        region += (np.array([22, 14, 42]) - region) * inside_mouth[..., None]
        region += (np.array([62, 52, 110]) - region) * lip_line[..., None]
        picture = np.asarray(blend, np.uint8)
        rows = slice(_TOP * _FINE, _BOTTOM * _FINE)
        columns = slice(_LEFT * _FINE, _RIGHT * _FINE)
        picture[rows, columns] = np.clip(region, 0, 255).round()
        return picture


def _without_smile(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the portrait with flat cheeks: no folds beside the mouth, no raised bright apples.

    Light and shadow of the cheeks are filled in from the skin around them; the grain stays.
    """
    cheeks = _filled(
        picture,
        "192,113 209,114 214,122 211,131 205,136 201,139 199,147 193,147 190,131",
        "238,115 256,114 261,130 256,147 250,151 247,144 248,139 243,135 237,131 234,123",
    )
    skin = _filled(
        picture,
        "186,106 262,108 266,130 258,152 240,170 208,168 190,150",
    )
    features = _filled(
        picture,
        "212,112 237,112 240,134 210,134",  # nose
        "198,137 252,137 240,158 208,158",  # mouth
    )
    known = skin * (1 - cheeks) * (1 - features)
    spread = 8.0 * _FINE
    weight = cv2.GaussianBlur(known, (0, 0), spread)[..., None] + 1e-6
    light = cv2.GaussianBlur(picture * known[..., None], (0, 0), spread) / weight
    inside = cheeks > 0
    light *= picture[inside].mean(axis=0) / light[inside].mean(axis=0)  # as bright as before
    grain = picture - cv2.GaussianBlur(picture.astype(np.float64), (0, 0), 1.0 * _FINE)
    soft = cv2.GaussianBlur(cheeks, (0, 0), 2.2 * _FINE)[..., None]
    relaxed: Floats = picture * (1 - soft) + (light + 0.6 * grain) * soft
    return np.clip(relaxed, 0, 255).astype(np.uint8)


def _filled(picture: NDArray[np.uint8], *outlines: str) -> Floats:
    """Return 1 within any of the outlines ("x,y x,y …" in pixels of the portrait), 0 outside."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    for outline in outlines:
        corners = [[int(number) for number in corner.split(",")] for corner in outline.split()]
        cv2.fillPoly(mask, [np.array(corners, np.int32) * _FINE], (1,))
    return mask.astype(np.float64)


def _grid() -> tuple[Floats, Floats]:
    """Return x (1, W) and y (H, 1) of the face's working pixels, in pixels of the portrait."""
    x = np.arange(_LEFT * _FINE, _RIGHT * _FINE) / _FINE
    y = np.arange(_TOP * _FINE, _BOTTOM * _FINE) / _FINE
    return x[None], y[:, None]


def _face_maps(face: Expression) -> tuple[Floats, Floats, Floats, Floats]:
    """Return for each working pixel of the face where it comes from (x and y in the portrait), how
    far it lies in the dark of an open mouth, and how far on the line of closed lips.
    """
    x, y = _grid()
    as_is = Expression()

    # Sideways: the mouth's width, fading out over the cheeks; brows towards each other.
    from_middle = x - _MOUTH_X
    beyond = np.maximum(np.abs(from_middle) - face.mouth_half_width, 0)
    widening = as_is.mouth_half_width - face.mouth_half_width
    shift = widening * np.clip(from_middle / face.mouth_half_width, -1, 1) * _bell(beyond, 16)
    source_x = x + shift * _bell(np.maximum(np.abs(y - 148) - 9, 0), 11)
    together = np.clip((x - 225) / 12, -1, 1) * _bell(np.maximum(np.abs(x - 225) - 14, 0), 14)
    source_x = source_x + face.brows_together * together * _bell(
        np.maximum(np.abs(y - 92) - 4, 0), 7
    )

    # Upright: piece by piece between the curves, column by column.
    columns = x[0]
    along = np.clip((columns - _MOUTH_X) / face.mouth_half_width, -1, 1)
    fade = _bell(beyond[0], 14)
    before = _mouth_curves(as_is, along)
    after = [
        was + fade * (now - was)
        for was, now in zip(before, _mouth_curves(face, along), strict=True)
    ]
    chin = 178.5 - 0.012 * (columns - 222) ** 2
    jaw = face.jaw_drop * _bell(columns - 223, 26)
    # Teeth keep their height; what an open mouth shows below them is dark.
    teeth_end = np.minimum(after[1] + (before[2] - before[1]), after[2])
    brow, upper_lid, lower_lid = _eye_curves(columns)
    drop = np.interp(
        columns,
        [176, 190, 213, 237, 262, 276],
        [0, face.brow_outer_drop, *[face.brow_inner_drop] * 2, face.brow_outer_drop, 0],
    )
    drop = np.convolve(np.pad(drop, 18, "edge"), np.full(37, 1 / 37), "valid")
    shut = upper_lid + face.lids_shut * (lower_lid - upper_lid - 0.5)
    edge = np.full_like(columns, 1.0)
    was = [74 * edge, brow - 2, brow + 2, upper_lid, lower_lid, 116 * edge, _NOSE_Y * edge]
    now = [74 * edge, brow - 2 + drop, brow + 2 + drop, shut, lower_lid, 116 * edge, _NOSE_Y * edge]
    was += [*before[:2], before[2], before[2], before[3], chin, chin + _NECK_BELOW_CHIN]
    now += [*after[:2], teeth_end, after[2], after[3], chin + jaw, chin + _NECK_BELOW_CHIN]
    knots_after = np.maximum.accumulate(np.array(now) + np.arange(len(now))[:, None] * 1e-3, axis=0)
    knots_before = np.array(was)
    source_y = np.empty((len(y), len(columns)))
    for column in range(len(columns)):
        ends = [0.0, *knots_after[:, column], 300.0]
        starts = [0.0, *knots_before[:, column], 300.0]
        source_y[:, column] = np.interp(y[:, 0], ends, starts)

    in_mouth = (np.abs(from_middle) < face.mouth_half_width) * 1.0
    dark = _step(y - teeth_end, 0.8) * _step(after[2] - y, 0.8) * in_mouth
    closed = 1 - _step(after[2] - after[1] - 1.5, 1.0)
    line = closed * _bell(y - (after[1] + after[2]) / 2, 0.75) * (1 - along**2) ** 0.7 * in_mouth
    return source_x, source_y, dark, 0.75 * line


def _bell(distance: Floats, width: float) -> Floats:
    bell: Floats = np.exp(-((distance / width) ** 2))
    return bell


def _step(value: Floats, softness: float) -> Floats:
    step: Floats = 0.5 + 0.5 * np.tanh(value / softness)
    return step


def picture_at(portrait: Portrait, index: int) -> NDArray[np.uint8]:
    """Return picture number `index` of the clip, BGR."""
    picture = portrait.with_expression(expression_at(index / FPS))
    # The camera: slow sums of whole periods, so that the end meets the beginning. Its view stays
    # within the portrait: a mirrored edge of the flag has been taken for a face.
    turn = 2 * math.pi * index / (DURATION_S * FPS)
    zoom = 1.86 + 0.13 * math.sin(turn - 0.6) + 0.03 * math.sin(3 * turn)
    angle = 1.6 * math.sin(2 * turn) + 0.6 * math.sin(5 * turn + 1)
    x = 222 + 18 * math.sin(turn) + 4 * math.sin(3 * turn + 2)
    y = 156 + 4 * math.sin(2 * turn + 1) + 1.5 * math.sin(5 * turn)
    view = cv2.getRotationMatrix2D((x * _FINE, y * _FINE), angle, zoom / _FINE)
    view[0, 2] += SIZE_WH[0] / 2 - x * _FINE
    view[1, 2] += SIZE_WH[1] / 2 - y * _FINE
    return np.asarray(cv2.warpAffine(picture, view, SIZE_WH, flags=cv2.INTER_LINEAR), np.uint8)


@click.command(help="Make the demo clip from scikit-image's public-domain portrait.")
@click.option("--out", type=click.Path(path_type=Path), default=CLIP, show_default=True)
def main(out: Path) -> None:
    with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        # One thread, so that the same libraries write the same bytes.
        stream.options = {"crf": "23", "preset": "veryslow", "threads": "1"}
        portrait = Portrait()
        for index in range(DURATION_S * FPS):
            picture = picture_at(portrait, index)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    click.echo(f"wrote {out}, {out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
