"""A face keeps its number, a number keeps its face, and any worker can go on with the state."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest

from shared.schema import GLIMPSES
from tests.workers.conftest import FramesOf
from workers.tracking import Tracked, Tracker, _cheapest_pairs, colours_of
from workers.vision.detector import BoxXYWH, Detection, ImageBGR, MtcnnDetector

START = 1_700_000_000.0
FPS = 15


def face(x: float, y: float = 100, size: float = 60, score: float = 0.99) -> Detection:
    return Detection((x, y, size * 0.8, size), score)


def numbers(tracked: Sequence[Tracked]) -> list[int]:
    return [item.track for item in tracked]


def through_json(tracker: Tracker) -> Tracker:
    return Tracker.from_state(json.loads(json.dumps(tracker.state(), allow_nan=False)))


class ScriptedDetector:
    """Finds what it is told to; remembers where it was asked to look again."""

    def __init__(self, found: Sequence[Detection], at_places: Detection | None = None) -> None:
        self.found = list(found)
        self.at_places = at_places
        self.asked: list[BoxXYWH] = []

    def detect(self, image_bgr: ImageBGR, expected: Sequence[BoxXYWH] = ()) -> list[Detection]:
        return list(self.found)

    def verify(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        self.asked += boxes_xywh
        return [self.at_places for _ in boxes_xywh]

    def follow(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        raise AssertionError("these tests search every picture")

    def smaller(self) -> ScriptedDetector:
        return self

    def search_beside(
        self, image_bgr: ImageBGR, known: Sequence[Detection], area_xywh: BoxXYWH
    ) -> list[Detection]:
        raise AssertionError("these tests search every picture")


RED = ((60, 0, 5, 20), (120, 20, 10, 30), (100, 90, 20, 10), (100, 90, 20, 10))
BLUE = ((90, 10, 30, 20), (140, 15, 10, 30), (100, -20, -80, 10), (100, -20, -80, 10))
GREEN = ((90, -40, 30, 20), (140, -60, 10, 30), (100, -70, 40, 10), (100, -70, 40, 10))
GREY = np.full((480, 640, 3), 128, np.uint8)


class TestNumbers:
    def test_a_moving_face_keeps_its_number(self) -> None:
        tracker = Tracker()
        seen = [tracker.update([face(20 + 12 * k)], START + k / FPS) for k in range(40)]
        assert [numbers(row) for row in seen] == [[1]] * 40

    def test_two_faces_side_by_side_keep_theirs_in_whatever_order_they_are_found(self) -> None:
        tracker = Tracker()
        tracker.update([face(100), face(200)], START)
        for k in range(1, 20):
            left, right = face(100 + k), face(200 - k)
            pair = [left, right] if k % 2 else [right, left]
            tracked = tracker.update(pair, START + k / FPS)
            assert {item.track: item.detection for item in tracked} == {1: left, 2: right}

    def test_a_face_hidden_for_two_seconds_keeps_its_number(self) -> None:
        tracker = Tracker()
        tracker.update([face(100)], START)
        assert tracker.update([], START + 1) == []
        assert numbers(tracker.update([face(110)], START + 2)) == [1]

    def test_a_face_away_for_longer_gets_a_new_number_and_none_is_used_twice(self) -> None:
        tracker = Tracker()
        tracker.update([face(100)], START)
        assert numbers(tracker.update([face(100)], START + 4)) == [2]
        assert numbers(through_json(tracker).update([face(100)], START + 8)) == [3]

    def test_a_face_elsewhere_or_of_another_size_is_somebody_else(self) -> None:
        for other in (face(400), face(100, size=180)):
            tracker = Tracker()
            tracker.update([face(100)], START)
            assert numbers(tracker.update([other], START + 1 / FPS)) == [2]

    def test_a_clock_that_falls_back_starts_new_numbers(self) -> None:
        tracker = Tracker()
        tracker.update([face(100)], START)
        assert numbers(tracker.update([face(100)], START - 100)) == [2]

    @pytest.mark.parametrize("unseen_s", [0.2, 1])
    def test_two_who_change_places_are_told_apart_by_their_colours(self, unseen_s: float) -> None:
        tracker = Tracker()
        tracker.update([face(100), face(140)], START, [RED, BLUE])
        rows = tracker.update([face(104), face(136)], START + unseen_s, [BLUE, RED])
        assert numbers(rows) == [2, 1]

    def test_colours_seen_while_another_face_is_close_are_not_believed(self) -> None:
        tracker = Tracker()
        tracker.update([face(100), face(152)], START, [RED, BLUE])
        for k in range(1, 20):  # the clothes of the one in red are behind the one in blue
            tracker.update([face(100), face(150)], START + k / FPS, [BLUE, BLUE])
        rows = tracker.update([face(104), face(146)], START + 2.5, [BLUE, RED])
        assert numbers(rows) == [2, 1]

    def test_after_a_cut_people_are_found_again_by_their_colours(self) -> None:
        tracker = Tracker()
        tracker.update([face(100), face(400)], START, [RED, BLUE])
        after = tracker.update([face(520, 300), face(250, 300)], START + 1 / FPS, [RED, BLUE])
        assert numbers(after) == [1, 2]
        still = tracker.update([face(520, 300), face(250, 300)], START + 2 / FPS, [RED, BLUE])
        assert numbers(still) == [1, 2]

    def test_a_cut_is_one_though_somebody_is_where_somebody_was_before(self) -> None:
        tracker = Tracker()
        tracker.update([face(100), face(300), face(500)], START, [RED, BLUE, GREEN])
        moved = [face(520, 300), face(190, 300), face(500)]
        after = tracker.update(moved, START + 1 / FPS, [RED, BLUE, GREEN])
        assert numbers(after) == [1, 2, 3]

    def test_after_a_cut_somebody_of_other_colours_is_somebody_else(self) -> None:
        tracker = Tracker()
        tracker.update([face(100)], START, [RED])
        assert numbers(tracker.update([face(520, 300)], START + 1 / FPS, [BLUE])) == [2]

    def test_who_appears_elsewhere_while_another_stays_is_somebody_else(self) -> None:
        tracker = Tracker()
        tracker.update([face(100), face(400)], START, [RED, BLUE])
        after = tracker.update([face(400), face(250, 300)], START + 1 / FPS, [BLUE, RED])
        assert numbers(after) == [2, 3]

    def test_somebody_in_other_clothes_at_the_same_place_is_somebody_else(self) -> None:
        tracker = Tracker()
        tracker.update([face(100)], START, [RED])
        assert numbers(tracker.update([face(100)], START + 1, [BLUE])) == [2]

    def test_an_unsure_face_is_shown_when_sightings_add_up(self) -> None:
        for score, frames in ((0.95, 1), (0.92, 2), (0.9, 3)):
            tracker = Tracker()
            shown = [
                numbers(tracker.update([face(100, score=score)], START + k / FPS)) for k in range(4)
            ]
            assert shown == [[]] * (frames - 1) + [[1]] * (5 - frames)

    def test_a_few_weak_sightings_become_nobody_and_take_no_number(self) -> None:
        tracker = Tracker()
        for k in range(3):
            assert tracker.update([face(100, score=0.87)], START + k / FPS) == []
        assert tracker.update([face(100, score=0.87)], START + 1) == []
        assert numbers(tracker.update([face(300)], START + 1.1)) == [1]

    def test_a_crowd_is_bounded(self) -> None:
        tracker = Tracker()
        crowd = [face(x, y, 20) for x in range(0, 600, 30) for y in range(0, 450, 30)]
        for k in range(3):
            tracker.update(crowd, START + k / FPS)
        assert len(tracker.state()["tracks"]) <= 64


class TestSecondLook:
    def test_a_face_that_the_search_missed_is_looked_for_where_it_should_be(self) -> None:
        tracker = Tracker()
        for k in range(10):
            tracker.follow(ScriptedDetector([face(100 + 9 * k)]), GREY, START + k / FPS)
        weak = face(190, score=0.7)
        detector = ScriptedDetector([], at_places=weak)
        assert tracker.follow(detector, GREY, START + 10 / FPS) == [Tracked(1, weak)]
        ((x, *_),) = detector.asked
        assert x == pytest.approx(190, abs=3)

    def test_nobody_is_looked_for_who_was_found_or_not_yet_shown(self) -> None:
        tracker = Tracker()
        found = [face(100), face(300, score=0.86)]
        tracker.follow(ScriptedDetector(found), GREY, START)
        detector = ScriptedDetector([face(102)], at_places=face(300))
        tracker.follow(detector, GREY, START + 1 / FPS)
        assert detector.asked == []

    def test_one_face_is_never_two(self) -> None:
        tracker = Tracker()
        tracker.follow(ScriptedDetector([face(100), face(160)]), GREY, START)
        detector = ScriptedDetector([face(100)], at_places=face(104, score=0.8))
        assert numbers(tracker.follow(detector, GREY, START + 1 / FPS)) == [1]
        assert detector.asked != []

    def test_places_outside_the_picture_are_not_looked_at(self) -> None:
        tracker = Tracker()
        for k in range(8):
            tracker.follow(ScriptedDetector([face(440 + 25 * k)]), GREY, START + k / FPS)
        detector = ScriptedDetector([])
        tracker.follow(detector, GREY, START + 12 / FPS)
        assert detector.asked == []


class TestState:
    def test_going_through_json_after_each_frame_changes_nothing(
        self, mtcnn: MtcnnDetector, walkers: Walkers
    ) -> None:
        whole = Tracker()
        handed_on = Tracker()
        generator = np.random.default_rng(0)
        for k, (picture, _) in enumerate(walkers(250)):
            t = START + k / 7
            handed_on = through_json(handed_on)
            rows = whole.follow(mtcnn, picture, t)
            assert handed_on.follow(mtcnn, picture, t) == rows
            for row in rows:
                scores = generator.dirichlet(np.ones(7)).tolist()
                expected = whole.smooth(row.track, scores, t)
                assert handed_on.smooth(row.track, scores, t) == expected
        assert handed_on.state() == whole.state()

    def test_without_what_it_shows_faces_keep_their_numbers(
        self, mtcnn: MtcnnDetector, walkers: Walkers
    ) -> None:
        tracker = Tracker(search_every_s=0.2)
        pictures = [picture for picture, _ in walkers(8)]
        for k, picture in enumerate(pictures[:7]):
            known = tracker.follow(mtcnn, picture, START + k / FPS)
        state = {part: value for part, value in tracker.state().items() if part != GLIMPSES}
        bare = Tracker.from_state(json.loads(json.dumps(state)), search_every_s=0.2)
        after = bare.follow(mtcnn, pictures[7], START + 7 / FPS)
        assert sorted(numbers(after)) == sorted(numbers(known)) != []

    def test_it_is_small(self) -> None:
        tracker = Tracker()
        picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        faces = [face(60 * k, 120.123 + k) for k in range(10)]
        for t in (START, START + 1 / 15):
            looks = [colours_of(picture, item.box_xywh) for item in faces]
            for row in tracker.update(faces, t, looks):
                tracker.smooth(row.track, [1 / 8] * 8, t)
        assert len(tracker.state()["tracks"]) == 10
        assert len(json.dumps(tracker.state())) < 4000

    def test_it_does_not_grow_with_the_people_who_went(self) -> None:
        tracker = Tracker()
        for k in range(100):
            for row in tracker.update([face(100)], START + 10 * k):
                tracker.smooth(row.track, [1 / 8] * 8, START + 10 * k)
            tracker = through_json(tracker)
        assert len(json.dumps(tracker.state())) < 500

    @pytest.mark.parametrize("state", [None, {}, {"version": 0, "tracks": "of long ago"}])
    def test_nothing_or_another_versions_state_starts_anew(
        self, state: dict[str, object] | None
    ) -> None:
        assert numbers(Tracker.from_state(state).update([face(100)], START)) == [1]


class TestSmoothing:
    def scores(self, happy: float) -> list[float]:
        return [happy, 1 - happy]

    def test_the_first_scores_are_taken_as_they_are(self) -> None:
        assert Tracker().smooth(1, self.scores(0.9), START) == pytest.approx([0.9, 0.1])

    @pytest.mark.parametrize("fps", [5, 15, 60])
    def test_after_one_time_constant_63_of_100_are_there_at_any_frame_rate(self, fps: int) -> None:
        tracker = Tracker(smoothing_s=0.4)
        tracker.smooth(1, self.scores(0), START)
        for k in range(1, round(0.4 * fps) + 1):
            smoothed = tracker.smooth(1, self.scores(1), START + k / fps)
        assert smoothed[0] == pytest.approx(0.632, abs=0.002)
        assert sum(smoothed) == pytest.approx(1)

    def test_a_gap_starts_anew(self) -> None:
        tracker = Tracker(smoothing_s=0.4)
        tracker.smooth(1, self.scores(0), START)
        assert tracker.smooth(1, self.scores(1), START + 1.5)[0] == 1

    def test_each_track_is_smoothed_by_itself(self) -> None:
        tracker = Tracker(smoothing_s=0.4)
        tracker.smooth(1, self.scores(0), START)
        assert tracker.smooth(2, self.scores(1), START + 0.1)[0] == 1

    def test_a_time_constant_of_nothing_smooths_nothing(self) -> None:
        tracker = Tracker(smoothing_s=0)
        tracker.smooth(1, self.scores(0), START)
        assert tracker.smooth(1, self.scores(1), START + 0.01)[0] == 1


def test_pairs_cost_the_least_that_is_possible() -> None:
    generator = np.random.default_rng(7)
    for _ in range(200):
        rows, columns = (int(n) for n in generator.integers(0, 5, 2))
        costs = generator.random((rows, columns)) * generator.choice([1, 100], (rows, columns))
        pairs = _cheapest_pairs(costs.tolist())
        count = min(rows, columns)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == count
        least = min(
            sum(costs[row, column] for row, column in zip(chosen, order, strict=True))
            for chosen in itertools.combinations(range(rows), count)
            for order in itertools.permutations(range(columns), count)
        )
        assert sum(costs[pair] for pair in pairs) == pytest.approx(least)


Walkers = Callable[[float], Iterator[tuple[ImageBGR, dict[str, float]]]]
"""Speed in pixels a second -> pictures and where in x each visible face is."""


@pytest.fixture(scope="module")
def walkers(portrait: ImageBGR) -> Walkers:
    """Two people cross: the portrait from the left, before it the same in blue from the right."""
    head = cv2.resize(portrait[:, :420], (197, 240), interpolation=cv2.INTER_AREA)
    other = head[:, ::-1, ::-1].copy()  # orange becomes blue; mirrored
    other[150:] = other[150:] // 2  # darker clothes
    face_x, width = 103, 197  # of the face's middle in `head`

    def frames(speed: float) -> Iterator[tuple[ImageBGR, dict[str, float]]]:
        for k in range(int(380 / speed * FPS)):
            picture = np.full((480, 640, 3), (120, 110, 100), np.uint8)
            left, right = round(10 + speed * k / FPS), round(430 - speed * k / FPS)
            picture[150:390, left : left + width] = head
            picture[130:370, right : right + width] = other
            places = {"orange": left + face_x, "blue": right + width - face_x}
            if right - 30 < places["orange"] < right + width + 30:
                del places["orange"]
            yield picture, {name: float(x) for name, x in places.items()}

    return frames


def who_is_where(tracked: Sequence[Tracked], places: dict[str, float]) -> dict[str, int]:
    found = {}
    for item in tracked:
        x, _, width, _ = item.detection.box_xywh
        for name, place in places.items():
            if abs(x + width / 2 - place) < 15:
                found[name] = item.track
    return found


class TestPictures:
    @pytest.mark.parametrize("speed", [100, 200, 350])
    def test_two_people_who_cross_are_not_taken_for_each_other(
        self, mtcnn: MtcnnDetector, walkers: Walkers, speed: float
    ) -> None:
        tracker = Tracker()
        seen: Counter[tuple[str, int]] = Counter()
        expected: Counter[str] = Counter()
        for k, (picture, places) in enumerate(walkers(speed)):
            tracked = tracker.follow(mtcnn, picture, START + k / FPS)
            seen.update(who_is_where(tracked, places).items())
            expected.update(places.keys())
        assert len(seen) == 2, f"numbers were swapped or lost: {seen}"
        for (name, _), frames in seen.items():
            assert frames >= 0.9 * expected[name]

    def test_a_person_behind_a_pillar_for_two_seconds_is_the_same_after(
        self, mtcnn: MtcnnDetector, two_faces: ImageBGR
    ) -> None:
        tracker = Tracker()
        hidden = two_faces.copy()
        hidden[:, 380:560] = (60, 80, 60)
        before = tracker.follow(mtcnn, two_faces, START)
        for k in range(1, 2 * FPS):
            assert len(tracker.follow(mtcnn, hidden, START + k / FPS)) == 1
        after = tracker.follow(mtcnn, two_faces, START + 2)
        assert sorted(numbers(before)) == [1, 2]
        then, now = (
            sorted((face.track, face.detection.box_xywh[0]) for face in seen)
            for seen in (before, after)
        )
        np.testing.assert_allclose(np.array(now), np.array(then), rtol=0, atol=3)

    @pytest.mark.parametrize(
        ("clip", "step"), [("changing-expressions.mp4", 2), ("sign-book.mkv", 2)]
    )
    def test_one_real_person_is_one_number_in_every_frame(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf, clip: str, step: int
    ) -> None:
        tracker = Tracker()
        rows = [numbers(tracker.follow(mtcnn, picture, t)) for t, picture in frames_of(clip, step)]
        assert {tuple(row) for row in rows} <= {(1,), ()}
        assert rows.count([1]) >= 0.98 * len(rows)

    def test_when_the_face_goes_its_track_ends(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf
    ) -> None:
        tracker = Tracker()
        rows = {t: tracker.follow(mtcnn, im, t) for t, im in frames_of("face-then-none.mov", 2)}
        assert all(numbers(row) == [1] for t, row in rows.items() if t < 2.35)
        assert all(row == [] for t, row in rows.items() if t > 2.45)
        assert tracker.state()["tracks"] == []

    @pytest.mark.parametrize(("clip", "step"), [("no-face.mp4", 1), ("long-small-faces.mp4", 3)])
    def test_where_no_face_can_be_seen_nobody_is_shown(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf, clip: str, step: int
    ) -> None:
        tracker = Tracker()
        assert all(tracker.follow(mtcnn, picture, t) == [] for t, picture in frames_of(clip, step))

    def test_three_people_are_three_numbers_and_do_not_swap(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf
    ) -> None:
        tracker = Tracker()
        orders = Counter(
            tuple(
                item.track
                for item in sorted(
                    tracker.follow(mtcnn, picture, t), key=lambda item: item.detection.box_xywh[0]
                )
            )
            for t, picture in frames_of("three-people.mp4")
        )
        assert orders.most_common(1)[0][1] >= 0.9 * orders.total()
        assert {number for order in orders for number in order} == {1, 2, 3}
        whole = orders.most_common(1)[0][0]
        for order in orders:
            assert list(order) == [number for number in whole if number in order]

    def test_a_looped_clip_does_not_bring_new_people(
        self, mtcnn: MtcnnDetector, frames_of: FramesOf
    ) -> None:
        tracker = Tracker()
        pictures = [image for _, image in frames_of("three-people.mp4")]
        seen = {
            item.track
            for k, image in enumerate(pictures * 2)
            for item in tracker.follow(mtcnn, image, START + k / 12.5)
        }
        assert seen == {1, 2, 3}
