"""Reading pictures from real files, folders and servers."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from shared.errors import SourceEnded, SourceError, SourceRefused
from shared.schema import Feed, Trouble
from shared.source import Source
from tests import builders
from tests.workers import cameras
from tests.workers.cameras import MjpegCamera, decoded, jpeg_of, number_in, numbered, write_clip
from workers import sources
from workers.jpeg import ImageBGR, jpeg_size_wh
from workers.sources import EvenRate, Limits, Picture, Pulse

Read = Callable[..., Iterator[Picture]]


@pytest.fixture
def read() -> Iterator[Read]:
    """Read a source; what is still open at the end of the test is closed."""
    stop = threading.Event()
    opened: list[Iterator[Picture]] = []

    def start(source: str | Path, *, fps: float = 15.0, **changes: object) -> Iterator[Picture]:
        feed = replace(builders.feed(source=str(source), fps=fps), **changes)  # type: ignore[arg-type]
        pictures = sources.read(feed, jpeg_quality=90, pulse=Pulse(), stop=stop)
        opened.append(pictures)
        return pictures

    yield start
    stop.set()
    for pictures in opened:
        pictures.close()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second, 640x480, 30 numbered pictures."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, [i / 30 for i in range(30)])


def numbers(pictures: Iterator[Picture], count: int | None = None) -> list[int]:
    return [number_in(picture.jpeg) for picture in itertools.islice(pictures, count)]


# Choosing frames


@pytest.mark.parametrize(
    ("fps_in", "fps", "expected"),
    [(30, 15, 150), (25, 15, 150), (60, 10, 100), (15, 15, 150), (10, 15, 100), (29.97, 30, 299)],
)
def test_frames_are_chosen_evenly_and_no_more_than_asked(
    fps_in: float, fps: float, expected: int
) -> None:
    rate = EvenRate(Limits(fps, 640))
    kept = [i / fps_in for i in range(int(10 * fps_in)) if rate.keeps(i / fps_in)]
    assert abs(len(kept) - expected) <= 1
    gaps = np.diff(kept[1:])
    assert gaps.max() - gaps.min() <= 1 / fps_in + 1e-6


def test_a_camera_of_the_very_same_rate_loses_nothing_to_jitter() -> None:
    rate, random = EvenRate(Limits(15, 640)), np.random.default_rng(1)
    times = np.arange(300) / 15 + random.uniform(0, 0.9 / 15, 300)
    assert sum(rate.keeps(t) for t in times) >= 298


def test_a_clock_that_is_set_back_or_forward_stops_nothing() -> None:
    rate = EvenRate(Limits(10, 640))
    for start in (1000.0, 5.0, 7000.0):
        assert sum(rate.keeps(start + i / 10) for i in range(20)) == 20


# Files


def test_a_file_plays_in_real_time_and_ends(read: Read, clip: Path) -> None:
    started_at = time.monotonic()
    pictures = read(clip, loop=False)
    shown = numbers(pictures, 15)
    assert shown == list(range(0, 30, 2))
    assert time.monotonic() - started_at >= 0.9
    with pytest.raises(SourceEnded, match=r"clip\.mp4"):
        next(pictures)


def test_a_file_is_looped_on_request(read: Read, clip: Path) -> None:
    started_at = time.monotonic()
    assert numbers(read(clip, loop=True), 40) == [*range(0, 30, 2)] * 2 + [*range(0, 20, 2)]
    assert time.monotonic() - started_at >= 2.5


# Three pictures between two that they lean on, come after both, and no other leans on the first and
# the third.
REORDERED = {"preset": "fast", "bf": "3", "b_strategy": "0", "x264-params": "b-pyramid=normal"}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[av.VideoFrame]:
    """All frames that are decoded."""
    frames: list[av.VideoFrame] = []
    really_decoded = sources._decoded

    def count(packet: av.Packet) -> list[av.VideoFrame]:  # type: ignore[type-arg]
        decoded_now = really_decoded(packet)
        frames.extend(decoded_now)
        return decoded_now

    monkeypatch.setattr(sources, "_decoded", count)
    return frames


@pytest.mark.parametrize(("ending", "rounds"), [("mp4", 2), ("mkv", 1), ("ts", 1)])
def test_pictures_beyond_the_limit_are_not_all_decoded(
    read: Read, tmp_path: Path, counted: list[av.VideoFrame], ending: str, rounds: int
) -> None:
    path = tmp_path / f"reordered.{ending}"
    clip = write_clip(path, [i / 30 for i in range(30)], encoder=REORDERED)
    assert numbers(read(clip, loop=True), 15 * rounds) == [*range(0, 30, 2)] * rounds
    assert len(counted) < 0.85 * 30 * rounds


def test_a_recording_that_does_not_tell_times_is_decoded_and_thinned_out(
    read: Read, tmp_path: Path, counted: list[av.VideoFrame]
) -> None:
    whole = write_clip(tmp_path / "whole.mp4", [i / 25 for i in range(25)], encoder=REORDERED)
    bare = tmp_path / "bare.h264"
    with av.open(str(whole)) as given, av.open(str(bare), "w", format="h264") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    assert numbers(read(bare, fps=12.5, loop=False), 12) == list(range(0, 24, 2))
    assert len(counted) >= 23


def test_a_very_short_clip_is_not_shown_faster_than_asked(read: Read, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "blink.mp4", [0.0, 1 / 30, 2 / 30])
    pictures = list(itertools.islice(read(clip, fps=10), 11))
    assert pictures[-1].captured_at - pictures[0].captured_at >= 0.9


def test_a_file_of_varying_frame_rate_is_shown_at_its_own_times(read: Read, tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.2, 0.9, 1.0, 1.5]
    clip = write_clip(tmp_path / "varying.mp4", times_s)
    pictures = list(itertools.islice(read(clip, fps=30), len(times_s)))
    shown_s = [picture.captured_at - pictures[0].captured_at for picture in pictures]
    assert numbers(iter(pictures)) == [0, 1, 2, 3, 4, 5]
    assert shown_s == pytest.approx(times_s, abs=0.08)


def test_pictures_are_scaled_down_and_never_up(read: Read, clip: Path) -> None:
    assert decoded(next(read(clip, width=320)).jpeg).shape == (240, 320, 3)
    assert decoded(next(read(clip, width=1280)).jpeg).shape == (480, 640, 3)


def test_a_clip_from_a_phone_is_shown_upright(read: Read, tmp_path: Path) -> None:
    def corner(_number: int) -> ImageBGR:
        image_bgr = np.full((240, 320, 3), 60, np.uint8)
        image_bgr[:60, :80] = (0, 0, 255)
        return image_bgr

    upright = write_clip(tmp_path / "upright.mp4", [0, 0.1], images=corner)
    turned = tmp_path / "turned.mp4"
    shutil.copy(upright, turned)
    _write_rotation(turned)
    image_bgr = decoded(next(read(turned, width=160)).jpeg)
    assert image_bgr.shape == (212, 160, 3)
    reds = np.argwhere((image_bgr[..., 2] > 200) & (image_bgr[..., 1] < 100))
    assert reds.mean(axis=0) == pytest.approx([186, 20], abs=6)  # bottom left: a quarter turn left


def _write_rotation(path: Path) -> None:
    """Turn the picture by a quarter, counterclockwise, in the track header of an MP4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, then volume
    one, w = 1 << 16, 1 << 30
    matrix = [0, -one, 0, one, 0, 0, 0, 320 * one, w]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def test_a_file_that_is_not_there_is_refused(read: Read, tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match=r"no file .*gone\.mp4: check the name"):
        next(read(tmp_path / "gone.mp4"))


