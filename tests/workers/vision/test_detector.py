"""The face detector finds faces where they are, nothing where none is, whatever picture comes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.errors import ModelError
from tests.conftest import MATERIAL
from tests.workers.conftest import MODELS, FramesOf
from workers.vision.detector import (
    BoxXYWH,
    Detection,
    FaceDetector,
    Floats,
    ImageBGR,
    MtcnnDetector,
    Pixels,
    YunetDetector,
    in_blocks,
    load_detector,
)

YUNET = MATERIAL / "models" / "face_detection_yunet_2023mar.onnx"


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(across, 0) * max(down, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


@pytest.fixture(params=["mtcnn", "yunet"])
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    if request.param == "yunet" and not YUNET.is_file():
        pytest.skip(f"no YuNet model at {YUNET}")
    return load_detector(request.param, models_dir=MODELS, yunet_path=YUNET)


class TestEveryDetector:
    def test_finds_the_face_of_a_portrait(self, detector: FaceDetector, portrait: ImageBGR) -> None:
        (face,) = detector.detect(portrait)
        assert overlap(face.box_xywh, (180, 65, 85, 105)) > 0.7
        assert 0.85 < face.score <= 1

    def test_landmarks_are_eyes_nose_and_mouth_from_the_pictures_left(
        self, detector: FaceDetector, portrait: ImageBGR
    ) -> None:
        (face,) = detector.detect(portrait)
        places = np.array(face.landmarks_xy)
        by_eye = np.array([(203, 101), (247, 104), (223, 127), (203, 140), (246, 140)])
        assert np.abs(places - by_eye).max() < 9  # of 65 from eyes to chin

    def test_finds_two_faces_of_different_size(
        self, detector: FaceDetector, two_faces: ImageBGR
    ) -> None:
        faces = sorted(detector.detect(two_faces), key=lambda face: face.box_xywh[0])
        assert len(faces) == 2
        assert overlap(faces[0].box_xywh, (110, 132, 42, 53)) > 0.6
        assert overlap(faces[1].box_xywh, (441, 109, 64, 79)) > 0.6

    @pytest.mark.parametrize(
        "picture",
        [
            np.zeros((480, 640, 3), np.uint8),
            np.full((480, 640, 3), 255, np.uint8),
            np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8),
            np.zeros((1, 1, 3), np.uint8),
            np.zeros((3, 900, 3), np.uint8),
            np.zeros((2000, 5, 3), np.uint8),
        ],
        ids=["black", "white", "noise", "one pixel", "wide strip", "tall strip"],
    )
    def test_finds_nothing_where_there_is_none(
        self, detector: FaceDetector, picture: ImageBGR
    ) -> None:
        assert detector.detect(picture) == []

    def test_a_box_stays_within_the_picture_where_its_edge_cuts_the_face(
        self, detector: FaceDetector, portrait: ImageBGR
    ) -> None:
        picture = np.ascontiguousarray(portrait[95:, 190:])
        (face,) = detector.detect(picture)
        x, y, width, height = face.box_xywh
        assert x >= 0
        assert y >= 0
        assert x + width <= picture.shape[1]
        assert y + height <= picture.shape[0]

    def test_the_same_picture_gives_the_same_faces(
        self, detector: FaceDetector, portrait: ImageBGR, two_faces: ImageBGR
    ) -> None:
        first = detector.detect(two_faces)
        detector.detect(portrait)
        assert detector.detect(two_faces) == first

    def test_a_face_that_is_expected_is_the_same_face(
        self, detector: FaceDetector, two_faces: ImageBGR
    ) -> None:
        faces = detector.detect(two_faces)
        moved = [(x + 4, y - 3, width * 1.05, height) for x, y, width, height in
                 (face.box_xywh for face in faces)]  # fmt: skip
        for expected in ([moved[0]], [moved[1]], moved, moved[::-1]):
            again = detector.detect(two_faces, expected)
            assert len(again) == 2
            assert again == sorted(again, key=lambda face: -face.score)
            for face in faces:
                assert max(overlap(face.box_xywh, other.box_xywh) for other in again) > 0.8

    def test_expecting_makes_no_face(
        self, detector: FaceDetector, portrait: ImageBGR, two_faces: ImageBGR
    ) -> None:
        (face,) = detector.detect(portrait)
        nowhere: BoxXYWH = (20, 350, 90, 110)
        outside: BoxXYWH = (-500, -500, 90, 110)
        found = detector.detect(portrait, [nowhere, face.box_xywh, outside, face.box_xywh])
        assert len(found) == 1
        assert overlap(found[0].box_xywh, face.box_xywh) > 0.8
        places = [face.box_xywh for face in detector.detect(two_faces)]
        assert detector.detect(np.full((480, 640, 3), 90, np.uint8), places) == []

    def test_verify_answers_for_each_place_in_order(
        self, detector: FaceDetector, portrait: ImageBGR
    ) -> None:
        near: BoxXYWH = (170, 75, 90, 110)
        nowhere: BoxXYWH = (20, 350, 90, 110)
        outside: BoxXYWH = (-500, -500, 90, 110)
        face, *others = detector.verify(portrait, [near, nowhere, outside])
        assert face is not None
        assert overlap(face.box_xywh, (180, 65, 85, 105)) > 0.7
        assert others == [None, None]
        assert detector.verify(portrait, []) == []

    def test_verify_does_not_answer_with_a_neighbour(
        self, detector: FaceDetector, two_faces: ImageBGR
    ) -> None:
        beside = (505.0, 109.0, 64.0, 79.0)  # touches the right face, a face's width away
        assert detector.verify(two_faces, [beside]) == [None]

    def test_verify_sees_a_face_that_is_too_blurred_for_the_full_search(
        self, detector: FaceDetector, portrait: ImageBGR
    ) -> None:
        (face,) = detector.detect(portrait)
        blurred = portrait
        while detector.detect(blurred):
            blurred = np.asarray(cv2.GaussianBlur(blurred, (0, 0), 2), np.uint8)
        assert detector.verify(blurred, [face.box_xywh]) != [None]


class TestMtcnn:
    def test_agrees_with_the_package_whose_networks_it_runs(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR, two_faces: ImageBGR
    ) -> None:
        package = pytest.importorskip("mtcnn").MTCNN()
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        for picture in (portrait, two_faces):
            theirs = package.detect_faces(picture[..., ::-1])
            ours = mtcnn.detect(picture)
            assert len(ours) == len(theirs)
            for face in theirs:
                twin = max(ours, key=lambda our, box=face["box"]: overlap(our.box_xywh, box))  # type: ignore[misc]
                # Not nearer, because ours is the mean with what the mirror shows.
                assert overlap(twin.box_xywh, face["box"]) > 0.85
                points = np.array([face["keypoints"][name] for name in names])
                assert np.abs(points - np.array(twin.landmarks_xy)).max() < 0.05 * face["box"][2]

    def test_a_face_larger_than_the_picture_is_found(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR
    ) -> None:
        close = cv2.resize(portrait[90:150, 184:263], (632, 480), interpolation=cv2.INTER_CUBIC)
        (face,) = mtcnn.detect(np.asarray(close, np.uint8))
        assert face.box_xywh[3] == pytest.approx(480, abs=10)

    def test_a_smaller_search_finds_large_faces_and_misses_small_ones(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR
    ) -> None:
        smaller = mtcnn.smaller()
        assert len(smaller.detect(portrait)) == 1
        far = np.full((480, 640, 3), 90, np.uint8)
        far[100:260, 20:180] = cv2.resize(portrait, (160, 160), interpolation=cv2.INTER_AREA)
        assert (len(mtcnn.detect(far)), len(smaller.detect(far))) == (1, 0)

    def test_small_faces_are_found_wherever_they_are(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR
    ) -> None:
        # Large levels are judged every 4 pixels, which are 12 of the picture's: try all of them.
        small = cv2.resize(portrait[20:276, 90:346], (112, 112), interpolation=cv2.INTER_AREA)
        for shift in range(12):
            picture = np.full((480, 640, 3), 90, np.uint8)
            picture[200 + shift : 312 + shift, 300 - shift : 412 - shift] = small
            (face,) = mtcnn.detect(picture)
            expected = (340 - shift, 220 + shift, 37, 46)
            assert overlap(face.box_xywh, expected) > 0.6

    @pytest.mark.parametrize("size_hw", [(60, 80), (61, 81), (62, 78), (63, 79)])
    def test_what_the_rejector_leaves_is_judged_as_in_the_whole_level(
        self,
        mtcnn: MtcnnDetector,
        portrait: ImageBGR,
        monkeypatch: pytest.MonkeyPatch,
        size_hw: tuple[int, int],
    ) -> None:
        level = cv2.resize(portrait, size_hw[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        answers, at = mtcnn._by_level(level, in_part=False)
        every_other = (at % 4 == 0).all(axis=0)
        expected = {(y, x): row for (y, x), row in zip(at.T.tolist(), answers, strict=True)}
        expected = {place: row for place, row in expected.items() if not any(np.mod(place, 4))}
        assert len(expected) == every_other.sum() > 0

        monkeypatch.setattr(mtcnn, "_rejector", lambda blocks: np.ones((1, 30, 30, 1), np.float32))
        answers, at = mtcnn._by_window(level, in_part=False)
        found = {(y, x): row for (y, x), row in zip(at.T.tolist(), answers, strict=True)}
        assert found.keys() == expected.keys()
        for place, row in found.items():
            np.testing.assert_allclose(row, expected[place], atol=1e-5)

    def test_the_rejector_sees_windows_where_they_are(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR
    ) -> None:
        height, width = 123, 158
        picture = np.full((height, width, 3), 90, np.uint8)
        face = cv2.resize(portrait[60:172, 170:276], (13, 14), interpolation=cv2.INTER_AREA)
        for top, left in ((0, 0), (height - 14, width - 13), (40, 100)):
            level = picture.copy()
            level[top : top + 14, left : left + 13] = face
            _, at = mtcnn._by_window(level, in_part=False)
            assert at.size
            assert np.abs(at - np.array([[top], [left]])).max() <= 4

    def test_a_grey_picture_goes_in_blocks(self) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (8, 12)).astype(np.uint8)
        blocks = in_blocks(grey)
        assert blocks.shape == (2, 3, 16)
        np.testing.assert_array_equal(blocks[1, 2], grey[4:, 8:].ravel().astype(int) - 128)

    def test_a_known_face_spares_most_of_the_refinement(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crops: list[int] = []
        run = mtcnn._rnet.in_batches

        def counted(pixels: Pixels) -> Floats:
            crops.append(len(pixels))
            return run(pixels)

        monkeypatch.setattr(mtcnn._rnet, "in_batches", counted)
        (face,) = mtcnn.detect(portrait)
        without, crops[:] = sum(crops), []
        mtcnn.detect(portrait, [face.box_xywh])
        assert sum(crops) < without

    def test_memory_does_not_grow_with_the_number_of_sizes(self, mtcnn: MtcnnDetector) -> None:
        for width in range(200, 240):
            mtcnn.detect(np.zeros((160, width, 3), np.uint8))
            mtcnn.search_beside(np.zeros((480, 640, 3), np.uint8), [], (0, 0, width / 300, 0.5))
        networks = (mtcnn._rejector, mtcnn._rejector_of_parts, mtcnn._pnet, mtcnn._pnet_of_parts)
        assert [len(network._interpreters) <= 32 for network in networks] == [True] * 4

    def test_a_wall_of_faces_is_bounded_and_found(
        self, mtcnn: MtcnnDetector, portrait: ImageBGR
    ) -> None:
        head = cv2.resize(portrait[30:200, 130:310], (60, 57), interpolation=cv2.INTER_AREA)
        wall = np.tile(head, (10, 12, 1)).astype(np.uint8)
        assert 30 <= len(mtcnn.detect(wall)) <= 48

    @pytest.mark.parametrize(
        ("clip", "expected", "at_least"),
        [
            ("changing-expressions.mp4", 1, 0.99),
            ("sign-book.mkv", 1, 0.99),
            ("three-people.mp4", 3, 0.9),
            ("no-face.mp4", 0, 0.98),
        ],
    )
    def test_counts_the_faces_of_real_clips(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf, clip: str, expected: int, at_least: float
    ) -> None:
        right = [len(mtcnn.detect(picture)) == expected for _, picture in frames_of(clip, 2)]
        assert np.mean(right) >= at_least


class TestModelFiles:
    def test_a_missing_folder_names_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="convert_mtcnn"):
            load_detector("mtcnn", models_dir=tmp_path)

    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        folder = shutil.copytree(MODELS / "face_detector", tmp_path / "face_detector")
        broken = bytearray((folder / "rnet.tflite").read_bytes())
        broken[5000] ^= 1
        (folder / "rnet.tflite").write_bytes(bytes(broken))
        with pytest.raises(ModelError, match=r"rnet\.tflite"):
            load_detector("mtcnn", models_dir=tmp_path)

    @pytest.mark.parametrize("card", ["", "[]", '{"files": 3}', '{"name": "x"}', '{"files": {}}'])
    def test_a_folder_whose_card_is_none_is_refused(self, tmp_path: Path, card: str) -> None:
        folder = shutil.copytree(MODELS / "face_detector", tmp_path / "face_detector")
        (folder / "card.json").write_text(card)
        with pytest.raises(ModelError, match="card"):
            load_detector("mtcnn", models_dir=tmp_path)

    def test_a_card_that_lacks_a_network_is_refused(self, tmp_path: Path) -> None:
        folder = shutil.copytree(MODELS / "face_detector", tmp_path / "face_detector")
        card = json.loads((folder / "card.json").read_text())
        card["files"].pop("onet.tflite")
        (folder / "card.json").write_text(json.dumps(card))
        with pytest.raises(ModelError, match="onet"):
            load_detector("mtcnn", models_dir=tmp_path)

    def test_yunet_without_its_file_names_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="mtcnn"):
            load_detector("yunet", models_dir=MODELS)
        with pytest.raises(ModelError, match="face_detection_yunet_2023mar"):
            load_detector("yunet", models_dir=MODELS, yunet_path=tmp_path / "none.onnx")
        (tmp_path / "text.onnx").write_text("no model")
        with pytest.raises(ModelError, match="damaged"):
            YunetDetector(tmp_path / "text.onnx")


def test_a_detection_is_a_value() -> None:
    assert Detection((1, 2, 3, 4), 0.9) == Detection((1, 2, 3, 4), 0.9, ())
