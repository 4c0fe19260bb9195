"""Cut the face out of a picture in the framing that the classifier was trained on.

Serving, the evaluation on photographs and the demo all use this one function, so that the
classifier meets the same framing everywhere.

The framing is FER2013's, and it was measured: on 1,972 of 2,500 FER2013 pictures, enlarged and put
in a wider border, MtcnnDetector finds (medians) the middle between eyes and mouth at 0.50, 0.585 of
the picture's width and height; the distance of the eyes and the distance from the eyes to the mouth
make a right triangle with a longest side of 0.544 pictures (half of them within 0.05 of it); and
the picture's side is 0.95 of the box's longer side, around the box's middle, (0.50, 0.50).
The crop is 0.94 of that, because the pictures in which no face was found are the tightest ones. On
596 labelled photographs sides of 0.85 to 0.95 of the median gave the classifier the best
likelihood (mean negative logarithm 1.54 to 1.56, against 1.57 at 1 and 1.62 at 1.05), and box and
landmarks together a better one (1.57) than the box (1.63) or the landmarks (1.62) alone.
"""

from math import ceil, hypot

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.vision.classifier import ModelCard
from workers.vision.detector import Detection, ImageBGR

Crop = NDArray[np.uint8]
"""A face as the classifier takes it: (height, width, 3) in BGR, or (height, width) in grey."""

# FER2013's framing, as measured above.
_TIGHTER = 0.94
_SIDE_OF_BOX = 0.95 * _TIGHTER
_SIDE_OF_DIAGONAL = _TIGHTER / 0.544
_MIDDLE_BELOW_CENTRE = (0.585 - 0.5) / _TIGHTER


def crop_for(card: ModelCard, image_bgr: ImageBGR, face: Detection) -> Crop:
    """Return the face as the model of that card takes it."""
    return crop_face(image_bgr, face, card.input_size_hw, grey=card.colour == "grey")


def crop_face(
    image_bgr: ImageBGR, face: Detection, size_hw: tuple[int, int], *, grey: bool = False
) -> Crop:
    """Return the face, framed as in FER2013, as a picture (H, W, 3), or `grey` (H, W).

    Grey is what it would be in colour and then turned grey, but for rounding, in half the time.

    The region is centred by eyes and mouth, half as shaky from frame to frame as the box's middle;
    its side is the mean of what the box and the landmarks say, because the box holds still when the
    mouth opens, and the landmarks hold where the picture's edge cuts the box. Without landmarks the
    box decides. Where the region leaves the picture, the picture's border is repeated. Nothing is
    stretched: a `size_hw` that is not square shows more along its longer side.
    """
    centre_x, centre_y, side = framing(face)
    height, width = size_hw
    step = side / min(height, width)  # pixels of the picture to one of the crop
    samples = min(max(ceil(step), 1), 2)
    picture = image_bgr
    if grey or step > 2:
        left, top, region = _region(image_bgr, centre_x, centre_y, width * step, height * step)
        if region.size:
            picture, centre_x, centre_y = region, centre_x - left, centre_y - top
        if grey:
            picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        if region.size and step > 2:
            half_wh = (picture.shape[1] // 2, picture.shape[0] // 2)
            half = cv2.resize(picture, half_wh, interpolation=cv2.INTER_AREA)
            picture = np.asarray(half, np.uint8)
            centre_x, centre_y, step = centre_x / 2, centre_y / 2, step / 2
            samples = min(ceil(step / 2), 8)
    # Several samples a pixel, so that what is thinner than a pixel of the crop leaves grey and not
    # a pattern. Samples of halved pixels may lie two of them apart, because each is a mean of four:
    # from the exact mean of all pixels that differs by less than a level, and a face of 300 pixels
    # takes a tenth of the time.
    step /= samples
    fine_hw = (height * samples, width * samples)
    picture_from_crop = np.array(
        [
            [step, 0, centre_x - (fine_hw[1] - 1) / 2 * step - 0.5],
            [0, step, centre_y - (fine_hw[0] - 1) / 2 * step - 0.5],
        ]
    )
    crop = cv2.warpAffine(
        picture,
        picture_from_crop,
        fine_hw[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if samples > 1:
        crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _region(
    image_bgr: ImageBGR, centre_x: float, centre_y: float, width: float, height: float
) -> tuple[int, int, ImageBGR]:
    """Return what lies there in the picture, of even sides, with its left and top.

    There is a margin for what interpolation looks at; nothing where it is beyond the picture.
    """
    spans = []
    for centre, length, end in zip(
        (centre_x, centre_y), (width, height), image_bgr.shape[1::-1], strict=True
    ):
        start = max(int(centre - length / 2) - 4, 0)
        stop = max(min(int(centre + length / 2) + 5, end), start)
        spans.append(slice(start, stop - (stop - start) % 2))
    columns, rows = spans
    return columns.start, rows.start, image_bgr[rows, columns]


def framing(face: Detection) -> tuple[float, float, float]:
    """Return the centre x, y and the side, in pixels, of the square that frames the face."""
    x, y, width, height = face.box_xywh
    side_of_box = _SIDE_OF_BOX * max(width, height)
    if not face.landmarks_xy:
        return x + width / 2, y + height / 2, side_of_box
    (ax, ay), (bx, by), _, (cx, cy), (dx, dy) = face.landmarks_xy
    eyes_x, eyes_y, mouth_x, mouth_y = (ax + bx) / 2, (ay + by) / 2, (cx + dx) / 2, (cy + dy) / 2
    diagonal = hypot(hypot(bx - ax, by - ay), hypot(mouth_x - eyes_x, mouth_y - eyes_y))
    side = (side_of_box + _SIDE_OF_DIAGONAL * diagonal) / 2
    return (
        (eyes_x + mouth_x) / 2,
        (eyes_y + mouth_y) / 2 - _MIDDLE_BELOW_CENTRE * side,
        side,
    )
