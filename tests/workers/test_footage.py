"""Recorded files, decoded in segments: every frame, once, in order, at its own time.

What is true is what PyAV gives when it decodes the whole file from its beginning, with one decoder.
"""

from __future__ import annotations

import dataclasses
import io
import random
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from shared.errors import InvalidRecord, SourceError
from shared.video import VideoOptions
from tests.workers import colours
from tests.workers import footage_clips as clips
from workers import footage
from workers.footage import ANALYSIS_WIDTH, Plan, Segment, fitted_wh
from workers.sources import DEMO_CLIP

SHARED_CLIPS = Path(__file__).parents[3] / "shared" / "clips"
REAL_CLIPS = (
    "changing-expressions.mp4",
    "face-then-none.mov",
    "long-small-faces.mp4",
    "no-face.mp4",
    "sign-book.mkv",
    "three-people.mp4",
)
ALL = VideoOptions()
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a clip by its recipe, or another; each is made once."""
    folder = tmp_path_factory.mktemp("footage")

    def clip(name: str, *options: str, **changes: object) -> Path:
        path = folder / name
        if not path.exists():
            clips.pattern(path, *(options or clips.RECIPES[name]), **changes)  # type: ignore[arg-type]
        return path

    return clip


def plainly(path: Path) -> list[tuple[float | None, int]]:
    """Time and picture of each frame, by one decoder from beginning to end."""
    seen: list[tuple[float | None, int]] = []
    with av.open(str(path)) as container:
        covers = Disposition.attached_pic
        stream = next(s for s in container.streams.video if not s.disposition & covers)
        stream.thread_count = 1
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                continue
            seen += [
                (frame.time, digest(frame.to_ndarray(format="bgr24", threads=1)))
                for frame in decoded
            ]
    return seen


def in_segments(
    path: Path, options: VideoOptions = ALL, *, order: random.Random | None = None
) -> list[tuple[float, int]]:
    """Time and picture of each frame, segment by segment, decoded in any order."""
    plan = footage.plan(path, options)
    segments = list(plan.segments)
    if order:
        order.shuffle(segments)
    found = {
        segment.index: [
            (t, digest(image_bgr)) for t, image_bgr in footage.frames(path, plan, segment)
        ]
        for segment in segments
    }
    return [frame for index in sorted(found) for frame in found[index]]


def digest(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image).data)


def times(path: Path, options: VideoOptions = ALL) -> list[float]:
    return [t for t, _ in in_segments(path, options)]


# Every frame, exactly


@pytest.mark.parametrize("name", [n for n in clips.RECIPES if n != "h264.h264"])
def test_segments_together_give_what_one_decoder_gives(name: str, make: Make) -> None:
    path = make(name)
    plan = footage.plan(path, ALL)
    assert in_segments(path, order=random.Random(7)) == plainly(path)
    assert plan.frames_total == len(plainly(path))
    assert plan.ended_early == ""


@pytest.mark.parametrize(
    "name", ["h264.mp4", "open-gop.ts", "hevc-open-gop.mkv", "vp8.webm", "live.webm", "mpeg2.mpg"]
)
def test_files_with_several_key_frames_are_cut(name: str, make: Make) -> None:
    plan = footage.plan(make(name), ALL)
    assert plan.timed_by == "packets"
    assert len(plan.segments) > 1
    assert [segment.index for segment in plan.segments] == list(range(len(plan.segments)))


def test_pictures_that_are_never_shown_are_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "hidden.webm"
    for number in ("1", "2"):  # VP8 hides pictures when it knows what comes
        passes = ("-pass", number, "-passlogfile", str(tmp_path / "pass"))
        clips.pattern(path, *clips.VP8, "-arnr-maxframes", "7", *passes, filters="null")
    with av.open(str(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    plan = footage.plan(path, ALL)
    assert (plan.timed_by, plan.frames_total) == ("packets", 200)
    assert packets > 200
    assert in_segments(path) == plainly(path)


@pytest.mark.parametrize("name", REAL_CLIPS)
def test_real_clips_come_out_exactly(name: str) -> None:
    path = SHARED_CLIPS / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    found, true = in_segments(path, order=random.Random(1)), plainly(path)
    assert [t for t, _ in found] == [t for t, _ in true]
    assert footage.plan(path, ALL).frames_total == len(true)


def test_raw_streams_without_times_get_them_by_their_rate(make: Make) -> None:
    path = make("h264.h264")
    found = in_segments(path)
    assert [picture for _, picture in found] == [picture for _, picture in plainly(path)]
    np.testing.assert_allclose([t for t, _ in found], np.arange(200) / 25)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts"])
def test_a_trimmed_copy_begins_where_it_was_trimmed(
    ending: str, make: Make, tmp_path: Path
) -> None:
    whole = make("sound.mp4", *clips.RECIPES["h264.mp4"], sound=True, seconds=9)
    path = tmp_path / f"trimmed.{ending}"
    clips.ffmpeg("-ss", "1.3", "-i", whole, "-c", "copy", path)
    assert in_segments(path) == plainly(path)
    if ending in ("mp4", "mov"):  # an edit list: what comes before the cut is decoded, never shown
        assert times(path)[0] < 0.05
        assert footage.plan(path, ALL).frames_total < 200


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_uneven_frame_rates_keep_their_times(ending: str, make: Make) -> None:
    path = make(f"uneven.{ending}", *clips.NO_REORDER, "-vsync", "vfr", filters=clips.UNEVEN)
    found = in_segments(path)
    assert found == plainly(path)
    assert len(set(np.diff([t for t, _ in found]).round(3))) > 2


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv", "avi"])
def test_sound_beside_the_pictures_changes_nothing(ending: str, make: Make, tmp_path: Path) -> None:
    whole = make("sound.mp4", *clips.RECIPES["h264.mp4"], sound=True, seconds=9)
    path = tmp_path / f"sound.{ending}"
    clips.ffmpeg("-i", whole, "-c:v", "copy", "-c:a", "libmp3lame", path)
    assert in_segments(path) == plainly(path)
    assert footage.probe(path).has_sound


def test_sizes_that_change_are_scaled_to_the_first(make: Make, tmp_path: Path) -> None:
    parts = [
        make(
            f"size{n}.ts", *clips.NO_REORDER, "-output_ts_offset", str(n * 7), size=size, seconds=7
        )
        for n, size in enumerate(("160x120", "320x200", "160x120"))
    ]
    path = tmp_path / "sizes.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    plan = footage.plan(path, ALL)
    found = [frame for segment in plan.segments for frame in footage.frames(path, plan, segment)]
    assert {frame.image_bgr.shape for frame in found} == {(120, 160, 3)}
    assert [frame.t for frame in found] == [t for t, _ in plainly(path)]


def test_clocks_that_jump_back_are_told_by_the_decoder(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "twice.ts"
    path.write_bytes(make("open-gop.ts").read_bytes() * 2)
    plan = footage.plan(path, ALL)
    assert (plan.timed_by, len(plan.segments)) == ("decoder", 1)
    assert in_segments(path) == plainly(path)


def test_times_that_repeat_are_told_by_the_decoder(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "repeated.mkv"
    with av.open(str(make("h264-no-reorder.avi"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.pts = packet.dts = 99 if number == 100 else number
            packet.stream = stream
            target.mux(packet)
    assert footage.plan(path, ALL).timed_by == "decoder"
    assert in_segments(path) == plainly(path)


def test_a_transport_stream_that_begins_between_key_frames(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "between.ts"
    path.write_bytes(make("open-gop.ts").read_bytes()[188 * 400 :])
    assert in_segments(path) == plainly(path)
    assert footage.plan(path, ALL).frames_total == len(plainly(path))


def test_the_clock_of_a_transport_stream_may_run_over(make: Make) -> None:
    path = make("over.ts", *clips.OPEN_GOP, "-output_ts_offset", "95439")
    assert in_segments(path) == plainly(path)


def test_a_file_handle_reads_as_its_path_does(make: Make) -> None:
    path = make("open-gop.mkv")
    handle = io.BytesIO(path.read_bytes())
    plan = footage.plan(handle, ALL)
    assert plan == footage.plan(path, ALL)
    found = [t for part in plan.segments for t, _ in footage.frames(handle, plan, part)]
    assert found == times(path)
    assert not handle.closed


def test_where_seeking_misses_the_file_is_read_from_the_beginning(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("h264.ts")
    true = plainly(path)
    monkeypatch.setattr(footage, "_SOUGHT_BY_DTS", frozenset())
    monkeypatch.setattr(footage, "_SEEK_EARLIER_S", -4.0)  # too late, both times
    assert in_segments(path) == true


# Pictures


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_come_upright(degrees: int, make: Make, tmp_path: Path) -> None:
    path, picture = tmp_path / "turned.mov", tmp_path / "first.png"
    clips.ffmpeg("-i", make("h264.mp4"), "-c", "copy", "-metadata:s:v:0", f"rotate={degrees}", path)
    clips.ffmpeg("-i", path, "-frames:v", "1", picture)  # turns as the file says
    plan = footage.plan(path, ALL)
    first = next(footage.frames(path, plan, plan.segments[0])).image_bgr
    by_ffmpeg = cv2.imread(str(picture))
    assert by_ffmpeg is not None
    assert by_ffmpeg.shape == first.shape
    assert np.abs(by_ffmpeg.astype(int) - first).mean() < 6
    assert (plan.height, plan.width) == first.shape[:2]
    assert footage.probe(path).width == plan.width


@pytest.mark.parametrize(
    "name", ["10-bit.mp4", "gray.mp4", "4-4-4.mp4", "fields.mp4", "prores.mov", "mjpeg.avi"]
)
def test_every_pixel_format_becomes_bgr(name: str, make: Make) -> None:
    path = make(name)
    plan = footage.plan(path, ALL)
    image_bgr = next(footage.frames(path, plan, plan.segments[0])).image_bgr
    assert image_bgr.shape == (120, 160, 3)
    assert image_bgr.dtype == np.uint8
    assert image_bgr.std() > 20


@pytest.mark.parametrize(("name", "codec"), [("odd.mkv", "libx264"), ("odd.webm", "libvpx")])
def test_odd_sizes_stay_as_they_are(name: str, codec: str, make: Make) -> None:
    path = make(
        name, "-c:v", codec, "-pix_fmt", "yuv444p", "-g", "25", filters=clips.ODD, seconds=1
    )
    plan = footage.plan(path, ALL)
    assert next(footage.frames(path, plan, plan.segments[0])).image_bgr.shape == (241, 321, 3)
    assert in_segments(path) == plainly(path)


def test_large_pictures_are_scaled_for_analysis(make: Make) -> None:
    path = make("wide.mp4", *clips.H264, size="3840x2160", rate="5", seconds=0.4)
    plan = footage.plan(path, ALL)
    found = [frame for part in plan.segments for frame in footage.frames(path, plan, part)]
    assert (plan.width, plan.height, plan.scale) == (3840, 2160, 3.0)
    assert {frame.image_bgr.shape for frame in found} == {(720, ANALYSIS_WIDTH, 3)}
    assert len(found) == 2


@pytest.mark.parametrize("colorspace", colours.WEIGHTS)
@pytest.mark.parametrize("size_wh", [(640, 480), (321, 239)])
@pytest.mark.parametrize(
    ("form", "color_range"),  # yuvj… is full range by its name
    [(form, colours.FULL) for form in colours.FORMS]
    + [(form, colours.LIMITED) for form in colours.FORMS if "j" not in form],
)
def test_colours_come_out_as_the_standards_say(
    form: str, color_range: int, size_wh: tuple[int, int], colorspace: int
) -> None:
    image_bgr = colours.bars(640, 480)
    frame = colours.frame_of(image_bgr, form, colorspace, color_range)
    upright = footage.Upright(size_wh).image_bgr(frame)
    assert upright.shape == (size_wh[1], size_wh[0], 3)
    assert np.abs(colours.seen(upright) - colours.seen(image_bgr)).max() <= 4


def test_pixels_that_are_not_square_are_made_so(make: Make) -> None:
    path = make("anamorphic.mp4", *clips.H264, size="360x288", seconds=1, filters="setsar=16/11")
    plan = footage.plan(path, ALL)
    assert (plan.width, plan.height) == (524, 288)
    assert next(footage.frames(path, plan, plan.segments[0])).image_bgr.shape == (288, 524, 3)


@pytest.mark.parametrize(
    ("size_wh", "fitted"),
    [((640, 480), (640, 480)), ((1281, 721), (1280, 720)), ((9000, 2), (1280, 1))],
)
def test_fitting_never_enlarges(size_wh: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fitted_wh(*size_wh, 1280) == fitted


# Sampling, and parts


@pytest.mark.parametrize("name", ["h264.mp4", "h264.avi", "late-start.ts"])
@pytest.mark.parametrize("fps", [0.5, 4.0, 10.0, 24.9, 60.0])
def test_sampling_takes_the_first_frame_of_each_period(name: str, fps: float, make: Make) -> None:
    path = make(name)
    true = plainly(path)
    first_s = true[0][0] or 0.0
    expected, last = [], -1
    for t, picture in true:
        turn = int(((t or 0.0) - first_s) * fps + 1e-9)
        if turn > last:
            expected.append((t, picture))
            last = turn
    assert in_segments(path, VideoOptions(fps=fps)) == expected
    plan = footage.plan(path, VideoOptions(fps=fps))
    assert plan.timed_by == "decoder" or plan.frames_total == len(expected)


@pytest.mark.parametrize("name", ["open-gop.mp4", "late-start.ts", "h264.avi", "vp8.webm"])
def test_a_part_of_a_video_is_counted_from_its_first_moment(name: str, make: Make) -> None:
    path = make(name)
    start_s = footage.probe(path).start_s
    part = VideoOptions(start_s=2.5, end_s=7.02)
    expected = [(t, p) for t, p in plainly(path) if t and 2.5 <= t - start_s < 7.02]
    assert in_segments(path, part) == expected
    assert footage.plan(path, part).frames_total == len(expected)


def test_a_part_beyond_the_end_holds_nothing(make: Make) -> None:
    plan = footage.plan(make("h264.mp4"), VideoOptions(start_s=100))
    assert (plan.frames_total, plan.segments) == (0, ())


# Plans


def test_plans_survive_as_json_and_stay_small(make: Make) -> None:
    for name in ("h264.mp4", "h264.mkv", "h264.avi"):
        plan = footage.plan(make(name), VideoOptions(fps=10, start_s=1))
        assert Plan.from_json(plan.to_json()) == plan
    hour = tuple(round(frame * 1000 / 29.97) for frame in range(108_000))
    plan = Plan(
        108_000, "packets", (1, 1000), 64, 64, 29.97, None, None, None, (Segment(0, pts=hour),)
    )
    assert Plan.from_json(plan.to_json()) == plan
    assert len(plan.to_json()) < 1_000_000


def test_what_is_no_plan_is_refused() -> None:
    for text in ("", "[]", "{}", '{"segments": 3}', '{"segments": [[0]]}'):
        with pytest.raises(InvalidRecord):
            Plan.from_json(text)


# Damage


@pytest.mark.parametrize("name", ["h264-fragments.mp4", "open-gop.mkv", "vp8.webm", "mjpeg.avi"])
@pytest.mark.parametrize("share", [0.3, 0.55, 0.9])
def test_of_a_file_cut_off_what_is_there_is_read(
    name: str, share: float, make: Make, tmp_path: Path
) -> None:
    whole = make(name)
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    found = in_segments(path)
    assert found == plainly(path)
    assert 0.5 * share < len(found) / 200 < min(1, 1.5 * share)
    said = footage.plan(path, ALL).ended_early
    up_to = re.match(
        r"The file is cut off or damaged: its video can be read up to ([0-9.]+) s", said
    )
    assert up_to is not None, said
    start_s = footage.probe(path).start_s
    assert float(up_to[1]) == pytest.approx((found[-1][0] or 0) + 0.04 - start_s, abs=0.11)


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mov"])
def test_an_index_at_the_end_that_is_cut_off_is_told(name: str, make: Make, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(make(name).read_bytes()[:40_000])
    with pytest.raises(SourceError, match="cut off"):
        footage.probe(path)


@pytest.mark.parametrize(
    "name",
    ["h264.mp4", "open-gop.ts", "open-gop.mkv", "h264.flv", "hevc-open-gop.mp4", "mpeg2.ts"],
)
def test_flipped_bits_cost_no_more_than_they_cost_one_decoder(
    name: str, make: Make, tmp_path: Path
) -> None:
    rng = random.Random(name)
    whole = make(name).read_bytes()
    for flips in (1, 5, 50):
        data = bytearray(whole)
        for _ in range(flips):
            # The index at the end of some files is spared: without it there is no file.
            data[rng.randrange(len(data) // 10, len(data) * 8 // 10)] ^= 1 << rng.randrange(8)
        path = tmp_path / name
        path.write_bytes(data)
        plan = footage.plan(path, ALL)
        read = [footage.frames(path, plan, part) for part in plan.segments]
        found = [t for part in read for t, _ in part]
        assert found == [t for t, _ in plainly(path)]
        if plan.timed_by == "packets":
            assert len(found) + sum(part.missing for part in read) == plan.frames_total


def test_a_ruined_key_frame_is_made_up_for_by_the_segment_before(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "ruined.mkv"
    whole = make("h264.mkv")
    plan = footage.plan(whole, ALL)
    starts = [part.starts[0] for part in plan.segments if len(part.starts) > 1]
    start = next(
        start for part in plan.segments for start in starts if start and start.pts == part.pts[0]
    )
    with av.open(str(whole)) as container:
        key = next(p for p in container.demux(video=0) if p.pts == start.pts)
        ruined = bytearray(whole.read_bytes())
        at = ruined.index(bytes(key)[-200:]) + 200 - key.size
        ruined[at : at + key.size] = bytes(key.size)
    path.write_bytes(ruined)
    assert times(path) == [t for t, _ in plainly(path)]


# What a file holds


@pytest.mark.parametrize(
    ("name", "codec", "container", "playable"),
    [
        ("h264.mp4", "h264", "mp4", True),
        ("h264.mov", "h264", "mov", True),
        ("vp8.webm", "vp8", "webm", True),
        ("vp9.webm", "vp9", "webm", True),
        ("av1.mp4", "av1", "mp4", True),
        ("h264.mkv", "h264", "mkv", False),
        ("h264.ts", "h264", "ts", False),
        ("10-bit.mp4", "h264", "mp4", False),
        ("hevc.mp4", "hevc", "mp4", False),
        ("mpeg4.avi", "mpeg4", "avi", False),
        ("prores.mov", "prores", "mov", False),
    ],
)
def test_probing_says_what_a_file_is(
    name: str, codec: str, container: str, playable: bool, make: Make
) -> None:
    found = footage.probe(make(name))
    assert (found.codec, found.container, found.playable) == (codec, container, playable)
    assert (found.width, found.height, found.has_sound) == (160, 120, False)
    assert found.fps == pytest.approx(25)
    assert found.duration_s == pytest.approx(8, abs=0.1)


def test_a_live_recording_has_no_duration(make: Make) -> None:
    assert footage.probe(make("live.webm")).duration_s is None


def test_a_file_need_not_begin_at_zero(make: Make) -> None:
    path = make("late-start.mkv")
    found = footage.probe(path)
    times = [t for t, _ in plainly(path) if t is not None]
    assert found.start_s == pytest.approx(100.5, abs=0.1)
    assert found.duration_s == pytest.approx(times[-1] - times[0] + 0.04, abs=0.1)


def test_a_cover_is_no_video(make: Make, tmp_path: Path) -> None:
    cover, sound = tmp_path / "cover.jpg", ["-f", "lavfi", "-i", "sine=duration=1"]
    clips.pattern(cover, "-frames:v", "1")
    for name in ("song.m4a", "song.mp3"):
        path = tmp_path / name
        clips.ffmpeg(
            *sound, "-i", cover, "-map", "0", "-map", "1", "-c:v", "copy",
            "-disposition:v", "attached_pic", path,
        )  # fmt: skip
        with pytest.raises(SourceError, match="sound only"):
            footage.probe(path)


@pytest.mark.parametrize(
    "name", ["sound.wav", "sound.mp3", "sound.m4a", "sound.webm", "sound.flac"]
)
def test_sound_alone_is_refused(name: str, tmp_path: Path) -> None:
    clips.ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / name)
    with pytest.raises(SourceError, match="sound only"):
        footage.probe(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"Dear diary,\n" * 500, "no video"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "list"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "list"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n", "list"),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', "list"),
        (b"PK\x03\x04" + bytes(5000), "archive"),
        (b"\xff\xd8\xff\xe0" + b"x" * 3000, "picture"),
        (random.Random(3).randbytes(100_000), "no video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_sentence(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    for look in (footage.probe, lambda given: footage.plan(given, ALL)):
        with pytest.raises(SourceError, match=reason) as refusal:
            look(path)
        assert str(refusal.value).count(". ") == 0
        assert str(path) not in str(refusal.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "bmp", "tif"])
def test_pictures_are_no_videos(ending: str, tmp_path: Path) -> None:
    path = clips.pattern(tmp_path / f"picture.{ending}", "-frames:v", "1", filters="null")
    with pytest.raises(SourceError, match="picture"):
        footage.probe(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(make: Make, tmp_path: Path) -> None:
    raw = make("raw.avi", "-c:v", "rawvideo", "-pix_fmt", "yuv420p", seconds=0.2)
    data = bytearray(raw.read_bytes())
    at = data.index(b"strf") + 12  # BITMAPINFOHEADER: width and height come after its size
    data[at : at + 8] = (100_000).to_bytes(4, "little") * 2
    path = tmp_path / "huge.avi"
    path.write_bytes(data)
    with pytest.raises(SourceError):
        footage.probe(path)


def test_pictures_larger_than_the_limit_are_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage, "MAX_PIXELS", 160 * 120 - 1)
    with pytest.raises(SourceError, match="160x120 are too large"):
        footage.probe(make("h264.mp4"))


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        footage.probe(tmp_path / "gone.mp4")


def cut_finer(plan: footage.Plan) -> footage.Plan:
    """Each segment in four parts, as where key frames are far apart."""
    parts = [
        (segment.starts, segment.pts[at : at + len(segment.pts) // 4 + 1])
        for segment in plan.segments
        for at in range(0, len(segment.pts), len(segment.pts) // 4 + 1)
    ]
    segments = tuple(footage.Segment(index, *part) for index, part in enumerate(parts))
    return dataclasses.replace(plan, segments=segments)


def read_apart(path: Path, plan: footage.Plan) -> list[list[tuple[float, int]]]:
    """Time and picture of each segment's frames, with nothing kept from one to the next."""
    found = []
    for segment in plan.segments:
        with footage.Reader(path, plan) as reader:
            found.append(read_on(reader, segment))
    return found


