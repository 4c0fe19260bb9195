"""JPEG pictures for the bus: made from what was decoded, or passed on as they came.

A decoder gives a picture in planes of luma and colour, and JPEG stores just such planes: so the
planes go to the encoder as they are, and neither is the picture made BGR on the way nor its colour
halved a second time. What differs is put right first: JPEG (JFIF 1.02) has values from 0 to 255
where most video has 16 to 235 or 240, and its colours are those of BT.601. Frames of other colours,
other forms or that lie on their side go through BGR.

A JPEG that fits is passed on; where a camera left out the tables that all Motion JPEG has in
common, they are put in.

Promises: pictures are upright, of even sizes, no wider than asked for and never scaled up; their
colours are those that the frame says, to a level or two.

Not here: where frames come from, and which are kept (`workers.sources`).
"""

from __future__ import annotations

import struct
from typing import TypeAlias, cast

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray
from simplejpeg import encode_jpeg_yuv_planes

from shared.errors import SourceError

ImageBGR = NDArray[np.uint8]  # (height, width, 3)
_Plane: TypeAlias = NDArray[np.uint8]  # (height, width)

_PLANES_OF_JPEG = frozenset(("yuv420p", "yuvj420p"))
_SCALED_TO_THEM = _PLANES_OF_JPEG | frozenset(("yuv422p", "yuvj422p"))
# FFmpeg's numbers (AVColorSpace): not said, which it takes for BT.601; BT.601 of 625 and 525 lines.
_BT601 = frozenset((2, 5, 6))
# BT.601, 2.5.3: luma has 219 steps from 16 on, colours 224 around 128; in JFIF both have 255.
_LUMA_GAIN, _COLOUR_GAIN = 255 / 219, 255 / 224


class Encoder:
    """Makes JPEG pictures of one quality; keeps its scaler and its memory for the next."""

    def __init__(self, quality: int) -> None:
        self._quality = quality
        self._reformatter = VideoReformatter()
        self._stretched: list[_Plane] = []

    def from_image(self, image_bgr: ImageBGR, max_width: int) -> bytes:
        height, width = image_bgr.shape[:2]
        size_wh = fitted_wh(width, height, max_width)
        if size_wh != (width, height):
            resized = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
            image_bgr = cast("ImageBGR", resized)
        done, jpeg = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not done:
            raise SourceError(f"A picture of shape {image_bgr.shape} could not be made a JPEG.")
        return jpeg.tobytes()

    def from_frame(self, frame: av.VideoFrame, max_width: int) -> bytes:
        """Encode a decoded frame, upright: scaled and turned as its stream says."""
        quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise, as numpy counts
        width, height = frame.width, frame.height
        if quarter_turns % 2:
            height, width = fitted_wh(height, width, max_width)
        else:
            width, height = fitted_wh(width, height, max_width)
        if (
            not quarter_turns
            and frame.format.name in _SCALED_TO_THEM
            and frame.colorspace in _BT601
        ):
            planes = self._planes(frame, (width, height))
            return bytes(encode_jpeg_yuv_planes(*planes, quality=self._quality))
        scaled = self._reformatter.reformat(
            frame, width=width, height=height, format="bgr24", interpolation="AREA", threads=1
        )
        image_bgr = cast("ImageBGR", scaled.to_ndarray())
        if quarter_turns:
            image_bgr = np.ascontiguousarray(np.rot90(image_bgr, quarter_turns))
        return self.from_image(image_bgr, max_width)

    def from_jpeg(self, jpeg: bytes, max_width: int) -> bytes | None:
        """Pass on a JPEG that fits, make another of it where not; None if it cannot be read."""
        passed = passed_on(jpeg, max_width)
        if passed is not None:
            return passed
        image_bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        return None if image_bgr is None else self.from_image(np.asarray(image_bgr), max_width)

    def _planes(self, frame: av.VideoFrame, size_wh: tuple[int, int]) -> list[_Plane]:
        """Luma and the two colours of half the size, as JPEG has them; good until the next call."""
        if (frame.width, frame.height) != size_wh or frame.format.name not in _PLANES_OF_JPEG:
            return _views(
                self._reformatter.reformat(
                    frame,
                    width=size_wh[0],
                    height=size_wh[1],
                    format="yuvj420p",
                    interpolation="AREA",
                    threads=1,
                )
            )
        planes = _views(frame)
        if frame.format.name == "yuvj420p" or frame.color_range == ColorRange.JPEG:
            return planes
        if [plane.shape for plane in planes] != [plane.shape for plane in self._stretched]:
            self._stretched = [np.empty(plane.shape, np.uint8) for plane in planes]
        for number, (plane, stretched) in enumerate(zip(planes, self._stretched, strict=True)):
            gain = _COLOUR_GAIN if number else _LUMA_GAIN
            offset = 128 - 128 * gain if number else -16 * gain
            cv2.addWeighted(plane, gain, plane, 0.0, offset, stretched)  # rounds; stays in 0 to 255
        return self._stretched


def fitted_wh(width: int, height: int, max_width: int) -> tuple[int, int]:
    """The size to scale to: even, no wider than `max_width`, never larger than it was."""
    scale = min(1.0, max_width / width)
    return (
        max(2, int(width * scale) // 2 * 2),
        max(2, min(height, round(height * scale)) // 2 * 2),
    )


def passed_on(jpeg: bytes, max_width: int) -> bytes | None:
    """A whole, plain JPEG of fitting size that can go as it is; None if it must be made anew.

    Motion JPEG may leave out its Huffman tables (ITU T.81, annex K.3), which not every reader of
    single pictures knows: these are put in.
    """
    size_wh, tables_at = _headers(jpeg)
    if size_wh is None or size_wh[0] > max_width or len(jpeg) > size_wh[0] * size_wh[1]:
        return None
    return jpeg if tables_at is None else jpeg[:tables_at] + _USUAL_TABLES + jpeg[tables_at:]


def jpeg_size_wh(jpeg: bytes) -> tuple[int, int] | None:
    """The size in a JPEG's own header; None if it is cut off or leans on tables that it lacks."""
    found, tables_at = _headers(jpeg)
    return found if tables_at is None else None


def _headers(jpeg: bytes) -> tuple[tuple[int, int] | None, int | None]:
    """The size of a JPEG, None if it is none or cut off; where tables are to go if it has none."""
    if jpeg[:2] != b"\xff\xd8" or b"\xff\xd9" not in jpeg[-64:]:
        return None, None
    found, tables, at = None, False, 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:  # start of scan: the headers end here
            return found, None if tables else at
        if marker == 0xC4:
            tables = True
        elif marker in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", jpeg[at + 5 : at + 9])
            found = (width, height) if width and height else None
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return None, None


def _tables_of(jpeg: bytes) -> bytes:
    """The Huffman tables in a JPEG, with their headers."""
    tables, at = b"", 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xC4:
            tables += jpeg[at:end]
        at = end
    return tables


def _views(frame: av.VideoFrame) -> list[_Plane]:
    """The planes of a frame, in its own memory."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height, : plane.width
        ]
        for plane in frame.planes
    ]


# What the encoder takes where it is not told to count: those of annex K.3.
_GREY = np.zeros((16, 16), np.uint8)
_USUAL_TABLES = _tables_of(encode_jpeg_yuv_planes(_GREY, _GREY[:8, :8], _GREY[:8, :8]))
