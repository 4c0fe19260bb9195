"""Segments of recorded videos: every frame once, each face numbered from its first sighting."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared import config
from shared.media import Media
from shared.video import VideoOptions, segment_path, source_path
from tests.workers import recordings
from tests.workers.conftest import FramesOf
from tests.workers.recordings import HAPPY, NEUTRAL, found
from workers import footage
from workers.footage import Reader
from workers.pipeline import Pipeline, load_pipeline
from workers.sources import DEMO_CLIP
from workers.tracking import FORGET_S
from workers.video import (
    Found,
    Seen,
    analyse_segment,
    frames_missing,
    frontality,
    number_faces,
    read_frames,
    track,
)
from workers.vision.detector import Detection, ImageBGR


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(config.load())


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(str(tmp_path / "media"))


def lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def numbered(*frames: Found) -> list[tuple[float, list[int]]]:
    return [(t, [face.track for face in faces]) for t, faces in number_faces(frames, smoothing_s=0)]


class TestSegments:
    def test_a_segment_has_every_frame_at_its_own_time(
        self, pipeline: Pipeline, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        clip = recordings.portrait_clip(tmp_path / "a.mp4", portrait, lambda _: True, frames=95)
        plan = footage.plan(clip, VideoOptions())
        assert len(plan.segments) > 1
        times: list[float] = []
        reader = Reader(clip, plan)
        for segment in plan.segments:
            data = analyse_segment(pipeline, reader, segment, between=lambda _: None)
            *frames, end = lines(data)
            times += [t for t, _ in frames]
            assert all(len(faces) == 1 for _, faces in frames)
            assert end == {"missing": 0}
        assert times == recordings.frame_times(clip)

    def test_a_segment_analysed_twice_is_the_same_file(
        self, pipeline: Pipeline, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        clip = recordings.portrait_clip(tmp_path / "a.mp4", portrait, lambda _: True, frames=12)
        plan = footage.plan(clip, VideoOptions())
        first, second = (
            analyse_segment(
                pipeline, Reader(source, plan), plan.segments[0], between=lambda _: None
            )
            for source in (clip, io.BytesIO(clip.read_bytes()))
        )
        assert first == second

    def test_it_says_how_far_it_is_and_ends_when_told_to(
        self, pipeline: Pipeline, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        clip = recordings.portrait_clip(tmp_path / "a.mp4", portrait, lambda _: False, frames=40)
        plan = footage.plan(clip, VideoOptions())
        steps: list[int] = []
        analyse_segment(pipeline, Reader(clip, plan), plan.segments[0], between=steps.append)
        assert steps == sorted(steps)
        assert steps[-1] == 40
        assert max(b - a for a, b in zip([0, *steps], steps, strict=False)) <= 16

        class Stop(Exception):
            pass

        def stop(done: int) -> None:
            raise Stop

        with pytest.raises(Stop):
            analyse_segment(pipeline, Reader(clip, plan), plan.segments[0], between=stop)

    def test_boxes_are_pixels_of_the_video_however_large_it_is(
        self, pipeline: Pipeline, portrait: ImageBGR, tmp_path: Path
    ) -> None:
        wide = portrait.repeat(5, axis=0).repeat(5, axis=1)[:1440, :]  # the face at 900, 325
        clip = recordings.write_clip(tmp_path / "wide.mp4", [wide] * 2)
        plan = footage.plan(clip, VideoOptions())
        (_, [row]), *_ = lines(
            analyse_segment(pipeline, Reader(clip, plan), plan.segments[0], between=lambda _: None)
        )
        x, y, width, height = row[0]
        assert x < 1100 < x + width
        assert y < 600 < y + height


class TestNumbers:
    def test_a_face_keeps_its_number_over_the_borders_of_segments(self, media: Media) -> None:
        frames = [(k / 10, [(100.0 + k, 0.99, NEUTRAL)]) for k in range(40)]
        video = recordings.put_video(media, frames)
        whole = footage.Plan.from_json(media.read(f"videos/{video.id}/plan.json"))
        track(media, video, whole, smoothing_s=0.4)
        at_once = list(read_frames(media, video.id))
        plan = replace(whole, segments=(footage.Segment(0), footage.Segment(1)))
        recordings.put_segment(media, video, 0, frames[:15])
        recordings.put_segment(media, video, 1, frames[15:])
        track(media, video, plan, smoothing_s=0.4)
        assert list(read_frames(media, video.id)) == at_once
        assert {face.track for _, faces in at_once for face in faces} == {1}

    def test_a_segment_that_is_not_there_is_left_out_and_counted(self, media: Media) -> None:
        frames = [(k / 10, [(100.0, 0.99, NEUTRAL)]) for k in range(20)]
        video = recordings.put_video(media, frames[:12], frames_total=20)
        plan = footage.Plan.from_json(media.read(f"videos/{video.id}/plan.json"))
        plan = replace(plan, segments=(*plan.segments, footage.Segment(1)))
        track(media, video, plan, smoothing_s=0.4)
        assert [t for t, _ in read_frames(media, video.id)] == [t for t, _ in frames[:12]]
        assert frames_missing(media, video, plan, analysed=12) == 8

    def test_where_only_the_decoder_tells_what_it_could_not_read_is_missing(
        self, media: Media
    ) -> None:
        video = recordings.put_video(media, [(0.0, [])])
        media.write(segment_path(video.id, 0), gzip.compress(b'[0.0,[]]\n{"missing":3}\n'))
        plan = footage.Plan.from_json(media.read(f"videos/{video.id}/plan.json"))
        plan = replace(plan, timed_by="decoder", frames_total=50)
        assert frames_missing(media, video, plan, analysed=1) == 3

    def test_an_unsure_face_is_somebody_from_its_first_sighting_on(self) -> None:
        frames = [found(k / 10, (100.0, 0.89, NEUTRAL)) for k in range(6)]
        assert numbered(*frames) == [(frame.t, [1]) for frame in frames]

    def test_a_face_seen_once_and_unsurely_is_nobody(self) -> None:
        assert numbered(found(0.0, (100.0, 0.85, NEUTRAL)), found(0.1)) == [(0.0, []), (0.1, [])]

    def test_what_was_seen_elsewhere_before_is_not_taken_for_a_new_person(self) -> None:
        rows = numbered(
            found(0.0, (400.0, 0.85, NEUTRAL)),
            found(0.1, (400.0, 0.85, NEUTRAL), (100.0, 0.99, NEUTRAL)),
        )
        assert rows == [(0.0, []), (0.1, [1])]

    def test_what_was_seen_long_before_is_not_taken_for_a_new_person(self) -> None:
        rows = numbered(
            found(0.0, (100.0, 0.85, NEUTRAL)),
            found(0.2),
            found(0.5, (100.0, 0.99, NEUTRAL)),
        )
        assert rows == [(0.0, []), (0.2, []), (0.5, [1])]

    def test_a_new_person_takes_nothing_from_one_close_by(self) -> None:
        rows = numbered(
            found(0.0, (100.0, 0.99, NEUTRAL)),
            found(0.1, (100.0, 0.99, NEUTRAL), (140.0, 0.99, NEUTRAL)),
        )
        assert rows == [(0.0, [1]), (0.1, [1, 2])]

    def test_somebody_who_comes_back_late_is_new_and_looks_back_to_nobody_else(self) -> None:
        rows = numbered(
            found(0.0, (100.0, 0.99, NEUTRAL)),
            found(1.0 + FORGET_S, (100.0, 0.99, NEUTRAL)),
        )
        assert rows == [(0.0, [1]), (1.0 + FORGET_S, [2])]

    def test_scores_are_smoothed_in_order_of_time(self) -> None:
        frames = [found(0.0, (100.0, 0.99, NEUTRAL)), found(0.1, (100.0, 0.99, HAPPY))]
        (_, [first]), (_, [second]) = number_faces(frames, smoothing_s=0.4)
        assert first.scores == pytest.approx(NEUTRAL)
        assert NEUTRAL[1] < second.scores[1] < HAPPY[1]
        assert sum(second.scores) == pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize("first_frame", [1, 17, 40])
    def test_a_face_that_appears_half_way_starts_there(
        self,
        pipeline: Pipeline,
        portrait: ImageBGR,
        media: Media,
        tmp_path: Path,
        first_frame: int,
    ) -> None:
        clip = recordings.portrait_clip(
            tmp_path / "a.mp4", portrait, lambda k: k >= first_frame, frames=60
        )
        seen = analysed(pipeline, media, clip)
        assert [t for t, faces in seen if faces] == recordings.frame_times(clip)[first_frame:]


def analysed(pipeline: Pipeline, media: Media, clip: Path) -> list[tuple[float, list[Seen]]]:
    """The tracked frames of a clip; its segments are analysed from the last to the first."""
    video = recordings.put_video(media, [], source=clip)
    plan = footage.plan(clip, VideoOptions())
    for segment in reversed(plan.segments):
        with media.open(source_path(video.id)) as file, Reader(file, plan) as reader:
            data = analyse_segment(pipeline, reader, segment, between=lambda _: None)
        media.write(segment_path(video.id, segment.index), data)
    track(media, video, plan, smoothing_s=0.4)
    return list(read_frames(media, video.id))


class TestRealClips:
    """Clips of real faces, which lie beside the checkout."""

    @pytest.mark.parametrize(
        ("name", "first_s", "last_s"),
        [("sign-book.mkv", 0.0, 3.7), ("face-then-none.mov", 0.0, 2.5)],
    )
    def test_one_person_is_seen_while_there_is_one(
        self,
        pipeline: Pipeline,
        media: Media,
        clips: Path,
        name: str,
        first_s: float,
        last_s: float,
    ) -> None:
        frames = analysed(pipeline, media, clips / name)
        assert [t for t, _ in frames] == recordings.frame_times(clips / name)
        seen = [t for t, faces in frames if faces]
        assert {face.track for _, faces in frames for face in faces} == {1}
        assert seen[0] == pytest.approx(first_s, abs=0.2)
        assert seen[-1] == pytest.approx(last_s, abs=0.2)

    def test_without_a_face_there_are_frames_and_nobody(
        self, pipeline: Pipeline, media: Media, clips: Path
    ) -> None:
        frames = analysed(pipeline, media, clips / "no-face.mp4")
        assert [t for t, _ in frames] == recordings.frame_times(clips / "no-face.mp4")
        assert not any(faces for _, faces in frames)

    def test_a_face_that_appears_half_way_starts_within_a_fifth_of_a_second(
        self,
        pipeline: Pipeline,
        media: Media,
        frames_of: FramesOf,
        tmp_path: Path,
    ) -> None:
        pictures = [picture for _, picture in frames_of("face-then-none.mov")]
        clip = recordings.write_clip(tmp_path / "turned.mp4", pictures[::-1], fps=30, gop=48)
        seen = [t for t, faces in analysed(pipeline, media, clip) if faces]
        assert seen[0] == pytest.approx((len(pictures) - 72) / 30, abs=0.2)
        assert len(seen) == pytest.approx(72, abs=6)


def test_the_demo_is_one_person_in_every_frame(pipeline: Pipeline, media: Media) -> None:
    frames = analysed(pipeline, media, DEMO_CLIP)
    assert [t for t, _ in frames] == recordings.frame_times(DEMO_CLIP)
    assert all([face.track for face in faces] == [1] for _, faces in frames)


@pytest.mark.parametrize(
    ("nose_x", "expected"), [(50, 1.0), (40, 0.5), (30, 0.0), (70, 0.0), (110, 0.0)]
)
def test_a_face_is_frontal_where_the_nose_is_half_way_between_the_eyes(
    nose_x: float, expected: float
) -> None:
    eyes_nose_mouth = ((30.0, 40.0), (70.0, 40.0), (nose_x, 60.0), (35.0, 80.0), (65.0, 80.0))
    face = Detection((0, 0, 100, 120), 0.99, eyes_nose_mouth)
    assert frontality(face) == pytest.approx(expected)
