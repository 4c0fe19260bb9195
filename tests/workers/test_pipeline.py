"""Frames to results, with the real networks on the public-domain portrait."""

from __future__ import annotations

import io
import json
import shutil
import struct
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from shared import config
from shared.schema import Claim, Frame
from workers.pipeline import MAX_PIXELS, Pipeline, decode_jpeg, face_of, load_pipeline
from workers.vision.detector import ImageBGR


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(config.load())


def jpeg(image_bgr: ImageBGR) -> bytes:
    return bytes(cv2.imencode(".jpg", image_bgr)[1])


def by_opencv(picture: bytes) -> ImageBGR:
    return np.asarray(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR), np.uint8)


@cache
def portrait() -> bytes:
    rgb = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    return jpeg(np.ascontiguousarray(rgb[..., ::-1]))


def claim(*pictures: bytes, feed: str = "cam", state: dict[str, object] | None = None) -> Claim:
    now = time.time()
    frames = tuple(
        Frame(feed, f"{i + 1}-0", i + 1, now + i / 15, picture)
        for i, picture in enumerate(pictures)
    )
    return Claim(feed, 1, state, frames)


def test_a_face_is_found_numbered_and_judged(pipeline: Pipeline) -> None:
    ((_, _, (outcome,)),) = pipeline.analyse([claim(portrait())])
    assert outcome.result is not None
    assert (outcome.result.width, outcome.result.height) == (512, 512)
    (face,) = outcome.result.faces
    x, y, width, height = face.box_xywh
    assert x < 220 < x + width
    assert y < 120 < y + height
    assert face.track == 1
    assert face.emotion == max(face.scores, key=lambda label: face.scores[label])
    assert face.confidence == face.scores[face.emotion]
    assert tuple(face.scores) == pipeline.labels
    assert set(outcome.result.stages_ms) == {"queue", "decode", "detect", "classify"}


@pytest.mark.parametrize(
    ("confidence", "unsure_below", "unsure"),
    [(0.4999, 0.5, True), (0.5, 0.5, False), (0.49996, 0.5, False), (0.26, 0, False)],
)
def test_below_the_cards_confidence_a_face_is_unsure_and_keeps_its_likeliest_label(
    confidence: float, unsure_below: float, unsure: bool
) -> None:
    rest = (1 - confidence) / 4
    scores = [rest, confidence, rest, rest, rest]
    face = face_of(1, (0, 0, 9, 9), scores, ("a", "bored", "c", "d", "e"), unsure_below)
    assert (face.emotion, face.unsure) == ("bored", unsure)


@pytest.mark.parametrize("unsure_below", [0.999, None])
def test_a_users_own_model_says_itself_when_it_is_unsure(
    tmp_path: Path, unsure_below: float | None
) -> None:
    own = tmp_path / "own"
    shutil.copytree(config.load().model, own)
    card = json.loads((own / "card.json").read_text())
    card["labels"] = [f"mood {number}" for number in range(len(card["labels"]))]
    card["unsure_below"] = unsure_below
    if unsure_below is None:
        del card["unsure_below"]
    (own / "card.json").write_text(json.dumps(card))
    pipeline = load_pipeline(config.Settings(model=own))
    ((_, _, (outcome,)),) = pipeline.analyse([claim(portrait())])
    assert outcome.result is not None
    (live,) = outcome.result.faces
    picture = decode_jpeg(portrait())
    assert picture is not None
    (still,) = pipeline.judge_still(picture)
    assert live.unsure == still.unsure == (unsure_below is not None)
    assert live.emotion.startswith("mood ")


def test_faces_of_several_feeds_keep_to_their_frames(pipeline: Pipeline) -> None:
    empty = jpeg(np.full((240, 320, 3), 90, np.uint8))
    claims = [
        claim(portrait(), empty, feed="a"),
        claim(empty, feed="b"),
        claim(portrait(), portrait(), feed="c"),
    ]
    found = {
        taken.feed: [len(row.result.faces) for row in rows if row.result]
        for taken, _, rows in pipeline.analyse(claims)
    }
    assert found == {"a": [1, 0], "b": [0], "c": [1, 1]}


def test_any_pipeline_goes_on_where_another_stopped(pipeline: Pipeline) -> None:
    together = claim(portrait(), portrait(), portrait())
    ((_, _, at_once),) = pipeline.analyse([together])
    ((_, state, _),) = pipeline.analyse([replace(together, frames=together.frames[:2])])
    handed_over = json.loads(json.dumps(state))
    ((_, _, rows),) = pipeline.analyse(
        [replace(together, state=handed_over, frames=together.frames[2:])]
    )
    assert rows[0].result is not None
    assert at_once[2].result is not None
    assert rows[0].result.faces == at_once[2].result.faces


def test_a_frame_that_is_no_picture_is_an_outcome_and_not_an_error(pipeline: Pipeline) -> None:
    cut = portrait()[:200]
    ((_, _, rows),) = pipeline.analyse([claim(b"", b"no picture", cut, portrait())])
    assert [row.result is None for row in rows] == [True, True, True, False]
    assert all(row.reason for row in rows[:3])


def test_every_kind_of_jpeg_is_decoded_to_what_opencv_makes_of_it() -> None:
    rgb = Image.fromarray(by_opencv(portrait())[:333, :501, ::-1])
    pictures: dict[str, bytes] = {"damaged": portrait()[:9000] + bytes(9) + portrait()[9009:]}
    turned = Image.Exif()
    turned[0x112] = 6
    kinds: tuple[tuple[str, Image.Image, dict[str, Any]], ...] = (
        ("coarse colours", rgb, {"subsampling": "4:1:1"}),
        ("fine colours", rgb, {"subsampling": "4:4:4"}),
        ("in passes", rgb, {"progressive": True}),
        ("grey", rgb.convert("L"), {}),
        ("for print", rgb.convert("CMYK"), {}),
        ("on its side", rgb, {"exif": turned}),
    )
    for name, image, options in kinds:
        out = io.BytesIO()
        image.save(out, "JPEG", **options)
        pictures[name] = out.getvalue()
    for name, picture in pictures.items():
        found = decode_jpeg(picture)
        assert found is not None, name
        assert np.array_equal(found, by_opencv(picture)), name
        assert found.shape == ((501, 333, 3) if name == "on its side" else found.shape)


def test_half_a_picture_is_none() -> None:
    assert decode_jpeg(portrait()[: len(portrait()) // 2]) is None


def test_a_picture_that_claims_to_be_huge_is_not_decoded() -> None:
    picture = bytearray(portrait())
    header = picture.index(b"\xff\xc0") + 5
    picture[header : header + 4] = struct.pack(">HH", 60000, 60000)
    assert MAX_PIXELS < 60000 * 60000
    assert decode_jpeg(bytes(picture)) is None


def test_work_done_is_counted_for_the_metrics(pipeline: Pipeline) -> None:
    before = pipeline.work_done().frames, pipeline.work_done().faces
    pipeline.analyse([claim(portrait(), b"no picture")])
    after = pipeline.work_done()
    assert (after.frames - before[0], after.faces - before[1]) == (2, 1)
    assert all(seconds > 0 for seconds in after.stage_seconds.values())
