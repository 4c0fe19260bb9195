"""Whole pictures are searched when something happens; between, known faces are followed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from shared.config import PROJECT_DIR
from shared.video import VideoOptions
from tests.workers.conftest import FramesOf
from workers import footage
from workers.lookout import AFRESH, Lookout, glimpse_of
from workers.tracking import Tracker
from workers.vision.detector import BoxXYWH, Detection, ImageBGR, MtcnnDetector

START = 1_700_000_000.0
FPS = 30
EVERY_S = 0.2
STILL = np.full((480, 640, 3), 90, np.uint8)
CORNER: BoxXYWH = (500, 300, 100, 120)


def with_corner(brightness: int) -> ImageBGR:
    """A picture in which something has changed in one corner."""
    x, y, width, height = (round(value) for value in CORNER)
    picture = STILL.copy()
    picture[y : y + height, x : x + width] = brightness
    return picture


def face(x: float, score: float = 0.99) -> Detection:
    return Detection((x, 100, 80, 100), score)


class Detector:
    """Sees the faces that it is given; remembers in which frames it searched."""

    def __init__(self) -> None:
        self.faces: list[Detection] = []
        self.searches = 0
        self.followed: list[BoxXYWH] = []
        self.areas: list[BoxXYWH] = []

    def detect(self, image_bgr: ImageBGR, expected: Sequence[BoxXYWH] = ()) -> list[Detection]:
        self.searches += 1
        return list(self.faces)

    def verify(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        return [None for _ in boxes_xywh]

    def follow(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        self.followed += boxes_xywh
        return [
            next((face for face in self.faces if abs(face.box_xywh[0] - box[0]) < 30), None)
            for box in boxes_xywh
        ]

    def smaller(self) -> Detector:
        return self

    def search_beside(
        self, image_bgr: ImageBGR, known: Sequence[Detection], area_xywh: BoxXYWH
    ) -> list[Detection]:
        self.areas.append(area_xywh)
        return [face for face in self.faces if face not in known]


def searched_frames(pictures: Sequence[ImageBGR], faces: Sequence[Sequence[Detection]]) -> set[int]:
    """The frames that were searched, all or a part of them, at 30 a second."""
    detector, tracker, searched = Detector(), Tracker(search_every_s=EVERY_S), set[int]()
    for k, (picture, seen) in enumerate(zip(pictures, faces, strict=True)):
        before = detector.searches + len(detector.areas)
        detector.faces = list(seen)
        tracker.follow(detector, picture, START + k / FPS)
        if detector.searches + len(detector.areas) > before:
            searched.add(k)
    return searched


class TestSearches:
    def test_a_still_picture_is_searched_once_a_second(self) -> None:
        assert searched_frames([STILL] * 61, [[]] * 61) == {0, 30, 60}

    def test_a_picture_that_changes_is_searched_every_fifth_of_a_second(self) -> None:
        pictures = [with_corner(90 + 10 * (k % 12)) for k in range(19)]
        assert searched_frames(pictures, [[face(100)]] * 19) == {0, 6, 12, 18}

    def test_only_where_it_changes(self) -> None:
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        for k in range(7):
            tracker.follow(detector, with_corner(90 + 10 * k), START + k / FPS)
        assert (detector.searches, detector.areas) == (1, [(0.75, 0.5, 0.25, 0.5)])

    def test_a_new_face_beside_a_known_one_is_found_within_a_fifth_of_a_second(self) -> None:
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        shown = []
        for k in range(9):
            detector.faces = [face(100), face(500)] if k > 2 else [face(100)]
            picture = with_corner(200) if k > 2 else STILL
            shown.append(len(tracker.follow(detector, picture, START + k / FPS)))
        assert shown == [1, 1, 1, 1, 1, 1, 2, 2, 2]
        assert detector.searches == 1

    def test_changes_within_a_known_face_need_no_search(self) -> None:
        x, y, width, height = CORNER
        known = [Detection((x - 5, y - 5, width + 10, height + 10), 0.99)]
        pictures = [with_corner(90 + 10 * (k % 12)) for k in range(30)]
        assert searched_frames(pictures, [known] * 30) == {0}

    def test_a_cut_is_searched_at_once(self) -> None:
        pictures = [STILL] * 10 + [STILL + 60] * 2
        assert searched_frames(pictures, [[face(100)]] * 12) == {0, 10}

    def test_a_face_that_is_lost_is_searched_for_in_the_same_frame_and_often_after(self) -> None:
        faces = [[face(100)]] * 10 + [[]] * 7
        assert searched_frames([STILL] * 17, faces) == {0, 10, 12, 14, 16}

    def test_a_face_that_is_not_sure_yet_is_searched_for_often(self) -> None:
        faces = [[face(100, 0.85)]] * 5
        assert searched_frames([STILL] * 5, faces) == {0, 2, 4}

    def test_two_who_are_followed_to_one_place_are_searched_for(self) -> None:
        faces = [[face(100), face(300)]] * 3 + [[face(100), face(120)]]
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        for k, seen in enumerate(faces):
            detector.faces = list(seen)
            tracker.follow(detector, STILL, START + k / FPS)
        assert detector.searches == 2

    def test_without_a_time_every_picture_is_searched(self) -> None:
        detector, tracker = Detector(), Tracker()
        for k in range(5):
            tracker.follow(detector, STILL, START + k / FPS)
        assert detector.searches == 5

    def test_a_clock_that_falls_back_is_searched_at_once(self) -> None:
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        detector.faces = [face(100)]
        tracker.follow(detector, STILL, START)
        tracker.follow(detector, STILL, START - 5)
        assert detector.searches == 2


def with_face(x: float, look: int = 0) -> ImageBGR:
    """A picture of `face(x)`: soft patches of light, others for each `look`."""
    patches = np.random.default_rng(look).integers(0, 256, (5, 4, 3), np.uint8)
    picture = STILL.copy()
    picture[100:200, round(x) : round(x) + 80] = cv2.resize(patches, (80, 100))
    return picture


def looks(pictures: Sequence[ImageBGR], faces: Sequence[Detection], fps: float = FPS) -> list[bool]:
    """In which frames the detector was asked about the face; all must show it where it is."""
    detector, tracker, looked = Detector(), Tracker(search_every_s=EVERY_S), []
    for k, (picture, seen) in enumerate(zip(pictures, faces, strict=True)):
        before = detector.searches + len(detector.followed)
        detector.faces = [seen]
        (shown,) = tracker.follow(detector, picture, START + k / fps)
        assert overlap(shown.detection.box_xywh, seen.box_xywh) > 0.93
        looked.append(detector.searches + len(detector.followed) > before)
    return looked


class TestStill:
    """A face that looks as it did is not looked at again for a moment."""

    @pytest.mark.parametrize(("fps", "every"), [(5, 1), (15, 2), (25, 3), (30, 3), (60, 6)])
    def test_who_holds_still_is_looked_at_a_tenth_of_a_second_later(
        self, fps: int, every: int
    ) -> None:
        looked = looks([with_face(100)] * 14, [face(100)] * 14, fps)
        assert looked == [True] + [k % every == 0 for k in range(13)]

    def test_who_moves_evenly_is_looked_at_as_seldom(self) -> None:
        xs = [100 + 2 * k for k in range(20)]
        looked = looks([with_face(x) for x in xs], [face(x) for x in xs])
        assert sum(looked[8:]) == 4

    def test_who_has_moved_is_looked_at_at_once(self) -> None:
        xs = [100] * 6 + [110, 110, 95]
        looked = looks([with_face(x) for x in xs], [face(x) for x in xs])
        assert looked[5:] == [False, True, True, True]

    def test_who_looks_otherwise_is_looked_at_at_once(self) -> None:
        pictures = [with_face(100)] * 6 + [with_face(100, look=1)]
        assert looks(pictures, [face(100)] * 7)[5:] == [False, True]

    def test_whose_place_tells_nothing_is_always_looked_at(self) -> None:
        assert looks([STILL] * 9, [face(100)] * 9) == [True] * 9

    def test_a_lamp_that_is_switched_on_changes_nobody(self) -> None:
        dark, bright = with_face(100) // 2, with_face(100) // 2 + 6
        assert looks([dark] * 6 + [bright], [face(100)] * 7)[5:] == [False, False]

    def test_who_is_gone_is_not_shown(self) -> None:
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        detector.faces = [face(100)]
        for k in range(6):
            tracker.follow(detector, with_face(100), START + k / FPS)
        detector.faces = []
        assert tracker.follow(detector, STILL, START + 6 / FPS) == []

    def test_whom_the_pictures_edge_cuts_may_hold_still_too(self) -> None:
        cut = Detection((0, 100, 80, 100), 0.99)
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        for k in range(8):
            x = 6 - 2 * min(k, 3)  # moving out of the picture, by its speed
            detector.faces = [Detection((x, 100, 80, 100), 0.99)] if k < 4 else [cut]
            (shown,) = tracker.follow(detector, with_face(x), START + k / FPS)
            assert shown.detection.box_xywh[0] >= 0
        assert len(detector.followed) < 7

    def test_a_picture_smaller_than_the_face_is_looked_at(self) -> None:
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        detector.faces = [face(0)]
        for k in range(3):
            tracker.follow(detector, with_face(0), START + k / FPS)
        tiny = np.ascontiguousarray(with_face(0)[100:140, :60])
        detector.faces = [Detection((0, 0, 60, 40), 0.99)]
        (shown,) = tracker.follow(detector, tiny, START + 3 / FPS)
        assert shown.detection == detector.faces[0]

    def test_landmarks_go_with_the_face(self) -> None:
        marks = ((120.0, 130.0), (160.0, 130.0), (140.0, 150.0), (125.0, 175.0), (155.0, 175.0))
        detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
        detector.faces = [Detection((100, 100, 80, 100), 0.99, marks)]
        for k in range(4):
            (shown,) = tracker.follow(detector, with_face(100), START + k / FPS)
        assert len(detector.followed) == 1
        assert np.allclose(shown.detection.landmarks_xy, marks)


def test_a_face_is_looked_for_where_it_should_be_by_now() -> None:
    detector, tracker = Detector(), Tracker(search_every_s=EVERY_S)
    for k in range(6):
        detector.faces = [face(100 + 3 * k)]
        tracker.follow(detector, STILL, START + k / FPS)
    assert detector.followed[-1][0] == pytest.approx(115, abs=1.5)


def test_the_state_goes_through_json() -> None:
    lookout, copy = Lookout(EVERY_S), Lookout(EVERY_S)
    lookout.searched(AFRESH, glimpse_of(with_corner(200)), START)
    copy.restore(json.loads(json.dumps(lookout.state())))
    for picture, t in ((with_corner(200), 0.3), (STILL, 0.3), (STILL, 0.1), (STILL + 90, 0.1)):
        glimpse = glimpse_of(picture)
        due = lookout.due(glimpse, START + t, [], restless=False)
        assert copy.due(glimpse, START + t, [], restless=False) == due


def test_searching_a_part_finds_there_what_searching_everything_finds(
    mtcnn: MtcnnDetector, two_faces: ImageBGR
) -> None:
    left, right = sorted(mtcnn.detect(two_faces), key=lambda face: face.box_xywh[0])
    (found,) = mtcnn.search_beside(two_faces, [right], (0, 0, 0.5, 1))
    assert overlap(found.box_xywh, left.box_xywh) > 0.9
    assert mtcnn.search_beside(two_faces, [left, right], AFRESH.area_xywh) == []
    assert mtcnn.search_beside(two_faces, [], AFRESH.area_xywh) == mtcnn.detect(two_faces)


def test_following_finds_the_face_that_is_there_and_no_other(
    mtcnn: MtcnnDetector, two_faces: ImageBGR
) -> None:
    for face in mtcnn.detect(two_faces):
        x, y, width, height = face.box_xywh
        shifted = (x + 0.1 * width, y - 0.1 * height, width, height)
        (followed,) = mtcnn.follow(two_faces, [shifted])
        assert followed is not None
        assert overlap(followed.box_xywh, face.box_xywh) > 0.85
    nowhere = [(5.0, 5.0, 40.0, 50.0), (-900.0, -900.0, 40.0, 50.0), (600.0, 440.0, 90.0, 90.0)]
    assert mtcnn.follow(two_faces, nowhere) == [None] * 3


def overlap(a: BoxXYWH, b: BoxXYWH) -> float:
    """Intersection over union."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(across, 0) * max(down, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def agreement(
    detector: MtcnnDetector, frames: Sequence[tuple[float, ImageBGR]]
) -> tuple[float, set[int]]:
    """The share of frames that are as when all are searched; the numbers that were given."""
    every, seldom = Tracker(), Tracker(search_every_s=EVERY_S)
    same, given = 0, set[int]()
    for t, picture in frames:
        expected = every.follow(detector, picture, t)
        followed = seldom.follow(detector, picture, t)
        boxes = {item.track: item.detection.box_xywh for item in followed}
        given |= boxes.keys()
        same += len(expected) == len(followed) and all(
            item.track in boxes and overlap(item.detection.box_xywh, boxes[item.track]) >= 0.8
            for item in expected
        )
    return same / len(frames), given