@pytest.mark.parametrize("content", [b"", b"this is no video at all\n" * 100])
def test_a_file_that_is_no_video_is_refused(read: Read, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceRefused, match=r"letter\.mp4 .*check"):
        next(read(path))


def test_the_demo_is_shown_over_and_over(read: Read) -> None:
    assert decoded(next(read("demo", width=320)).jpeg).shape[1] == 320


def test_a_device_is_no_video_file(read: Read) -> None:
    with pytest.raises(SourceRefused, match="no video file"):
        next(read("/dev/zero"))


def test_a_file_without_pictures_is_refused(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(SourceRefused, match="holds no video"):
        next(read(path))


def test_a_local_playlist_opens_no_network_address(read: Read, tmp_path: Path) -> None:
    with cameras.serving_folder(tmp_path) as (port, asked):
        (tmp_path / "list.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n"
            "#EXT-X-ENDLIST\n"
        )
        with pytest.raises(SourceError):
            next(read(tmp_path / "list.m3u8"))
        assert asked == []


# Folders


def test_a_folder_is_shown_in_order_and_from_the_start_again(read: Read, tmp_path: Path) -> None:
    for number in (3, 1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), numbered(number))
    (tmp_path / "2b.jpg").write_bytes(b"damaged")
    (tmp_path / "notes.txt").write_text("no image")
    started_at = time.monotonic()
    assert numbers(read(tmp_path, fps=10), 7) == [1, 2, 3, 1, 2, 3, 1]
    assert time.monotonic() - started_at >= 0.55


