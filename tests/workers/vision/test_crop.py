"""The crop frames a face as FER2013 does, wherever and however large it is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from workers.vision.crop import crop_face, framing
from workers.vision.detector import Detection, ImageBGR, MtcnnDetector

# Eyes, nose and mouth corners of a face framed as the median FER2013 picture, for a side of 1, and
# then as the crop frames it, 0.94 of that.
MEDIAN = ((0.315, 0.387), (0.685, 0.387), (0.5, 0.6), (0.347, 0.783), (0.653, 0.783))
EYES_AND_MOUTH = tuple(((x - 0.5) / 0.94 + 0.5, (y - 0.5) / 0.94 + 0.5) for x, y in MEDIAN)
SIDE = 100.0


def fer_like(x: float = 50, y: float = 40, *, landmarks: bool = True) -> Detection:
    """A face that fills the square of 100 pixels at x, y as FER2013's faces fill their picture."""
    height = SIDE / 0.95 / 0.94
    box = (x + SIDE / 2 - 40, y + SIDE / 2 - height / 2, 80.0, height)
    points = tuple((x + SIDE * px, y + SIDE * py) for px, py in EYES_AND_MOUTH)
    return Detection(box, 1.0, points if landmarks else ())


def ramp(height: int = 200, width: int = 240) -> ImageBGR:
    """A picture whose blue is the column and whose green is the row of each pixel."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([columns, rows, np.zeros_like(rows)])


@pytest.mark.parametrize("landmarks", [True, False], ids=["with landmarks", "box alone"])
def test_the_crop_is_fer2013s_square(landmarks: bool) -> None:
    crop = crop_face(ramp(), fer_like(landmarks=landmarks), (100, 100)).astype(int)
    assert np.abs(crop[0, 0, :2] - (50, 40)).max() <= 2
    assert np.abs(crop[-1, -1, :2] - (149, 139)).max() <= 2


def test_eyes_and_mouth_of_a_real_face_come_to_lie_where_fer2013_has_them(
    portrait: ImageBGR, mtcnn: MtcnnDetector
) -> None:
    (face,) = mtcnn.detect(portrait)
    centre_x, centre_y, side = framing(face)
    points = np.array(face.landmarks_xy)
    placed = (points - (centre_x - side / 2, centre_y - side / 2)) / side
    # Half of FER2013's own pictures lie within 0.04 of these places.
    assert np.abs(placed - EYES_AND_MOUTH).max() < 0.09


@pytest.mark.parametrize("size_hw", [(48, 48), (80, 80), (96, 96), (224, 224)])
def test_the_same_face_at_any_scale_gives_the_same_crop(
    portrait: ImageBGR, mtcnn: MtcnnDetector, size_hw: tuple[int, int]
) -> None:
    double = np.asarray(cv2.resize(portrait, (1024, 1024), interpolation=cv2.INTER_CUBIC))
    (face,) = mtcnn.detect(portrait)
    twice = Detection(
        tuple(2 * v for v in face.box_xywh),  # type: ignore[arg-type]
        face.score,
        tuple((2 * x + 0.0, 2 * y + 0.0) for x, y in face.landmarks_xy),
    )
    small = crop_face(portrait, face, size_hw)
    large = crop_face(double.astype(np.uint8), twice, size_hw)
    assert small.shape == large.shape == (*size_hw, 3)
    assert np.abs(small.astype(int) - large).mean() < 4


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.5, 4.0])
@pytest.mark.parametrize("shift", [0, 60, -170, -2000])
def test_grey_is_the_same_crop_but_for_rounding(
    portrait: ImageBGR, mtcnn: MtcnnDetector, scale: float, shift: int
) -> None:
    picture = np.asarray(cv2.resize(portrait, None, fx=scale, fy=scale), np.uint8)
    (face,) = mtcnn.detect(portrait)
    there = Detection(
        tuple(scale * (v + shift * (i < 2)) for i, v in enumerate(face.box_xywh)),  # type: ignore[arg-type]
        1.0,
        tuple((scale * (x + shift), scale * (y + shift)) for x, y in face.landmarks_xy),
    )
    colour = cv2.cvtColor(crop_face(picture, there, (96, 96)), cv2.COLOR_BGR2GRAY)
    grey = crop_face(picture, there, (96, 96), grey=True)
    assert grey.shape == (96, 96)
    assert np.abs(grey.astype(int) - colour).max() <= 2


def test_beyond_the_picture_its_border_is_repeated_and_nothing_is_stretched() -> None:
    picture = ramp()
    inside = crop_face(picture, fer_like(60, 40), (50, 50)).astype(int)
    beyond = crop_face(picture, fer_like(-40, 40), (50, 50)).astype(int)
    assert (beyond[:, :19, 0] == 0).all()
    steps = np.diff(beyond[:, 22:, 0], axis=1)
    assert np.abs(steps - np.diff(inside[:, 22:, 0], axis=1)).max() <= 1


def test_a_face_wholly_outside_gives_a_crop_of_the_border() -> None:
    assert crop_face(ramp(), fer_like(-900, -900), (20, 20)).max() == 0


def test_a_size_that_is_not_square_shows_more_and_stretches_nothing() -> None:
    wide = crop_face(ramp(), fer_like(), (50, 100)).astype(int)
    assert wide.shape == (50, 100, 3)
    assert np.diff(wide[20, :, 0]).mean() == pytest.approx(2, abs=0.1)
    assert np.diff(wide[:, 20, 1]).mean() == pytest.approx(2, abs=0.1)


def test_shrinking_averages_what_is_thinner_than_a_pixel() -> None:
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    face = Detection((200, 200, 340, 421), 1.0)
    crop = crop_face(stripes, face, (48, 48))
    assert np.abs(crop.astype(int) - 127).max() < 30


def test_a_mouth_that_opens_moves_the_frame_less_than_the_landmarks_alone() -> None:
    shut = fer_like()
    opened = Detection(
        shut.box_xywh,
        1.0,
        (*shut.landmarks_xy[:3], *((x, y + 12) for x, y in shut.landmarks_xy[3:])),
    )
    growth = framing(opened)[2] / framing(shut)[2]
    assert 1 < growth < 1.09