class TestAgreement:
    """With the real networks, on real faces: following gives what searching every frame gives."""

    @pytest.mark.parametrize(
        ("clip", "step", "people"),
        [("sign-book.mkv", 1, 1), ("changing-expressions.mp4", 2, 1), ("three-people.mp4", 1, 3)],
    )
    def test_on_clips(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf, clip: str, step: int, people: int
    ) -> None:
        share, given = agreement(mtcnn, list(frames_of(clip, step)))
        assert share >= 0.95
        assert given == set(range(1, people + 1))

    def test_on_the_demo(self, mtcnn: MtcnnDetector) -> None:
        clip = PROJECT_DIR / "workers" / "demo" / "demo.mp4"
        plan = footage.plan(clip, VideoOptions(end_s=6))
        frames = [f for part in plan.segments for f in footage.frames(clip, plan, part)]
        share, given = agreement(mtcnn, frames)
        assert share >= 0.95
        assert given == {1}

    def test_handed_on_from_worker_to_worker(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf
    ) -> None:
        whole = Tracker(search_every_s=EVERY_S)
        handed_on = Tracker(search_every_s=EVERY_S)
        for t, picture in frames_of("three-people.mp4"):
            rows = whole.follow(mtcnn, picture, t)
            assert handed_on.follow(mtcnn, picture, t) == rows
            state = json.loads(json.dumps(handed_on.state()))
            handed_on = Tracker.from_state(state, search_every_s=EVERY_S)