def test_a_folder_that_is_not_looped_ends(read: Read, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), numbered(1))
    pictures = read(tmp_path, fps=30, loop=False)
    assert numbers(itertools.islice(pictures, 1)) == [1]
    with pytest.raises(SourceEnded):
        next(pictures)


def test_a_folder_without_images_is_refused(read: Read, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SourceRefused, match="holds no image"):
        next(read(tmp_path))


# Webcams


def test_a_webcam_that_is_not_there_is_refused(
    read: Read, capfd: pytest.CaptureFixture[str]
) -> None:
    for source in ("97", "/dev/video97"):
        with pytest.raises(SourceRefused, match="There is no webcam /dev/video97"):
            next(read(source))
    assert capfd.readouterr().err == ""


def test_a_webcam_is_read_at_the_rate_asked_for_until_it_is_unplugged(
    read: Read, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cv2.VideoCapture
    monkeypatch.setattr(sources, "_require_device", lambda locator: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda device, api: real(str(clip)))
    shown = []
    with pytest.raises(SourceError, match="Webcam 0 gives no more pictures"):  # noqa: PT012
        for picture in read("0", fps=60, width=320):
            shown.append(decoded(picture.jpeg).shape)
    assert set(shown) == {(240, 320, 3)}


class Webcam:
    """A webcam as OpenCV gives it on Linux: pictures, or the bytes it sent where asked for these.

    Sends numbered pictures as JPEG, if it can (`fourcc`); `spoil` is what USB does to them.
    """

    def __init__(self, fourcc: str = "MJPG", spoil: Callable[[bytes], bytes] = lambda x: x) -> None:
        self.sent: list[bytes] = []
        self._spoil = spoil
        self._can = cv2.VideoWriter.fourcc(*fourcc)
        self._set = {cv2.CAP_PROP_CONVERT_RGB: 1.0}

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, key: int, value: float) -> bool:
        self._set[key] = value
        return True

    def get(self, key: int) -> float:
        return float(self._can) if key == cv2.CAP_PROP_FOURCC else self._set.get(key, 0.0)

    def grab(self) -> bool:
        time.sleep(1 / 50)
        self.sent.append(self._spoil(jpeg_of(numbered(len(self.sent)))))
        return len(self.sent) <= 10

    def retrieve(self) -> tuple[bool, ImageBGR | None]:
        raw = np.frombuffer(self.sent[-1], np.uint8)[None]
        if not self._set[cv2.CAP_PROP_CONVERT_RGB]:
            return True, raw
        image_bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR)
        return image_bgr is not None, None if image_bgr is None else np.asarray(image_bgr, np.uint8)

    def release(self) -> None:
        pass


