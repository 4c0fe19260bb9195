"""Frames of known colours, as decoders give them, and what the standards say that they show."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from workers.jpeg import ImageBGR

Planes = list[NDArray[np.float64]]  # luma and two colours in levels of 8 bits, (height, width) each

LIMITED, FULL = 1, 2  # FFmpeg's AVColorRange
UNSAID, BT709, BT470BG, SMPTE170M = 2, 1, 5, 6  # FFmpeg's AVColorSpace
# Of red and blue in luma: ITU-R BT.601, 2.5.1, and BT.709, 3.2.
WEIGHTS = {UNSAID: (0.299, 0.114), BT470BG: (0.299, 0.114), SMPTE170M: (0.299, 0.114)} | {
    BT709: (0.2126, 0.0722)
}

# Pixel formats, and of how many pixels across and down each colour is.
FORMS = {"yuv420p": (2, 2), "yuvj420p": (2, 2), "yuv422p": (2, 1), "yuvj422p": (2, 1)}
FORMS |= {"yuv444p": (1, 1), "nv12": (2, 2), "yuv420p10le": (2, 2)}


def bars(width: int, height: int) -> ImageBGR:
    """Colours that fill upright bars, a few of them as strong as can be."""
    colours_bgr = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255)]
    colours_bgr += [(128, 128, 128), (120, 160, 210), (60, 90, 130), (200, 40, 90)]
    image_bgr = np.zeros((height, width, 3), np.uint8)
    for number, (left, right) in enumerate(_columns(width)):
        image_bgr[:, left:right] = colours_bgr[number]
    return image_bgr


def _columns(width: int) -> list[tuple[int, int]]:
    step = width // 10
    return [(bar * step, width if bar == 9 else (bar + 1) * step) for bar in range(10)]


def seen(image_bgr: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The colour in the middle of each bar."""
    height, width = image_bgr.shape[:2]
    middles = [(left + right) // 2 for left, right in _columns(width)]
    return np.array(
        [image_bgr[height // 4 : -height // 4, x - 2 : x + 3].mean((0, 1)) for x in middles]
    )


def to_planes(image_bgr: ImageBGR, colorspace: int, color_range: int) -> Planes:
    red_weight, blue_weight = WEIGHTS[colorspace]
    blue, green, red = np.moveaxis(image_bgr.astype(float), 2, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    colours = [(blue - luma) / 2 / (1 - blue_weight), (red - luma) / 2 / (1 - red_weight)]
    if color_range == LIMITED:
        return [16 + luma * 219 / 255, *(128 + colour * 224 / 255 for colour in colours)]
    return [luma, *(128 + colour for colour in colours)]


def to_bgr(planes: Planes, colorspace: int, color_range: int) -> NDArray[np.float64]:
    """The same backwards; colours of half the size are spread over the pixels they stand for."""
    red_weight, blue_weight = WEIGHTS[colorspace]
    luma = planes[0]
    blue, red = (
        colour.repeat(2, 0).repeat(2, 1)[: luma.shape[0], : luma.shape[1]] - 128
        for colour in planes[1:]
    )
    if color_range == LIMITED:
        luma, blue, red = (luma - 16) * 255 / 219, blue * 255 / 224, red * 255 / 224
    blue, red = luma + 2 * (1 - blue_weight) * blue, luma + 2 * (1 - red_weight) * red
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return np.clip(np.stack([blue, green, red], 2), 0, 255)


def frame_of(image_bgr: ImageBGR, form: str, colorspace: int, color_range: int) -> av.VideoFrame:
    """A frame as a decoder gives it, with these pixels in it."""
    planes = to_planes(image_bgr, colorspace, color_range)
    across, down = FORMS[form]
    planes = [planes[0], *(plane[::down, ::across] for plane in planes[1:])]
    finer, depth = (4, np.uint16) if form.endswith("10le") else (1, np.uint8)
    levels = [np.clip(np.rint(plane * finer), 0, 256 * finer - 1) for plane in planes]
    if form == "nv12":
        levels = [levels[0], np.stack(levels[1:], 2).reshape(levels[1].shape[0], -1)]
    frame = av.VideoFrame(image_bgr.shape[1], image_bgr.shape[0], form)
    for plane, level in zip(frame.planes, levels, strict=True):
        rows = np.zeros((level.shape[0], plane.line_size // np.dtype(depth).itemsize), depth)
        rows[:, : level.shape[1]] = level
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame
