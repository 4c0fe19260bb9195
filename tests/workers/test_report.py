"""The report: complete, small where a page reads it, and the same bytes for the same video."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shared.errors import MediaError, NotFound
from shared.media import Media
from shared.schema import Face
from shared.video import People, ReportExtra, Video, frames_path, plan_path, report_path
from tests.workers import recordings
from tests.workers.recordings import CARD, HAPPY, LABELS, NEUTRAL, TORN, Row
from workers.footage import Plan
from workers.report import derive
from workers.video import track
from workers.vision.detector import ImageBGR

FACES: list[tuple[float, list[Row]]] = [
    (0.0, [(100, 0.99, HAPPY)]),
    (0.1, [(100, 0.99, HAPPY), (400, 0.99, NEUTRAL)]),
    (0.2, [(100, 0.99, TORN), (400, 0.99, NEUTRAL)]),
    (0.3, []),
    (0.4, [(400, 0.99, NEUTRAL)]),
]


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(str(tmp_path / "media"))


def reported(
    media: Media,
    frames: Sequence[tuple[float, Sequence[Row]]],
    people: People | None = None,
    **how: Any,
) -> Video:
    video = recordings.put_video(media, frames, **how)
    plan = Plan.from_json(media.read(plan_path(video.id)))
    track(media, video, plan, smoothing_s=0)
    derive(media, video, people or People(), CARD)
    return video


def read(media: Media, video: Video, name: str) -> Any:
    return json.loads(media.read(report_path(video.id, name)))


def all_files(media: Media, video: Video) -> dict[str, bytes]:
    names = ["results.json", "results.csv", "summary.json"]
    for folder in ("boxes", "faces"):
        names += [f"{folder}/{name}" for name in media.list(report_path(video.id, folder))]
    return {name: media.read(report_path(video.id, name)) for name in names}


class TestResults:
    def test_every_frame_and_face_is_there(self, media: Media) -> None:
        results = read(media, reported(media, FACES), "results.json")
        assert list(results) == ["video", "model", "frames", "tracks"]
        assert results["video"] == {
            "name": "clip.mp4",
            "duration_s": 0.5,
            "fps": 10.0,
            "width": 640,
            "height": 480,
            "frames_total": 5,
            "frames_analysed": 5,
        }
        assert results["model"] == {"name": "test", "version": "1", "labels": list(LABELS)}
        assert [(row["index"], row["t"]) for row in results["frames"]] == [
            (index, t) for index, (t, _) in enumerate(FACES)
        ]
        tracks = [[face["track"] for face in row["faces"]] for row in results["frames"]]
        assert tracks == [[1], [1, 2], [1, 2], [], [2]]
        face = results["frames"][0]["faces"][0]
        assert face == Face.from_dict(face).to_dict()
        assert face["box"] == [100, 100, 80, 100]
        assert (face["emotion"], face["confidence"], face["unsure"]) == ("happy", 0.8, False)
        unsure = results["frames"][2]["faces"][0]
        assert (unsure["emotion"], unsure["unsure"]) == ("neutral", True)

    def test_tracks_sum_up(self, media: Media) -> None:
        first, second = read(media, reported(media, FACES), "results.json")["tracks"]
        assert (first["id"], first["start_s"], first["end_s"], first["frames"]) == (1, 0.0, 0.2, 3)
        assert (second["start_s"], second["end_s"], second["frames"]) == (0.1, 0.4, 3)
        assert first["dominant"] == "happy"
        assert first["mean_scores"] == {
            label: pytest.approx((2 * HAPPY[i] + TORN[i]) / 3, abs=1e-4)
            for i, label in enumerate(LABELS)
        }

    def test_the_table_says_the_same(self, media: Media) -> None:
        video = reported(media, FACES)
        text = media.read(report_path(video.id, "results.csv")).decode()
        header, *rows = csv.reader(io.StringIO(text))
        assert ",".join(header) == (
            "frame,t,track,x,y,width,height,emotion,confidence,neutral,happy,sad"
        )
        faces = [
            [
                *(str(row["index"]), repr(row["t"]), str(face["track"])),
                *map(str, face["box"]),
                *(face["emotion"], repr(face["confidence"])),
                *(repr(score) for score in face["scores"].values()),
            ]
            for row in read(media, video, "results.json")["frames"]
            for face in row["faces"]
        ]
        assert rows == faces

    def test_times_keep_their_last_bit(self, media: Media) -> None:
        frames: list[tuple[float, list[Row]]] = [(k / 30, []) for k in range(50)]
        results = read(media, reported(media, frames, fps=30), "results.json")
        assert [row["t"] for row in results["frames"]] == [t for t, _ in frames]

    def test_without_a_face_it_is_a_report_of_nobody(self, media: Media) -> None:
        video = reported(media, [(k / 10, []) for k in range(3)])
        results, summary = read(media, video, "results.json"), read(media, video, "summary.json")
        assert [row["faces"] for row in results["frames"]] == [[], [], []]
        assert results["tracks"] == summary["people"] == summary["together"] == []
        assert summary["timeline"] == {}

    def test_without_a_frame_it_is_a_report_too(self, media: Media) -> None:
        results = read(media, reported(media, []), "results.json")
        assert results["frames"] == results["tracks"] == []
        assert results["video"]["frames_analysed"] == 0

    def test_a_name_of_any_script_is_kept(self, media: Media) -> None:
        video = recordings.put_video(media, FACES)
        video = replace(video, name='"Ünï" 😀.mp4')
        track(media, video, Plan.from_json(media.read(plan_path(video.id))), smoothing_s=0)
        derive(media, video, People(), CARD)
        assert read(media, video, "results.json")["video"]["name"] == '"Ünï" 😀.mp4'


class TestSummary:
    def test_it_says_what_a_page_needs(self, media: Media) -> None:
        summary = read(media, reported(media, FACES), "summary.json")
        assert summary["revision"] == 0
        assert summary["model"]["unsure_below"] == CARD.unsure_below
        facts = {"start_s": 0.0, "playable": True, "ended_early": "", "frames_missing": 0}
        assert facts.items() <= summary["video"].items()
        first, second = summary["people"]
        assert (first["id"], first["name"], first["merged"]) == (1, None, [])
        assert first["seconds_seen"] == pytest.approx(0.3)
        assert second["seconds_seen"] == pytest.approx(0.3)
        assert first["shares"] == {
            "neutral": 0,
            "happy": pytest.approx(2 / 3, abs=1e-4),
            "sad": 0,
            "unsure": pytest.approx(1 / 3, abs=1e-4),
        }
        assert first["moments"] == [{"label": "happy", "t": 0.0, "confidence": 0.8}]
        assert summary["together"] == [[1, 2]]

    def test_a_person_seen_now_and_then_was_seen_for_no_longer_than_that(
        self, media: Media
    ) -> None:
        frames: list[tuple[float, list[Row]]] = [
            (t, [(100, 0.99, HAPPY)]) for t in (0.0, 0.1, 2.0, 2.1)
        ]
        (person,) = read(media, reported(media, frames), "summary.json")["people"]
        assert person["seconds_seen"] == pytest.approx(0.3)

    def test_the_timeline_has_a_hole_where_nobody_looked(self, media: Media) -> None:
        frames: list[tuple[float, list[Row]]] = [
            (t, [(100, 0.99, HAPPY)] if t != 1.0 else []) for t in (0.0, 0.1, 1.0, 2.0)
        ]
        summary = read(media, reported(media, frames), "summary.json")
        assert summary["timeline"] == {
            "1": [
                [0.0, *HAPPY],
                [0.1, *HAPPY],
                [pytest.approx(1.05), None, None, None],
                [2.0, *HAPPY],
            ]
        }

    def test_a_long_video_of_three_people_stays_below_a_megabyte(self, media: Media) -> None:
        row: list[Row] = [(50, 0.99, HAPPY), (250, 0.99, NEUTRAL), (450, 0.99, TORN)]
        frames = [(k / 10, row if k % 900 < 800 else []) for k in range(6_000)]
        video = reported(media, frames)
        assert media.size(report_path(video.id, "summary.json")) < 1_000_000
        summary = read(media, video, "summary.json")
        timeline = summary["timeline"]
        assert sum(map(len, timeline.values())) <= 12_000
        for person, points in timeline.items():
            times = [t for t, *_ in points]
            assert times == sorted(times)
            seen = [scores for _, *scores in points if scores[0] is not None]
            expected = {"1": HAPPY, "2": NEUTRAL, "0": TORN}[str(int(person) % 3)]
            assert np.allclose(seen, expected, atol=2e-3)
            starts = next(p for p in summary["people"] if p["id"] == int(person))["start_s"]
            assert times[0] == pytest.approx(starts, abs=2)

    def test_boxes_lie_in_files_of_ten_seconds(self, media: Media) -> None:
        frames: list[tuple[float, list[Row]]] = [
            (k / 10, [(100, 0.99, HAPPY), (400, 0.99, TORN)] if k > 9 else []) for k in range(150)
        ]
        video = reported(media, frames)
        assert read(media, video, "summary.json")["boxes_s"] == 10
        assert media.list(report_path(video.id, "boxes")) == ["00000.json", "00001.json"]
        first, second = (read(media, video, f"boxes/0000{number}.json") for number in (0, 1))
        assert first["t"] + second["t"] == [t for t, _ in frames]
        assert second["t"][0] == 10.0
        assert first["faces"][0] == []
        assert second["faces"][0] == [
            [1, 100, 100, 80, 100, LABELS.index("happy"), 0.8, 0],
            [2, 400, 100, 80, 100, LABELS.index("neutral"), 0.4, 1],
        ]

    def test_frames_that_could_not_be_decoded_are_counted(self, media: Media) -> None:
        video = reported(media, FACES, frames_total=8)
        assert read(media, video, "summary.json")["video"]["frames_missing"] == 3
        facts = read(media, video, "results.json")["video"]
        assert (facts["frames_total"], facts["frames_analysed"]) == (8, 5)


class TestEdits:
    def test_people_who_are_one_are_one_everywhere(self, media: Media) -> None:
        frames: list[tuple[float, list[Row]]] = [
            (0.0, [(100, 0.99, HAPPY)]),
            (9.0, [(100, 0.99, NEUTRAL)]),
        ]
        video = reported(media, frames, People(1, {}, {2: 1}))
        results, summary = read(media, video, "results.json"), read(media, video, "summary.json")
        assert [row["faces"][0]["track"] for row in results["frames"]] == [1, 1]
        assert [(t["id"], t["start_s"], t["end_s"]) for t in results["tracks"]] == [(1, 0.0, 9.0)]
        (person,) = summary["people"]
        assert (person["merged"], person["frames"], list(summary["timeline"])) == ([2], 2, ["1"])

    @pytest.mark.parametrize(
        "steps",
        [
            [People(1, {1: "Ada"})],
            [People(1, {1: "Ada"}), People(2, {2: "Grace"})],
            [People(1, {}, {2: 1}), People(2, {1: "Ada"}, {2: 1})],
            [People(1, {}, {2: 1}), People(2)],
        ],
    )
    def test_edits_one_by_one_give_what_the_last_gives_alone(
        self, media: Media, steps: list[People]
    ) -> None:
        one_by_one = recordings.put_video(media, FACES)
        plan = Plan.from_json(media.read(plan_path(one_by_one.id)))
        track(media, one_by_one, plan, smoothing_s=0)
        derive(media, one_by_one, People(), CARD)
        for people in steps:
            derive(media, one_by_one, people, CARD)
        alone = reported(media, FACES, steps[-1])
        assert all_files(media, one_by_one) == all_files(media, alone)
        summary = read(media, one_by_one, "summary.json")
        assert summary["revision"] == steps[-1].revision
        names = {row["id"]: row["name"] for row in summary["people"] if row["name"]}
        assert names == steps[-1].names

    def test_a_name_alone_leaves_the_large_files_as_they_are(self, media: Media) -> None:
        video = reported(media, FACES)
        media.delete(report_path(video.id, "results.json"))
        derive(media, video, People(1, {1: "Ada"}), CARD)
        assert not media.exists(report_path(video.id, "results.json"))

    def test_after_a_run_that_was_cut_off_nothing_is_taken_for_done(
        self, media: Media, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        video = reported(media, FACES)
        before = all_files(media, video)

        def full(*_: object) -> None:
            raise MediaError("no space")

        with monkeypatch.context() as patch:
            patch.setattr("workers.report._write_pictures", full)
            with pytest.raises(MediaError):
                derive(media, video, People(1, {}, {2: 1}), CARD)
        derive(media, video, People(), CARD)
        assert all_files(media, video) == before

    def test_what_was_left_out_is_made_when_it_is_asked_for(self, media: Media) -> None:
        video = reported(media, FACES)
        whole = all_files(media, video)
        media.delete(report_path(video.id, "summary.json"))
        media.delete(report_path(video.id, ReportExtra.TABLE))
        derive(media, video, People(), CARD, extras=[ReportExtra.BOXES])
        assert not media.exists(report_path(video.id, ReportExtra.TABLE))
        derive(media, video, People(), CARD)
        assert all_files(media, video) == whole

    def test_frames_tracked_anew_make_a_new_report(self, media: Media) -> None:
        video = reported(media, FACES)
        recordings.put_segment(media, video, 0, FACES[:2])
        plan = Plan.from_json(media.read(plan_path(video.id)))
        track(media, video, plan, smoothing_s=0)
        derive(media, video, People(), CARD)
        assert read(media, video, "results.json")["video"]["frames_analysed"] == 2


class TestPictures:
    def test_each_person_has_one_of_the_best_moment(
        self, media: Media, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        clip = recordings.portrait_clip(
            tmp_path / "clip.mp4", portrait, lambda k: k == 5, frames=10
        )
        rows: list[Row] = [(100, 0.96, HAPPY)]
        frames = [(k / 10, rows if k != 5 else [(100.0, 0.99, HAPPY)]) for k in range(10)]
        video = reported(media, frames, source=clip)
        (person,) = read(media, video, "summary.json")["people"]
        assert person["face"] == "faces/1.jpg"
        jpeg = media.read(report_path(video.id, "faces/1.jpg"))
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (160, 160, 3)
        assert picture.std() > 20  # the wall of all other moments is even

    def test_of_moments_as_good_the_one_that_is_decoded_soonest(
        self, media: Media, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        clip = recordings.portrait_clip(
            tmp_path / "clip.mp4", portrait, lambda k: k == 1, frames=20, gop=20
        )
        scores = {1: 0.985, 15: 0.99}
        frames = [(k / 10, [(100.0, scores.get(k, 0.9), HAPPY)]) for k in range(20)]
        video = reported(media, frames, source=clip)
        jpeg = media.read(report_path(video.id, "faces/1.jpg"))
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.std() > 20  # the wall of all other moments is even

    def test_somebody_who_became_another_has_none_of_their_own(
        self, media: Media, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        clip = recordings.portrait_clip(tmp_path / "clip.mp4", portrait, lambda _: True, frames=5)
        video = reported(media, FACES, source=clip)
        assert media.list(report_path(video.id, "faces")) == ["1.jpg", "2.jpg"]
        derive(media, video, People(1, {}, {1: 2}), CARD)
        assert media.list(report_path(video.id, "faces")) == ["2.jpg"]


def test_what_is_missing_is_named(media: Media) -> None:
    video = recordings.put_video(media, FACES)
    with pytest.raises(NotFound, match="frames"):
        derive(media, video, People(), CARD)
    assert not media.exists(frames_path(video.id))