def all_of(pictures: Iterator[Picture], into: list[Picture]) -> None:
    for picture in pictures:
        into.append(picture)


@pytest.fixture
def webcam(read: Read, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Picture]]:
    """All pictures of a webcam until it is unplugged."""

    def pictures_of(camera: Webcam, **changes: object) -> list[Picture]:
        monkeypatch.setattr(sources, "_require_device", lambda locator: None)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(cv2, "VideoCapture", lambda device, api: camera)
        pictures: list[Picture] = []
        with pytest.raises(SourceError, match="gives no more pictures"):
            all_of(read("0", fps=60, **changes), pictures)
        return pictures

    return pictures_of


@pytest.mark.parametrize("spoil", [lambda jpeg: jpeg, lambda jpeg: jpeg + bytes(5000)])
def test_jpegs_of_a_webcam_are_passed_on(
    webcam: Callable[..., list[Picture]], spoil: Callable[[bytes], bytes]
) -> None:
    camera = Webcam(spoil=spoil)
    pictures = webcam(camera)
    assert [number_in(picture.jpeg) for picture in pictures] == list(range(10))
    assert [picture.jpeg for picture in pictures] == [
        sent.rstrip(b"\0") for sent in camera.sent[:10]
    ]


def test_jpegs_of_a_webcam_that_are_too_wide_are_scaled(
    webcam: Callable[..., list[Picture]],
) -> None:
    pictures = webcam(Webcam(), width=320)
    assert [number_in(picture.jpeg) for picture in pictures] == list(range(10))
    assert {decoded(picture.jpeg).shape for picture in pictures} == {(240, 320, 3)}


def test_damaged_jpegs_of_a_webcam_are_left_out(webcam: Callable[..., list[Picture]]) -> None:
    sent = itertools.count()
    camera = Webcam(spoil=lambda jpeg: b"" if next(sent) % 3 == 1 else jpeg)
    assert [number_in(picture.jpeg) for picture in webcam(camera)] == [0, 2, 3, 5, 6, 8, 9]


def test_a_webcam_without_jpeg_is_read_as_pictures(webcam: Callable[..., list[Picture]]) -> None:
    pictures = webcam(Webcam("YUYV"))
    assert [number_in(picture.jpeg) for picture in pictures] == list(range(10))


# Streams


def test_jpegs_of_a_camera_are_passed_on_as_they_came(read: Read) -> None:
    camera = MjpegCamera()
    with camera.on() as port:
        pictures = list(itertools.islice(read(f"http://127.0.0.1:{port}/video", fps=30), 20))
    for picture in pictures:
        number = number_in(picture.jpeg)
        assert picture.jpeg == camera.sent[number]
        assert 0 <= picture.captured_at - camera.sent_at[number] < 1.0


def test_jpegs_that_are_too_wide_are_scaled(read: Read) -> None:
    with MjpegCamera().on() as port:
        picture = next(read(f"http://127.0.0.1:{port}/video", width=320))
    assert decoded(picture.jpeg).shape == (240, 320, 3)


def test_the_address_of_a_snapshot_is_asked_as_often_as_pictures_are_kept(
    read: Read, tmp_path: Path
) -> None:
    (tmp_path / "snapshot.jpg").write_bytes(jpeg_of(numbered(9)))
    with cameras.serving_folder(tmp_path) as (port, asked):
        pictures = list(itertools.islice(read(f"http://127.0.0.1:{port}/snapshot.jpg", fps=10), 11))
    assert {number_in(picture.jpeg) for picture in pictures} == {9}
    assert pictures[-1].captured_at - pictures[0].captured_at >= 0.9
    assert len(asked) == 11


def test_a_camera_that_sends_more_is_thinned_out_evenly(read: Read) -> None:
    with MjpegCamera(fps=30).on() as port:
        shown = numbers(read(f"http://127.0.0.1:{port}/video", fps=10), 12)
    gaps = np.diff(shown[2:])
    assert gaps.mean() == pytest.approx(3, abs=0.5)


