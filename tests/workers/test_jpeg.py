"""JPEG pictures from frames of every colour, against what the standards say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.cameras import decoded, jpeg_of, number_in, numbered
from tests.workers.colours import (
    BT709,
    FORMS,
    FULL,
    LIMITED,
    UNSAID,
    WEIGHTS,
    Planes,
    bars,
    frame_of,
    seen,
    to_bgr,
)
from workers.jpeg import Encoder, fitted_wh, jpeg_size_wh, passed_on
from workers.sources import DEMO_CLIP

# Colours


@pytest.mark.parametrize("colorspace", WEIGHTS)
@pytest.mark.parametrize("max_width", [640, 320])
@pytest.mark.parametrize(
    ("form", "color_range"),  # yuvj… is full range by its name
    [(form, FULL) for form in FORMS] + [(form, LIMITED) for form in FORMS if "j" not in form],
)
def test_colours_come_out_as_the_standards_say(
    form: str, max_width: int, color_range: int, colorspace: int
) -> None:
    image_bgr = bars(640, 480)
    frame = frame_of(image_bgr, form, colorspace, color_range)
    jpeg = Encoder(95).from_frame(frame, max_width)
    assert jpeg_size_wh(jpeg) == (max_width, max_width * 3 // 4)
    assert np.abs(seen(decoded(jpeg)) - seen(image_bgr)).max() <= 4


def test_a_frame_that_does_not_say_its_range_is_of_the_limited_one() -> None:
    image_bgr = bars(640, 480)
    frame = frame_of(image_bgr, "yuv420p", UNSAID, LIMITED)
    frame.color_range = 0
    jpeg = Encoder(95).from_frame(frame, 640)
    assert np.abs(seen(decoded(jpeg)) - seen(image_bgr)).max() <= 3


@pytest.mark.parametrize("size_wh", [(639, 479), (321, 240), (320, 241), (37, 23)])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_odd_sizes_become_even_ones(size_wh: tuple[int, int], color_range: int) -> None:
    frame = frame_of(bars(*size_wh), "yuv420p", UNSAID, color_range)
    image_bgr = decoded(Encoder(95).from_frame(frame, 640))
    assert image_bgr.shape == (size_wh[1] // 2 * 2, size_wh[0] // 2 * 2, 3)
    if size_wh[0] > 100:
        assert np.abs(seen(image_bgr) - seen(bars(*size_wh))).max() <= 4


@pytest.mark.parametrize(("luma", "level"), [(0, 0), (10, 0), (240, 255), (255, 255)])
def test_levels_beyond_the_range_are_black_and_white(luma: int, level: int) -> None:
    frame = frame_of(bars(640, 480), "yuv420p", UNSAID, LIMITED)
    for plane, value in zip(frame.planes, (luma, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    assert set(decoded(Encoder(95).from_frame(frame, 640)).ravel()) == {level}


def _real_frames(path: Path, count: int) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(islice(container.decode(video=0), 0, count * 10, 10))


def _against_the_standard(frame: av.VideoFrame) -> None:
    planes: Planes = [
        np.frombuffer(memoryview(plane), np.uint8)
        .reshape(-1, plane.line_size)[: plane.height, : plane.width]
        .astype(float)
        for plane in frame.planes
    ]
    full = frame.format.name == "yuvj420p" or frame.color_range == FULL
    expected = to_bgr(planes, int(frame.colorspace), FULL if full else LIMITED)
    error = decoded(Encoder(95).from_frame(frame, frame.width)) - expected
    assert np.abs(error.mean((0, 1))).max() < (2.0 if frame.colorspace == BT709 else 0.7)
    assert np.abs(error).mean() < 3.0


def test_real_pictures_are_those_of_the_standard() -> None:
    for frame in _real_frames(DEMO_CLIP, 4):
        _against_the_standard(frame)


@pytest.mark.parametrize(
    "name", ["changing-expressions.mp4", "face-then-none.mov", "sign-book.mkv", "three-people.mp4"]
)
def test_real_clips_of_all_kinds_are_those_of_the_standard(name: str, clips: Path) -> None:
    for frame in _real_frames(clips / name, 3):
        _against_the_standard(frame)


def test_pictures_do_not_run_into_each_other() -> None:
    """The encoder keeps its memory: another picture, size and form must leave nothing behind."""
    encoder = Encoder(90)
    shown = [bars(640, 480), np.full((480, 640, 3), 200, np.uint8), bars(320, 240)]
    for color_range in (LIMITED, FULL, LIMITED):
        for image_bgr in shown:
            jpeg = encoder.from_frame(frame_of(image_bgr, "yuv420p", UNSAID, color_range), 640)
            assert np.abs(seen(decoded(jpeg)) - seen(image_bgr)).max() <= 4


def test_quality_is_as_asked_and_a_picture_costs_no_more_than_by_way_of_bgr() -> None:
    (frame,) = _real_frames(DEMO_CLIP, 1)
    sizes = [len(Encoder(quality).from_frame(frame, 640)) for quality in (50, 85, 95)]
    assert sizes == sorted(sizes)
    image_bgr = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    assert sizes[1] == pytest.approx(len(Encoder(85).from_image(image_bgr, 640)), rel=0.05)


# Sizes


@given(st.integers(2, 9000), st.integers(2, 9000), st.integers(64, 3840))
def test_pictures_are_scaled_to_even_sizes_and_never_up(
    width: int, height: int, max_width: int
) -> None:
    fitted = fitted_wh(width, height, max_width)
    assert all(side % 2 == 0 and side >= 2 for side in fitted)
    assert fitted[0] <= min(width, max_width)
    assert fitted[1] <= height


def test_the_shape_of_a_picture_is_kept() -> None:
    assert fitted_wh(1920, 1080, 640) == (640, 360)
    assert fitted_wh(480, 640, 640) == (480, 640)


# JPEGs that came as such


def without_tables(jpeg: bytes) -> bytes:
    """As Motion JPEG leaves out its Huffman tables."""
    head, scan = jpeg.split(b"\xff\xda", 1)
    parts = head.split(b"\xff\xc4")
    rest = [part[int.from_bytes(part[:2], "big") :] for part in parts[1:]]
    return parts[0] + b"".join(rest) + b"\xff\xda" + scan


def test_a_jpeg_tells_its_size() -> None:
    jpeg = jpeg_of(numbered(5, 320, 240))
    assert jpeg_size_wh(jpeg) == (320, 240)
    assert jpeg_size_wh(jpeg + b"\0" * 8) == (320, 240)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda jpeg: jpeg[: len(jpeg) // 2],
        lambda jpeg: b"\x89PNG" + jpeg,
        lambda jpeg: jpeg[:40] + b"\xff\xd9",
        lambda jpeg: b"",
    ],
)
def test_what_is_no_whole_plain_jpeg_is_not_passed_on(spoil: Callable[[bytes], bytes]) -> None:
    spoilt = spoil(jpeg_of(numbered(5)))
    assert jpeg_size_wh(spoilt) is None
    assert passed_on(spoilt, 640) is None


def test_a_jpeg_that_fits_is_passed_on_and_one_that_is_too_wide_is_not() -> None:
    jpeg = jpeg_of(numbered(5))
    assert passed_on(jpeg, 640) is jpeg
    assert passed_on(jpeg, 639) is None


def test_a_jpeg_without_its_tables_gets_the_usual_ones() -> None:
    jpeg = jpeg_of(numbered(5))
    bare = without_tables(jpeg)
    assert len(bare) < len(jpeg)
    assert jpeg_size_wh(bare) is None
    whole = passed_on(bare, 640)
    assert whole is not None
    assert (jpeg_size_wh(whole), number_in(whole)) == ((640, 480), 5)
    assert np.array_equal(decoded(whole), decoded(jpeg))
