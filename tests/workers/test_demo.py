"""The demo clip is what its script makes, shows one face throughout, and has something to show."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import av
import numpy as np
import pytest

from shared.config import PROJECT_DIR
from workers.demo.make_demo import (
    ANGRY,
    CLIP,
    DURATION_S,
    FPS,
    HAPPY,
    NEUTRAL,
    SAD,
    SIZE_WH,
    SURPRISED,
    Portrait,
    expression_at,
    picture_at,
)
from workers.tracking import Tracker
from workers.vision.classifier import load_classifier
from workers.vision.crop import crop_face
from workers.vision.detector import ImageBGR, MtcnnDetector


@pytest.fixture(scope="module")
def pictures() -> list[ImageBGR]:
    with av.open(str(CLIP)) as container:
        return [
            frame.to_ndarray(format="bgr24").astype(np.uint8) for frame in container.decode(video=0)
        ]


def difference(a: ImageBGR, b: ImageBGR) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_it_is_a_small_clip_that_browsers_play(pictures: list[ImageBGR]) -> None:
    with av.open(str(CLIP)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == SIZE_WH
        assert stream.average_rate is not None
        assert float(stream.average_rate) == FPS
    assert len(pictures) == DURATION_S * FPS
    assert CLIP.stat().st_size < 700_000
    data = CLIP.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first"


def test_it_is_what_the_script_makes(pictures: list[ImageBGR]) -> None:
    portrait = Portrait()
    for index in (0, 60, 125, 195, 265):
        assert difference(pictures[index], picture_at(portrait, index)) < 3


def test_its_end_meets_its_beginning(pictures: list[ImageBGR]) -> None:
    steps = [difference(a, b) for a, b in pairwise(pictures)]
    assert difference(pictures[-1], pictures[0]) < max(steps)


@pytest.mark.parametrize(
    ("t", "expression"), [(0, NEUTRAL), (3, HAPPY), (8, SURPRISED), (13, SAD), (17.5, ANGRY)]
)
def test_each_expression_is_held_at_its_time(t: float, expression: object) -> None:
    assert expression_at(t) == expression


def test_one_person_is_found_in_every_picture(
    pictures: list[ImageBGR], mtcnn: MtcnnDetector
) -> None:
    tracker = Tracker()
    counts: Counter[tuple[int, ...]] = Counter()
    for index, picture in enumerate(pictures):
        tracked = tracker.follow(mtcnn, picture, index / FPS)
        counts[tuple(item.track for item in tracked)] += 1
    assert counts == {(1,): len(pictures)}


def test_the_timeline_has_something_to_show(pictures: list[ImageBGR], mtcnn: MtcnnDetector) -> None:
    classifier = load_classifier(PROJECT_DIR / "models" / "moodline-mobilenetv2", "auto", 1)
    seen = {}
    for t in (0.5, 4.0, 8.5, 13.5, 18.0):
        picture = pictures[round(t * FPS)]
        crop = crop_face(picture, mtcnn.detect(picture)[0], classifier.card.input_size_hw)
        scores = np.asarray(classifier.predict(crop[None]))[0]
        seen[t] = classifier.card.labels[int(np.argmax(scores))]
    assert seen[4.0] == "happy"
    assert seen[8.5] == "surprise"
    assert len(set(seen.values())) >= 4, seen