def test_who_is_slow_gets_the_newest_picture_and_no_growing_delay(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes twice as long as the time between two pictures."""
    really_decoded = sources._decoded

    def slowly(packet: av.Packet) -> list[av.VideoFrame]:  # type: ignore[type-arg]
        time.sleep(2 / 30)
        return really_decoded(packet)

    monkeypatch.setattr(sources, "_decoded", slowly)
    monkeypatch.setattr(sources, "_BEHIND_S", 0.5)
    camera = MjpegCamera(fps=30)
    delays_s = []
    with camera.on() as port:
        until = time.monotonic() + 5
        for picture in read(f"http://127.0.0.1:{port}/video", fps=60, width=320):
            delays_s.append(time.time() - camera.sent_at[number_in(picture.jpeg)])
            if time.monotonic() > until:
                break
    assert max(delays_s) < 1.5  # without skipping: 2.5 s by now, and growing


def test_a_camera_that_ends_its_stream_is_an_error_that_waiting_may_help(read: Read) -> None:
    camera = MjpegCamera()
    with pytest.raises(SourceError, match="the connection") as caught, camera.on() as port:  # noqa: PT012
        for number, _ in enumerate(read(f"http://127.0.0.1:{port}/video")):
            if number == 5:
                camera._off.set()
    assert not isinstance(caught.value, SourceRefused)


PASSWORD = "p@ss/w#rd"


def test_a_password_of_any_characters_opens_a_camera(read: Read) -> None:
    with MjpegCamera(credentials=f"admin:{PASSWORD}").on() as port:
        picture = next(read(f"http://admin:{PASSWORD}@127.0.0.1:{port}/video"))
    assert jpeg_size_wh(picture.jpeg) == (640, 480)


def test_a_wrong_password_is_refused_and_shown_nowhere(
    read: Read, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        MjpegCamera(credentials="admin:other").on() as port,
        pytest.raises(SourceRefused, match="asks for a user and a password") as caught,
    ):
        next(read(f"http://admin:{PASSWORD}@127.0.0.1:{port}/video"))
    assert "p@ss" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert capfd.readouterr().err == ""


def test_a_camera_that_is_off_is_an_error_that_waiting_may_help(read: Read) -> None:
    with MjpegCamera().on() as port:
        pass
    with pytest.raises(SourceError, match="refuses the connection") as caught:
        next(read(f"rtsp://admin:{PASSWORD}@127.0.0.1:{port}/video"))
    assert not isinstance(caught.value, SourceRefused)
    assert caught.value.trouble is Trouble.REFUSED
    assert "p@ss" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"])
def test_an_rtsp_address_that_breaks_off_is_not_taken_for_a_bad_video(
    read: Read, answer: bytes
) -> None:
    with (
        cameras.abrupt_server(answer) as port,
        pytest.raises(SourceError, match="cannot be reached") as caught,
    ):
        next(read(f"rtsp://127.0.0.1:{port}/video"))
    assert caught.value.trouble is Trouble.UNREACHABLE
    assert not isinstance(caught.value, SourceRefused)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_says_nothing_is_given_up(
    read: Read, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(sources, "_OPEN_TIMEOUT_S", 0.5)
    with (
        cameras.silent_server() as port,
        pytest.raises(SourceError, match="does not answer"),
    ):
        next(read(f"{scheme}://127.0.0.1:{port}/video"))


def test_a_camera_that_falls_silent_is_given_up(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "NO_FRAME_S", 0.5)
    camera = MjpegCamera()
    with camera.on() as port, pytest.raises(SourceError, match="does not answer"):  # noqa: PT012
        for _ in read(f"http://127.0.0.1:{port}/video"):
            camera.paused.set()


def test_damaged_pictures_are_left_out_and_nothing_else_is_an_error(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "NO_FRAME_S", 1.0)
    camera = MjpegCamera(fps=30)
    with camera.on() as port:
        pictures = read(f"http://127.0.0.1:{port}/video", fps=30)
        next(pictures)
        camera.damaged.set()
        threading.Timer(0.5, camera.damaged.clear).start()
        shown = list(itertools.islice(pictures, 30))
        assert all(jpeg_size_wh(picture.jpeg) == (640, 480) for picture in shown[-5:])
        camera.damaged.set()
        with pytest.raises(SourceError, match="sends, but gave no picture"):
            list(pictures)


def test_an_rtsp_camera_that_freezes_is_given_up(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras.require_rtsp_server()
    monkeypatch.setattr(sources, "NO_FRAME_S", 1.0)
    with cameras.rtsp_camera(0, "admin", PASSWORD) as (port, server):
        pictures = read(f"rtsp://admin:{PASSWORD}@127.0.0.1:{port}/camera")
        assert jpeg_size_wh(next(pictures).jpeg) == (640, 480)
        server.send_signal(signal.SIGSTOP)
        with pytest.raises(SourceError, match="does not answer"):
            list(pictures)


def test_a_wrong_path_is_named(read: Read, tmp_path: Path) -> None:
    with (
        cameras.serving_folder(tmp_path) as (port, _),
        pytest.raises(SourceError, match="does not know this path"),
    ):
        next(read(f"http://127.0.0.1:{port}/nothing"))


@pytest.fixture
def hls(tmp_path: Path) -> Path:
    """A folder with a playlist of three segments of a second."""
    options = {"hls_time": "0.5", "hls_list_size": "0"}
    write_clip(tmp_path / "list.m3u8", [i / 30 for i in range(90)], options=options)
    assert len(list(tmp_path.glob("*.ts"))) >= 3
    return tmp_path


def test_a_playlist_that_ends_is_played_in_real_time(read: Read, hls: Path) -> None:
    with cameras.serving_folder(hls) as (port, _):
        started_at = time.monotonic()
        pictures = read(f"http://127.0.0.1:{port}/list.m3u8", loop=False)
        assert numbers(pictures, 30) == list(range(0, 60, 2))
        assert time.monotonic() - started_at >= 1.8


def test_a_playlist_that_goes_on_is_not_shown_in_lumps(read: Read, hls: Path) -> None:
    playlist = hls / "list.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST", ""))
    with cameras.serving_folder(hls) as (port, _):
        started_at = time.monotonic()
        shown = numbers(read(f"http://127.0.0.1:{port}/list.m3u8"), 12)
        assert set(np.diff(shown)) == {2}
        assert time.monotonic() - started_at >= 0.7


def test_a_playlist_from_the_network_opens_no_local_file(
    read: Read, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    )
    with cameras.serving_folder(tmp_path) as (port, _), pytest.raises(SourceError):
        next(read(f"http://127.0.0.1:{port}/list.m3u8"))


def test_reading_ends_when_told_to(clip: Path) -> None:
    stop = threading.Event()
    pulse = Pulse()
    pictures = sources.read(
        builders.feed(source=str(clip)), jpeg_quality=80, pulse=pulse, stop=stop
    )
    next(pictures)
    stop.set()
    assert list(pictures) == []


def test_waiting_on_purpose_is_a_sign_of_life(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "slow.mp4", [0.0, 1.2])
    pulse, ages_s = Pulse(), []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            ages_s.append(pulse.age_s)

    watcher = threading.Thread(target=watch)
    watcher.start()
    feed = builders.feed(source=str(clip))
    pictures = sources.read(feed, jpeg_quality=80, pulse=pulse, stop=threading.Event())
    with contextlib.closing(pictures):  # type: ignore[type-var]
        assert numbers(pictures, 2) == [0, 1]
    done.set()
    watcher.join()
    assert max(ages_s) < 1.0


def test_every_kind_of_source_but_the_browsers_can_be_read() -> None:
    feed = Feed("cam", "cam", Source.browser(), 15.0, 640)
    with pytest.raises(SourceRefused, match="come from that browser"):
        sources.read(feed, jpeg_quality=80, pulse=Pulse(), stop=threading.Event())
