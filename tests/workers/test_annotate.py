"""Copies of videos: every frame once, at its time, with what was found in it, and its sound."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from shared import config
from shared.errors import NotFound, SourceError
from shared.media import Media
from shared.video import People, Video, VideoOptions, plan_path, segment_path, source_path
from tests.workers import recordings
from tests.workers.footage_clips import H264, RECIPES, ffmpeg, pattern
from tests.workers.recordings import CARD, HAPPY, Row
from workers import annotate, footage
from workers.footage import Plan, Reader
from workers.mp4 import Clock
from workers.pipeline import Pipeline, load_pipeline
from workers.report import derive
from workers.video import analyse_segment, track
from workers.vision.detector import ImageBGR, MtcnnDetector

Times = list[float]
SIZE_WH = (640, 480)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(str(tmp_path / "media"))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(config.load())


def ignore(_done: int, _total: int) -> None:
    pass


def stored(media: Media, source: Path, options: VideoOptions | None = None) -> Video:
    """Keep and plan a video, as it is before anything was found in it."""
    video = Video.new(
        source.name,
        size_bytes=source.stat().st_size,
        footage=footage.probe(source),
        options=options,
    )
    media.write(source_path(video.id), source.read_bytes())
    media.write(plan_path(video.id), footage.plan(source, video.options).to_json().encode())
    return video


def plan_of(media: Media, video: Video) -> Plan:
    return Plan.from_json(media.read(plan_path(video.id)))


def reported(
    media: Media, source: Path, frames: Sequence[tuple[float, Sequence[Row]]], **names: str
) -> Video:
    """A video in which just these faces were found."""
    video = stored(media, source)
    for segment in plan_of(media, video).segments:
        recordings.put_segment(media, video, segment.index, frames if segment.index == 0 else [])
    track(media, video, plan_of(media, video), smoothing_s=0)
    people = People(names={int(number[1:]): name for number, name in names.items()})
    derive(media, video, people, CARD)
    return video


def analysed(
    media: Media, source: Path, pipeline: Pipeline, options: VideoOptions | None = None
) -> Video:
    """A video with what the real networks find in it."""
    video = stored(media, source, options)
    plan = plan_of(media, video)
    for segment in plan.segments:
        found = analyse_segment(pipeline, Reader(source, plan), segment, between=lambda _: None)
        media.write(segment_path(video.id, segment.index), found)
    finish(media, video, pipeline)
    return video


def finish(media: Media, video: Video, pipeline: Pipeline) -> None:
    track(media, video, plan_of(media, video), smoothing_s=0.3)
    derive(media, video, People(), pipeline.card)


def annotated(media: Media, video: Video, folder: Path, *, blur: bool = False) -> Path:
    target = folder / f"annotated-{blur}.mp4"
    with target.open("wb") as file:
        annotate.annotate(media, video, file, blur=blur, between=ignore)
    return target


def previewed(media: Media, video: Video, folder: Path) -> Path:
    target = folder / "preview.mp4"
    with target.open("wb") as file:
        annotate.preview(media, video, file, between=ignore)
    return target


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def pictures_of(path: Path) -> Iterator[ImageBGR]:
    for frame in decoded(path):
        yield frame.to_ndarray(format="bgr24").astype(np.uint8)


def from_first(frames: Sequence[av.VideoFrame]) -> Times:
    return [float(frame.time) - float(frames[0].time) for frame in frames]


def white_square(x: int, size_wh: tuple[int, int] = SIZE_WH) -> ImageBGR:
    """A dark picture with white where `recordings` puts a face of 80 x 100 pixels."""
    picture = np.full((size_wh[1], size_wh[0], 3), 60, np.uint8)
    picture[100:200, x : x + 80] = 255
    return picture


def moving(path: Path, count: int = 12) -> tuple[Path, list[tuple[float, list[Row]]]]:
    """A clip in which the square moves, and its one face in each frame."""
    lefts = [40 + 35 * number for number in range(count)]
    recordings.write_clip(path, map(white_square, lefts))
    times = recordings.frame_times(path)
    return path, [(t, [(x, 0.99, HAPPY)]) for t, x in zip(times, lefts, strict=True)]


class TestFrames:
    @pytest.mark.parametrize(
        "name",
        [
            *("open-gop.ts", "hevc.mp4", "vp9.webm", "mpeg4.avi", "h264.flv", "late-start.mkv"),
            *("10-bit.mp4", "fields.ts", "one-frame.mp4", "two-frames.webm"),
        ],
    )
    def test_each_is_there_once_and_at_its_own_time(
        self, media: Media, tmp_path: Path, name: str
    ) -> None:
        source = pattern(tmp_path / name, *RECIPES[name], seconds=2)
        copy = decoded(previewed(media, stored(media, source), tmp_path))
        assert from_first(copy) == pytest.approx(from_first(decoded(source)), abs=0.001)
        assert copy[0].format.name == "yuv420p"

    def test_uneven_times_stay_as_they_are(self, media: Media, tmp_path: Path) -> None:
        source, times = tmp_path / "uneven.mkv", [0, 40, 50, 300, 301, 1500, 1533]
        with av.open(str(source), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            for number, pts in enumerate(times):
                frame = av.VideoFrame.from_ndarray(white_square(40 * number), format="bgr24")
                frame.pts, frame.time_base = pts, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        video = reported(media, source, [(pts / 1000, [(0, 0.99, HAPPY)]) for pts in times])
        for copy in (annotated(media, video, tmp_path), previewed(media, video, tmp_path)):
            assert [round(1000 * t) for t in from_first(decoded(copy))] == times

    @pytest.mark.parametrize("turn", [90, 180, 270])
    def test_they_are_upright_and_of_even_size(
        self, media: Media, tmp_path: Path, turn: int
    ) -> None:
        flat, source = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
        picture = np.full((98, 151, 3), 60, np.uint8)
        picture[:20, :40] = 255
        with av.open(str(flat), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
            stream.width, stream.height, stream.pix_fmt = 151, 98, "yuv444p"
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(stream.encode())
        ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v", f"rotate={turn}", source)
        rotation = decoded(source)[0].rotation  # counterclockwise, whichever way ffmpeg wrote it
        assert abs(rotation) in (turn, 360 - turn)
        upright = np.rot90(picture, rotation // 90)
        copy = next(pictures_of(previewed(media, stored(media, source), tmp_path)))
        height, width = upright.shape[:2]
        assert copy.shape[:2] == (height + height % 2, width + width % 2)
        wrong = np.abs(copy[:height, :width].astype(int) - upright.astype(int)).mean()
        assert wrong < 6

    def test_colours_stay_as_they_are(self, media: Media, tmp_path: Path) -> None:
        for number, tags in enumerate(
            ([], ["-colorspace", "bt709"], ["-color_range", "pc"], ["-colorspace", "smpte170m"])
        ):
            source = tmp_path / f"bars-{number}.mp4"
            bars = ("-f", "lavfi", "-i", "smptebars=size=320x240:rate=5:duration=1")
            ffmpeg(*bars, *H264, "-crf", "10", *tags, source)
            copy = previewed(media, stored(media, source), tmp_path)
            before, after = (
                next(pictures_of(path))[:, 20:300:46].astype(int) for path in (source, copy)
            )
            assert np.abs(before - after).mean() < 3, tags

    def test_wide_ones_are_scaled_down_for_the_preview(self, media: Media, tmp_path: Path) -> None:
        source = pattern(tmp_path / "wide.mp4", *H264, size="1920x1080", seconds=0.2)
        copy = next(pictures_of(previewed(media, stored(media, source), tmp_path)))
        assert copy.shape == (720, 1280, 3)

    def test_of_a_part_only_that_is_copied(self, media: Media, tmp_path: Path) -> None:
        source = pattern(tmp_path / "long.mp4", *RECIPES["h264.mp4"], "-shortest", sound=True)
        video = stored(media, source, VideoOptions(start_s=5.02, end_s=6.5))
        plan = plan_of(media, video)
        recordings.put_segment(media, video, 0, [])
        track(media, video, plan, smoothing_s=0)
        derive(media, video, People(), CARD)
        copy = annotated(media, video, tmp_path)
        wanted = [t for t in recordings.frame_times(source) if 5.02 <= t < 6.5]
        times = recordings.frame_times(copy)
        assert len(times) == len(wanted) == plan.frames_total
        assert times == pytest.approx([t - 5.02 for t in wanted], abs=0.001)
        heard = sound_of(copy)
        assert heard[-1][0] < 1.6


class TestOverlay:
    def test_boxes_sit_on_the_faces_of_that_very_frame(self, media: Media, tmp_path: Path) -> None:
        source, frames = moving(tmp_path / "moving.mp4")
        video = reported(media, source, frames)
        pictures = list(pictures_of(annotated(media, video, tmp_path)))
        assert len(pictures) == len(frames)
        for picture, (_, [(x, *_)]) in zip(pictures, frames, strict=True):
            row = yellow(picture)[150]
            marked = np.flatnonzero(row)
            assert marked.size
            assert abs(marked.min() - x) <= 4
            assert abs(marked.max() - (x + 80)) <= 4
            assert not row[int(x) + 10 : int(x) + 70].any()

    def test_a_frame_that_was_not_analysed_keeps_the_last_ones_boxes_for_a_moment(
        self, media: Media, tmp_path: Path
    ) -> None:
        source, frames = moving(tmp_path / "moving.mp4", 10)
        known = [*frames[:3], *frames[4:5], *frames[9:]]  # 3 is missing, 5 to 8 are
        video = reported(media, source, known)
        shown = [
            bool(yellow(picture)[150].any())
            for picture in pictures_of(annotated(media, video, tmp_path))
        ]
        assert shown == [True] * 6 + [False] * 3 + [True]

    def test_people_go_by_their_names_but_not_in_a_blurred_copy(
        self, media: Media, tmp_path: Path
    ) -> None:
        source, frames = moving(tmp_path / "moving.mp4", 3)
        named, nameless = (
            reported(media, source, frames, **names) for names in ({"p1": "Ada"}, {})
        )
        plain = [next(pictures_of(annotated(media, v, tmp_path))) for v in (named, nameless)]
        hidden = [
            next(pictures_of(annotated(media, v, tmp_path, blur=True))) for v in (named, nameless)
        ]
        assert np.abs(plain[0].astype(int) - plain[1]).max() > 100
        assert np.array_equal(hidden[0], hidden[1])


class TestBlur:
    def test_no_frame_shows_a_face_also_where_it_was_missed(
        self,
        media: Media,
        tmp_path: Path,
        portrait: ImageBGR,
        pipeline: Pipeline,
        mtcnn: MtcnnDetector,
    ) -> None:
        lefts = [10 + 6 * number for number in range(24)]
        source = recordings.write_clip(tmp_path / "a.mp4", (on_wall(portrait, x) for x in lefts))
        video = analysed(media, source, pipeline)
        forget(media, video, {0, 5, 6, 7, 8, 9, 13, 23})
        finish(media, video, pipeline)
        self.check(media, video, tmp_path, source, mtcnn)

    def test_frames_that_were_not_analysed_are_searched(
        self,
        media: Media,
        tmp_path: Path,
        portrait: ImageBGR,
        pipeline: Pipeline,
        mtcnn: MtcnnDetector,
    ) -> None:
        wall = np.full((240, 320, 3), 90, np.uint8)
        scene = [on_wall(portrait, 12 * n) if 3 <= n < 9 else wall for n in range(24)]
        source = recordings.write_clip(tmp_path / "a.mp4", scene)
        video = analysed(media, source, pipeline, VideoOptions(fps=1))
        self.check(media, video, tmp_path, source, mtcnn)

    def test_real_people_are_hidden(
        self, media: Media, tmp_path: Path, clips: Path, pipeline: Pipeline, mtcnn: MtcnnDetector
    ) -> None:
        source = clips / "three-people.mp4"
        self.check(media, analysed(media, source, pipeline), tmp_path, source, mtcnn)

    def check(
        self, media: Media, video: Video, folder: Path, source: Path, mtcnn: MtcnnDetector
    ) -> None:
        """Of the faces that the detector finds in the original, it finds none in the copy."""
        originals = list(pictures_of(source))
        copies = list(pictures_of(annotated(media, video, folder, blur=True)))
        assert len(originals) == len(copies)
        faces = 0
        for number, (original, copy) in enumerate(zip(originals, copies, strict=True)):
            left = [centre(face.box_xywh) for face in mtcnn.detect(copy)]
            for face in mtcnn.detect(original):
                faces += 1
                x, y = centre(face.box_xywh)
                near = max(face.box_xywh[2:])
                assert not any(abs(x - a) < near and abs(y - b) < near for a, b in left), number
        assert faces > 5


class TestSound:
    @pytest.mark.parametrize(
        ("name", "codec", "is_copied"),
        [
            ("a.mp4", ("aac",), True),
            ("a.ts", ("aac",), True),
            ("a.mkv", ("libmp3lame",), True),
            ("a.webm", ("libopus",), False),
            ("a.mov", ("pcm_s16le", "-ar", "96000", "-ac", "6"), False),
            ("a.avi", ("pcm_u8", "-ar", "8000", "-ac", "1"), False),
            ("low.mkv", ("libmp3lame", "-ar", "8000"), False),  # too low for MP3 in MP4
        ],
    )
    def test_it_is_kept_and_where_the_pictures_are(
        self, media: Media, tmp_path: Path, name: str, codec: tuple[str, ...], is_copied: bool
    ) -> None:
        source = flash_and_beep(tmp_path / name, *codec)
        copy = previewed(media, stored(media, source), tmp_path)
        assert (packets(source) == packets(copy)) == is_copied
        with av.open(str(copy)) as container:
            assert container.streams.audio[0].codec_context.name in ("aac", "mp3float")
        for path in (source, copy):
            flash_s, beep_s = flash_and_beep_times(path)
            assert beep_s - flash_s == pytest.approx(0, abs=0.045)

    def test_what_begins_later_stays_later(self, media: Media, tmp_path: Path) -> None:
        early = flash_and_beep(tmp_path / "early.mkv", "aac")
        for name, delay in (("late.mkv", "0.7"), ("late.mov", "0.7")):
            late = tmp_path / name
            streams = ("-map", "0:v", "-map", "1:a")
            ffmpeg("-i", early, "-itsoffset", delay, "-i", early, *streams, "-c", "copy", late)
            copy = previewed(media, stored(media, late), tmp_path)
            flash_s, beep_s = flash_and_beep_times(copy)
            assert beep_s - flash_s == pytest.approx(0.7, abs=0.045)

    def test_gaps_are_silent_and_what_follows_stays_in_place(
        self, media: Media, tmp_path: Path
    ) -> None:
        whole = flash_and_beep(tmp_path / "whole.mkv", "flac")
        source = tmp_path / "gap.mkv"
        with av.open(str(whole)) as given, av.open(str(source), "w") as out:
            streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
            for packet in given.demux():
                is_sound = packet.stream.type == "audio"
                if packet.dts is None or (is_sound and 0.2 < float(packet.pts or 0) / 1000 < 0.8):
                    continue
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
        copy = previewed(media, stored(media, source), tmp_path)
        flash_s, beep_s = flash_and_beep_times(copy)
        assert beep_s - flash_s == pytest.approx(0, abs=0.045)
        steps = np.diff([t for t, _ in sound_of(copy)])
        assert steps.max() < 0.02 < np.diff([t for t, _ in sound_of(source)]).max()

    def test_sound_that_can_neither_be_copied_nor_decoded_costs_no_picture(
        self, media: Media, tmp_path: Path
    ) -> None:
        source = flash_and_beep(tmp_path / "a.flv", "aac")
        content = source.read_bytes()
        header = content.index(b"\xaf\x00") + 2  # what tells how the AAC is to be read
        source.write_bytes(content[:header] + b"\xff\xff\xff\xff" + content[header + 4 :])
        copy = previewed(media, stored(media, source), tmp_path)
        assert len(decoded(copy)) == 100

    def test_a_damaged_or_silent_file_still_gives_its_pictures(
        self, media: Media, tmp_path: Path
    ) -> None:
        whole = flash_and_beep(tmp_path / "whole.mkv", "libopus")
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        copy = previewed(media, stored(media, cut), tmp_path)
        assert len(decoded(copy)) == len(decoded(cut)) > 5
        silent = pattern(tmp_path / "silent.mp4", *H264, seconds=0.5)
        copy = previewed(media, stored(media, silent), tmp_path)
        with av.open(str(copy)) as container:
            assert not container.streams.audio


class TestEnds:
    def test_it_ends_at_once_when_told_and_leaves_nothing(
        self, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, frames = moving(tmp_path / "moving.mp4")
        video = reported(media, source, frames)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "drafts"))
        (tmp_path / "drafts").mkdir()
        heard: list[tuple[int, int]] = []

        def stop(done: int, total: int) -> None:
            heard.append((done, total))
            if done == 3:
                raise InterruptedError

        out = io.BytesIO()
        with pytest.raises(InterruptedError):
            annotate.annotate(media, video, out, blur=False, between=stop)
        assert heard == [(1, 12), (2, 12), (3, 12)]
        assert out.getvalue() == b""
        assert list((tmp_path / "drafts").iterdir()) == []

    def test_progress_ends_at_all_of_it(self, media: Media, tmp_path: Path) -> None:
        source = pattern(tmp_path / "a.mp4", *H264, seconds=2)
        video = stored(media, source, VideoOptions(fps=3))
        recordings.put_segment(media, video, 0, [])
        track(media, video, plan_of(media, video), smoothing_s=0)
        derive(media, video, People(), CARD)
        heard: list[tuple[int, int]] = []
        with (tmp_path / "out.mp4").open("wb") as out:
            annotate.annotate(
                media, video, out, blur=False, between=lambda *share: heard.append(share)
            )
        assert heard == [(number, 50) for number in range(1, 51)]

    def test_what_is_not_there_is_said(self, media: Media, tmp_path: Path) -> None:
        source, frames = moving(tmp_path / "moving.mp4", 3)
        video = stored(media, source)
        with pytest.raises(NotFound):
            annotate.annotate(media, video, io.BytesIO(), blur=False, between=ignore)
        video = reported(media, source, frames)
        media.write(source_path(video.id), b"no video")
        with pytest.raises(SourceError, match="no video that can be read"):
            annotate.preview(media, video, io.BytesIO(), between=ignore)


@pytest.mark.parametrize(
    ("ticks", "placed"),
    [
        ([0, 40, 41, 5000], [0, 40, 41, 5000]),  # as they are
        ([-3, 0, 0, 0, 1], [-3, 0, 1, 2, 3]),  # repeated, and again in step as soon as may be
        ([0, 900, 100, 1000], [0, 900, 901, 1000]),  # a little disorder
        ([5000, 5040, 0, 40, 100], [5000, 5040, 5080, 5120, 5180]),  # set back
        ([0, 40, 9_000_000, 120, 160], [0, 40, 80, 120, 160]),  # one wild time
    ],
)
def test_times_rise_and_stay_true_where_they_can(ticks: list[int], placed: list[int]) -> None:
    clock = Clock(Fraction(1, 1000), step=40)
    assert [clock.place(at) for at in ticks] == placed


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: on Debian apt-get install chromium")
@pytest.mark.parametrize("name", ["hevc.mp4", "mpeg4.avi", "late-start.ts"])
def test_a_browser_plays_it_to_the_end(media: Media, tmp_path: Path, name: str) -> None:
    source = pattern(tmp_path / name, *RECIPES[name], "-shortest", seconds=2, sound=True)
    copy = previewed(media, stored(media, source), tmp_path)
    assert copy.read_bytes().index(b"moov") < copy.read_bytes().index(b"mdat")
    (tmp_path / "page.html").write_text(f'<video src="{copy.name}" muted></video>')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        played = page.evaluate(
            """() => new Promise((resolve) => {
                const video = document.querySelector("video");
                const tell = () => resolve({
                    error: video.error?.message ?? "",
                    ended: video.ended,
                    at: video.currentTime,
                    duration: video.duration,
                    width: video.videoWidth,
                    frames: video.getVideoPlaybackQuality().totalVideoFrames,
                    heard: video.webkitAudioDecodedByteCount,
                });
                video.onended = tell;
                video.onerror = tell;
                setTimeout(tell, 15000);
                video.play();
            })"""
        )
        browser.close()
    assert played["error"] == ""
    assert played["ended"]
    assert played["at"] == played["duration"] == pytest.approx(2.0, abs=0.1)
    assert (played["width"], played["frames"] > 40) == (160, True)
    assert played["heard"] > 0


def yellow(picture: ImageBGR) -> NDArray[np.bool_]:
    """Where the colour of `happy` was drawn."""
    blue, _, red = (picture[..., channel].astype(int) for channel in range(3))
    return np.asarray(red - blue > 60)


def on_wall(portrait: ImageBGR, x: int) -> ImageBGR:
    """320 x 240 with the portrait of 160 x 160 at some place."""
    picture = np.full((240, 320, 3), 90, np.uint8)
    small = cv2.resize(portrait, (160, 160), interpolation=cv2.INTER_AREA)
    picture[40:200, x : x + 160] = small
    return picture


def centre(box_xywh: Sequence[float]) -> tuple[float, float]:
    x, y, width, height = box_xywh
    return x + width / 2, y + height / 2


def forget(media: Media, video: Video, frames: set[int]) -> None:
    """Let no face have been found in these frames."""
    path = segment_path(video.id, 0)
    rows: list[Any] = [json.loads(line) for line in gzip.decompress(media.read(path)).splitlines()]
    for number in frames:
        rows[number][1] = []
    text = "".join(json.dumps(row) + "\n" for row in rows)
    media.write(path, gzip.compress(text.encode()))


def flash_and_beep(path: Path, *codec: str) -> Path:
    """Two seconds; at 1 s the picture turns white, and a tone begins."""
    picture = "color=black:size=160x120:rate=50:duration=2,drawbox=c=white:t=fill:enable=gte(t\\,1)"
    tone = "aevalsrc=if(gte(t\\,1)\\,0.8*sin(3000*t)\\,0):duration=2:sample_rate=48000"
    video: tuple[str, ...] = ("-c:v", "libvpx") if path.suffix == ".webm" else H264
    if path.suffix == ".avi":
        video = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    sources = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone)
    ffmpeg(*sources, *video, "-c:a", *codec, path)
    return path


def flash_and_beep_times(path: Path) -> tuple[float, float]:
    """When it gets light, and when it gets loud."""
    flash_s = next(f.time for f in decoded(path) if f.to_ndarray(format="gray").mean() > 128)
    beep_s = next(t for t, loud in sound_of(path) if loud > 0.3)
    return float(flash_s), beep_s


def sound_of(path: Path) -> list[tuple[float, float]]:
    """Time and level of every five milliseconds of sound."""
    levels = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono")
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                samples = np.abs(part.to_ndarray()[0])
                step = part.sample_rate // 200
                for at in range(0, len(samples), step):
                    t = (frame.time or 0.0) + at / part.sample_rate
                    levels.append((t, float(samples[at : at + step].max())))
    return levels


def packets(path: Path) -> list[bytes]:
    """The packets of sound; of AAC in a transport stream without its headers."""
    with av.open(str(path)) as container:
        all_ = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    return [data[7:] if data[:2] == b"\xff\xf1" else data for data in all_]