def read_on(reader: footage.Reader, segment: footage.Segment) -> list[tuple[float, int]]:
    return [(t, digest(image)) for t, image in reader.frames(segment)]


@pytest.mark.parametrize("name", ["h264.mp4", "open-gop.mkv", "hevc-open-gop.mp4", "vp9.webm"])
def test_a_reader_goes_on_where_the_segment_before_ended(
    name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(name)
    whole = footage.plan(path, ALL)
    plan = cut_finer(whole)
    apart = read_apart(path, plan)
    opened = []
    opening = footage.Opened._open

    def counted(source: footage.Opened) -> None:
        opened.append(source)
        opening(source)

    monkeypatch.setattr(footage.Opened, "_open", counted)
    with footage.Reader(path, plan) as reader:
        assert [read_on(reader, segment) for segment in plan.segments] == apart
    assert len(opened) == len(whole.segments)


def test_a_reader_reads_in_any_order_and_bears_being_left_in_the_middle(make: Make) -> None:
    path = make("h264.mp4")
    plan = cut_finer(footage.plan(path, ALL))
    apart = read_apart(path, plan)
    with footage.Reader(path, plan) as reader:
        for index in (2, 1, 3):
            next(reader.frames(plan.segments[index]))
        for index in (3, 2, 4, 5, 1, 0, 0):
            assert read_on(reader, plan.segments[index]) == apart[index]


@pytest.mark.parametrize("name", ["h264.mp4", "open-gop.ts", "hevc-open-gop.mp4", "mpeg2.ts"])
def test_a_reader_gives_the_same_of_a_damaged_file(name: str, make: Make, tmp_path: Path) -> None:
    rng = random.Random(name)
    whole = make(name).read_bytes()
    for flips in (1, 5, 30, 100, 300):
        data = bytearray(whole)
        for _ in range(flips):
            data[rng.randrange(len(data) // 10, len(data) * 8 // 10)] ^= 1 << rng.randrange(8)
        path = tmp_path / name
        path.write_bytes(data)
        plan = cut_finer(footage.plan(path, ALL))
        with footage.Reader(path, plan) as reader:
            on = [read_on(reader, segment) for segment in plan.segments]
        assert on == read_apart(path, plan)


def test_ffmpeg_keeps_silent(make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "torn.ts"
    data = make("open-gop.ts").read_bytes()
    path.write_bytes(data[:60_000] + data[70_001:])
    times(path)
    assert capfd.readouterr() == ("", "")


def test_no_file_stays_open(make: Make) -> None:
    plan = footage.plan(path := make("h264.mp4"), ALL)
    reading = footage.frames(path, plan, plan.segments[0])
    next(reading)
    reading.close()
    with footage.Reader(path, plan) as reader:
        for segment in plan.segments:
            next(reader.frames(segment))
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert str(path) not in {str(link.readlink()) for link in links}


def test_the_demo_is_whole() -> None:
    assert times(DEMO_CLIP) == [t for t, _ in plainly(DEMO_CLIP)]
