"""How to read pictures from anything: webcam, stream, video file, folder of images, the demo.

`read` turns a feed into JPEG pictures that are ready for the bus: no more of them than the feed's
frames per second, chosen evenly by time, and none wider than the feed's width. A picture that is a
fitting JPEG already is passed on as it came.

Live sources are read as fast as they deliver, so that the newest picture is never behind others
that wait. Sources with a clock of their own (files, folders, HLS) are played in real time.

Promises: opening and reading have time limits wherever the library underneath can keep them, and
`Pulse` tells a watchdog where it cannot. FFmpeg may open only what its kind of source needs: no
local file from the network, no network from a local file. Errors are sentences of our own, made
from the kind of failure; nothing that FFmpeg says gets through, because it would quote passwords.

Not here: making the JPEG (`workers.jpeg`), reconnecting, and what becomes of a picture
(`workers.capture_feed`).
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import av.error
import av.logging
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from shared.errors import SourceEnded, SourceError, SourceRefused
from shared.schema import Feed, Trouble
from shared.source import Source, SourceKind
from workers.jpeg import Encoder, ImageBGR, passed_on

_Packet: TypeAlias = "Packet[Any]"  # generic for the type checker alone

DEMO_CLIP = Path(__file__).parent / "demo" / "demo.mp4"
NO_FRAME_S = 10.0  # a source that gave no frame for so long is opened anew
_OPEN_TIMEOUT_S = 4.5  # for connecting, and again for learning what the stream holds
_BEHIND_S = 2.0  # a live stream whose packets came without waiting for so long is behind
_WAITED_S = 0.003
_AHEAD = 16  # packets: as many as H.264 and HEVC ever put in another order
# Codecs of which the decoder leaves out pictures that no other builds on.
_LEAVES_OUT = frozenset(("h264", "hevc"))
_FOR_ONE_THREAD = 1280 * 720  # pixels of a recording; larger ones may be too much for one
_MJPG = cv2.VideoWriter.fourcc(*"MJPG")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# Container formats whose timestamps the reader made up by counting frames.
_COUNTED_TIMES = ("mpjpeg", "mjpeg", "image2", "jpeg_pipe")
# Container formats that keep the order of decoding alone; when pictures are shown is a guess.
_GUESSED_TIMES = ("avi",)
# Container formats that are live, yet arrive in lumps of several seconds.
_SEGMENTED = ("hls", "dash")
_NETWORK_PROTOCOLS = "http,https,tcp,tls,crypto,httpproxy"
_OPTIONS: dict[str, dict[str, str]] = {
    "rtsp": {
        "protocol_whitelist": "tcp,tls",
        "rtsp_transport": "tcp",
        "allowed_media_types": "video",
    },
    "http": {"protocol_whitelist": _NETWORK_PROTOCOLS, "user_agent": "Moodline"},
    "file": {"protocol_whitelist": "file"},
}
_PROBE = {"analyzeduration": "2000000", "probesize": "2000000", "fpsprobesize": "0"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as JPEG; `captured_at` is when it was read, in epoch seconds."""

    captured_at: float
    jpeg: bytes


class Pulse:
    """When a source was last known to be well: it gave a frame, or waits on purpose."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        self._beat_at = time.monotonic()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._beat_at


@dataclass(slots=True)
class Limits:
    """How many pictures a second are kept at most, and how wide; may change while one reads."""

    fps: float
    width: int


class EvenRate:
    """Chooses frames evenly by their times, so that no more than `limits.fps` a second are kept.

    The times that were asked for lie on a grid; a frame is kept if it comes near the next one or
    after it. After a gap the grid may be caught up by two frames, so that jitter
    costs a source of the very same rate nothing.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._due_s: float | None = None

    def keeps(self, t_s: float) -> bool:
        """Whether to keep the frame of this time (seconds on any clock)."""
        period_s = 1.0 / self._limits.fps
        if self._due_s is None or t_s < self._due_s - 3 * period_s:  # the clock was set back
            self._due_s = t_s
        if t_s < self._due_s - 0.4 * period_s:
            return False
        self._due_s = max(self._due_s + period_s, t_s - 2 * period_s)
        return True


class Foresight:
    """Chooses the pictures of a recording before they are decoded, so that some need not be.

    What is not kept, and no other picture builds on, the decoder leaves out. Packets are read so
    far ahead of it that their pictures are known in the order in which they are shown. Where
    packets do not tell when that is, or the decoder cannot leave out, frames are chosen as they
    come.
    """

    def __init__(self, rate: EvenRate, stream: VideoStream, began_s: float) -> None:
        self._rate = rate
        self._context = stream.codec_context
        self._unit_s = float(stream.time_base or 0)
        self._began_s = began_s
        self._first: int | None = None
        self._coming: list[int] = []  # a heap
        self._kept: set[int] = set()
        self._looks_ahead = False

    def packets(self, packets: Iterable[_Packet]) -> Iterator[_Packet]:
        """Pass packets on, and tell the decoder before each whether its picture is wanted."""
        if self._context.name not in _LEAVES_OUT:
            yield from packets
            return
        self._looks_ahead = True
        ahead: deque[_Packet] = deque()
        for packet in packets:
            ahead.append(packet)
            if packet.pts is not None and not packet.is_discard:
                heappush(self._coming, packet.pts)
            if len(ahead) > _AHEAD:
                yield self._told(ahead.popleft())
        yield from (self._told(packet) for packet in ahead)

    def keeps(self, frame: av.VideoFrame, t_s: float) -> bool:
        """Whether to keep a decoded frame, which is shown at `t_s`."""
        if not self._looks_ahead or frame.pts is None:
            return self._rate.keeps(t_s)
        kept = frame.pts in self._kept
        self._kept.discard(frame.pts)
        return kept

    def _told(self, packet: _Packet) -> _Packet:
        wanted = packet.pts is None or self._wanted(packet.pts)
        self._context.skip_frame = "DEFAULT" if wanted else "NONREF"
        return packet

    def _wanted(self, pts: int) -> bool:
        while self._coming and self._coming[0] <= pts:
            shown = heappop(self._coming)
            self._first = shown if self._first is None else self._first
            if self._rate.keeps(self._began_s + (shown - self._first) * self._unit_s):
                self._kept.add(shown)
        return pts in self._kept


class Playback:
    """Plays something with a clock of its own in real time.

    Times that jump, or that have fallen behind by more than a second, start the clock anew:
    better a pause left out than a picture from the past.
    """

    def __init__(self, pulse: Pulse, stop: threading.Event) -> None:
        self._pulse = pulse
        self._stop = stop
        self._offset_s: float | None = None  # monotonic time less media time
        self._last_s = 0.0

    def wait_until(self, t_s: float) -> bool:
        """Sleep until the moment that shows media time `t_s`; False if told to stop."""
        now = time.monotonic()
        jumped = not -1.0 < t_s - self._last_s < 60.0
        if self._offset_s is None or jumped or now - (self._offset_s + t_s) > 1.0:
            self._offset_s = now - t_s
        self._last_s = t_s
        while (left_s := self._offset_s + t_s - time.monotonic()) > 0:
            self._pulse.beat()
            if self._stop.wait(min(left_s, 0.5)):
                return False
        return not self._stop.is_set()


def read(
    feed: Feed,
    *,
    jpeg_quality: int,
    pulse: Pulse,
    stop: threading.Event,
    limits: Limits | None = None,
) -> Iterator[Picture]:
    """Yield the pictures of a feed until `stop` is set; beats `pulse` for each frame read.

    `limits` are the feed's where they are not given; who gives them may change them meanwhile.

    Raises SourceEnded at the end of what is not looped, SourceRefused where a person has to act
    (no such file, wrong password), SourceError where waiting may help.
    """
    av.logging.set_level(None)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    pulse.beat()
    limits = limits or Limits(feed.fps, feed.width)
    reader = _Reader(feed, limits, Encoder(jpeg_quality), pulse, stop)
    match feed.source.kind:
        case SourceKind.WEBCAM:
            return reader.webcam()
        case SourceKind.STREAM:
            return reader.stream()
        case SourceKind.FILE:
            return reader.file(Path(feed.source.locator))
        case SourceKind.DEMO:
            return reader.file(DEMO_CLIP)
        case SourceKind.FOLDER:
            return reader.folder()
        case SourceKind.BROWSER:
            raise SourceRefused("The frames of a browser's camera come from that browser.")


class _Reader:
    """One reading of one feed; `stream`, `file` and `folder` go round until told to stop."""

    def __init__(
        self, feed: Feed, limits: Limits, encoder: Encoder, pulse: Pulse, stop: threading.Event
    ) -> None:
        self._feed = feed
        self._limits = limits
        self._source = feed.source
        self._encoder = encoder
        self._pulse = pulse
        self._stop = stop
        self._rate = EvenRate(limits)
        self._clock = Playback(pulse, stop)
        self._played_s = 0.0  # media time at which the next round begins

    def webcam(self) -> Iterator[Picture]:
        while not self._stop.is_set():
            yield from self._webcam(self._limits.width)

    def _webcam(self, width: int) -> Iterator[Picture]:
        """Read until another width is wanted: the driver has to be opened anew for that."""
        locator = self._source.locator
        device: int | str = int(locator) if locator.isdecimal() else locator
        on_linux = sys.platform.startswith("linux")
        if on_linux:
            _require_device(locator)
        camera = cv2.VideoCapture(device, cv2.CAP_V4L2 if on_linux else cv2.CAP_ANY)
        try:
            if not camera.isOpened():
                raise SourceRefused(
                    f"Webcam {locator} does not open: close the program that uses it, "
                    "or give another number.",
                    Trouble.WEBCAM_BUSY,
                )
            # Compressed pictures, because raw ones of more than 640x480 do not fit through USB 2
            # at full rate; and no queue in the driver, so that each picture is the newest.
            camera.set(cv2.CAP_PROP_FOURCC, _MJPG)
            camera.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            if on_linux and camera.get(cv2.CAP_PROP_FOURCC) == _MJPG:
                camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # give the JPEG, and do not decode it
            while not self._stop.is_set() and self._limits.width == width:
                if not camera.grab():
                    raise SourceError(
                        f"Webcam {locator} gives no more pictures: check that it is plugged in.",
                        Trouble.WEBCAM_GONE,
                    )
                captured_at = time.time()
                self._pulse.beat()
                if self._rate.keeps(time.monotonic()):
                    done, taken = camera.retrieve()
                    jpeg = self._taken(cast("NDArray[np.uint8]", taken), width) if done else None
                    if jpeg is not None:
                        yield Picture(captured_at, jpeg)
        finally:
            camera.release()

    def _taken(self, taken: NDArray[np.uint8], width: int) -> bytes | None:
        """What a webcam gave: a picture (height, width, 3), or the bytes of a JPEG.

        None where that JPEG is damaged, as some are through USB. Drivers fill up with zeros.
        """
        if taken.ndim == 3:
            return self._encoder.from_image(taken, width)
        return self._encoder.from_jpeg(taken.tobytes().rstrip(b"\0"), width)

    def stream(self) -> Iterator[Picture]:
        address = self._source.locator
        options = _OPTIONS[address.partition("://")[0].removesuffix("s")] | _PROBE
        while not self._stop.is_set():
            with _Opened(self._source, address, options, self._pulse) as container:
                bounded = container.duration is not None
                if bounded or container.format.name.startswith(_SEGMENTED):
                    yield from self._play(container)
                else:
                    yield from self._follow(container)
            if self._stop.is_set():
                return
            if not bounded:
                raise SourceError(
                    f"{self._source.masked} closed the connection: {_ADDRESS}.", Trouble.CLOSED
                )
            self._require_loop()

    def file(self, path: Path) -> Iterator[Picture]:
        _require_file(path)
        while not self._stop.is_set():
            with _Opened(self._source, str(path), _OPTIONS["file"], self._pulse) as container:
                yield from self._play(container)
            self._require_loop()

    def folder(self) -> Iterator[Picture]:
        folder = Path(self._source.locator)
        while not self._stop.is_set():
            began_s = self._played_s
            for path in _images(folder):
                image_bgr = cv2.imread(str(path))  # upright: turned as its EXIF says
                self._pulse.beat()
                if image_bgr is not None:
                    if not self._clock.wait_until(self._played_s):
                        return
                    self._played_s += 1 / self._limits.fps
                    jpeg = self._encoder.from_image(cast("ImageBGR", image_bgr), self._limits.width)
                    yield Picture(time.time(), jpeg)
            if self._played_s == began_s:
                raise SourceRefused(
                    f"The folder {folder} holds no image that can be read: "
                    f"put some there ({', '.join(_IMAGE_SUFFIXES)}).",
                    Trouble.NO_IMAGE,
                )
            self._clock.wait_until(self._played_s)
            self._require_loop()

    def _follow(self, container: InputContainer) -> Iterator[Picture]:
        """Read a live stream at the pace at which it comes, and never fall behind it."""
        stream = container.streams.video[0]
        stream.thread_count = 1  # decoding several frames at once would hold each back by as many
        counted = container.format.name in _COUNTED_TIMES
        is_jpeg = stream.codec_context.name == "mjpeg"
        backlog = _Backlog()
        asked_at = time.monotonic()
        for packet in container.demux(stream):
            read_at = time.time()
            waited_s = time.monotonic() - asked_at
            if self._stop.is_set():
                return
            if waited_s >= NO_FRAME_S:  # FFmpeg takes our time limit for the end of some streams
                raise SourceError(f"{self._source.masked} {_SILENT}.", Trouble.SILENT)
            if packet.size and not backlog.skips(waited_s, packet.is_keyframe):
                timed = not counted and packet.pts is not None
                jpeg = passed_on(bytes(packet), self._limits.width) if is_jpeg else None
                if jpeg is not None:
                    self._pulse.beat()
                    if self._rate.keeps(_time_s(packet, timed)):
                        yield Picture(read_at, jpeg)
                else:
                    for frame in _decoded(packet):
                        self._pulse.beat()
                        if self._rate.keeps(_time_s(frame, timed)):
                            yield Picture(read_at, self._encoded(frame))
                self._require_frames()
            asked_at = time.monotonic()

    def _play(self, container: InputContainer) -> Iterator[Picture]:
        """Show a recording, or a stream that comes in lumps, at the times written in it.

        What is shown over and over goes on in time. A single picture is shown for one period of
        the feed: so the address of a camera's snapshot is asked for as often as pictures are kept.
        """
        stream = container.streams.video[0]
        context = stream.codec_context
        if context.width * context.height <= _FOR_ONE_THREAD:
            stream.thread_count = 1
        else:
            stream.thread_type = "AUTO"
            stream.thread_count = 2
        foresight = Foresight(self._rate, stream, self._played_s)
        packets: Iterable[_Packet] = container.demux(stream)
        guessed = container.format.name in _GUESSED_TIMES
        if self._source.kind is not SourceKind.STREAM and not guessed:
            packets = foresight.packets(packets)  # of a stream, reading ahead means waiting
        frame_s = 1.0 / float(stream.average_rate or 25)
        frames, shift_s, t_s = 0, 0.0, self._played_s
        for packet in packets:
            if self._stop.is_set():
                return
            for frame in _decoded(packet):
                self._pulse.beat()
                if frames == 0:
                    shift_s = self._played_s - (frame.time or 0.0)
                t_s = t_s + frame_s if frame.time is None else frame.time + shift_s
                frames += 1
                if foresight.keeps(frame, t_s):
                    if not self._clock.wait_until(t_s):
                        return
                    yield Picture(time.time(), self._encoded(frame))
            self._require_frames()
        if frames == 0:
            raise SourceRefused(
                f"{self._source.masked} holds no picture that can be decoded: give another.",
                Trouble.NO_VIDEO,
            )
        self._played_s = t_s + (frame_s if frames > 1 else 1 / self._limits.fps)
        self._clock.wait_until(self._played_s)

    def _encoded(self, frame: av.VideoFrame) -> bytes:
        return self._encoder.from_frame(frame, self._limits.width)

    def _require_frames(self) -> None:
        if self._pulse.age_s > NO_FRAME_S:
            raise SourceError(
                f"{self._source.masked} sends, but gave no picture for {NO_FRAME_S:g} s: "
                "check what the camera sends.",
                Trouble.NO_PICTURE,
            )

    def _require_loop(self) -> None:
        if not self._feed.loop and not self._stop.is_set():
            raise SourceEnded(f"{self._source.masked} has ended.", Trouble.ENDED)


def _require_device(locator: str) -> None:
    """Say what is wrong with a webcam that OpenCV would only fail to open."""
    path = Path(f"/dev/video{locator}") if locator.isdecimal() else Path(locator)
    if not path.exists():
        found = ", ".join(sorted(str(other) for other in Path("/dev").glob("video*"))) or "none"
        raise SourceRefused(
            f"There is no webcam {path}: plug it in, or give another number (found: {found}).",
            Trouble.NO_WEBCAM,
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceRefused(
            f"The webcam {path} may not be used by this user: add the user to the group 'video'.",
            Trouble.WEBCAM_DENIED,
        )


def _require_file(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SourceRefused(*_file_trouble(path, error)) from error
    if not path.is_file():
        raise SourceRefused(
            f"{path} is no video file: give a file, or a folder of images.", Trouble.NO_VIDEO
        )


def _file_trouble(path: Path, error: OSError) -> tuple[str, str]:
    """The sentence for an error, and its kind."""
    if isinstance(error, FileNotFoundError):
        return f"There is no file {path}: check the name and the folder.", Trouble.NO_FILE
    if isinstance(error, PermissionError):
        sentence = f"The file {path} may not be read by this user: change its permissions."
        return sentence, Trouble.FILE_DENIED
    if isinstance(error, IsADirectoryError):
        sentence = f"{path} is a folder: give a video file, or a folder that holds images."
        return sentence, Trouble.IS_FOLDER
    return f"The file {path} cannot be read ({os.strerror(error.errno or 0)}).", ""


class _Opened:
    """An open FFmpeg container; its errors come out as ours, free of credentials."""

    def __init__(self, source: Source, locator: str, options: dict[str, str], pulse: Pulse) -> None:
        self._source = source
        self._locator = locator
        self._options = options
        self._pulse = pulse
        self._container: InputContainer | None = None

    def __enter__(self) -> InputContainer:
        self._pulse.beat()
        try:
            self._container = av.open(
                self._locator,
                options=self._options,
                timeout=(_OPEN_TIMEOUT_S, NO_FRAME_S),
            )
        except av.error.FFmpegError as error:
            raise _explained(self._source, error, self._pulse.age_s >= _OPEN_TIMEOUT_S) from None
        self._pulse.beat()
        if not self._container.streams.video:
            raise SourceRefused(
                f"{self._source.masked} holds no video: give one that does.", Trouble.NO_VIDEO
            )
        return self._container

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if self._container is not None:
            self._container.close()
        if isinstance(error, av.error.FFmpegError):
            raise _explained(self._source, error, self._pulse.age_s >= NO_FRAME_S) from None


class _Backlog:
    """Notices that a live stream is decoded more slowly than it comes, and skips what waits.

    While decoding keeps up, the reader has to wait for packets. Once it never had to for
    `_BEHIND_S`, more come than can be decoded: then all are left out until one had to be waited
    for, and decoding begins again at the next key frame.
    """

    def __init__(self) -> None:
        self._waited_at = time.monotonic()
        self._skipping = self._drained = False

    def skips(self, waited_s: float, is_keyframe: bool) -> bool:
        """Whether to leave out, undecoded, a packet that took `waited_s` to arrive."""
        now = time.monotonic()
        if waited_s > _WAITED_S:
            self._waited_at = now
            self._drained = True
        if self._skipping:
            self._skipping = not (self._drained and is_keyframe)
        elif now - self._waited_at > _BEHIND_S:
            self._skipping, self._drained = True, False
        return self._skipping


def _time_s(timed_thing: Any, timed: bool) -> float:
    """The time in the stream of a packet or frame, or the time here where the stream has none."""
    if timed and timed_thing.pts is not None:
        return float(timed_thing.pts * timed_thing.time_base)
    return time.monotonic()


def _decoded(packet: _Packet) -> list[av.VideoFrame]:
    """The frames of a packet; none where it is damaged: the next key frame puts that right."""
    try:
        return packet.decode()
    except (av.error.InvalidDataError, av.error.EOFError):
        return []


_ADDRESS = "check the address, the camera and the network"
_SILENT = f"does not answer: {_ADDRESS}"
_BROKEN_OFF = f"broke off the connection: {_ADDRESS}"
_NOTHING_TO_READ = "holds no video that can be read: check what it is"
_REASONS: dict[type[Exception], tuple[Trouble, str]] = {
    av.error.HTTPUnauthorizedError: (
        Trouble.LOGIN,
        "asks for a user and a password, or these are wrong: "
        "write the address as scheme://user:password@host/path",
    ),
    av.error.HTTPForbiddenError: (
        Trouble.DENIED,
        "does not allow this user: check user and password",
    ),
    av.error.DecoderNotFoundError: (
        Trouble.CODEC,
        "sends a kind of video that cannot be decoded: try H.264",
    ),
    av.error.ProtocolNotFoundError: (
        Trouble.ADDRESS_KIND,
        "leads to an address of a kind that is not opened",
    ),
    av.error.HTTPNotFoundError: (
        Trouble.NO_PATH,
        "does not know this path: check what follows the host",
    ),
    av.error.InvalidDataError: (Trouble.NO_VIDEO, _NOTHING_TO_READ),
    av.error.DemuxerNotFoundError: (Trouble.NO_VIDEO, _NOTHING_TO_READ),
    av.error.ConnectionRefusedError: (
        Trouble.REFUSED,
        "refuses the connection: check that the camera is on and the port is right",
    ),
    av.error.ConnectionResetError: (Trouble.BROKEN_OFF, _BROKEN_OFF),
    av.error.BrokenPipeError: (Trouble.BROKEN_OFF, _BROKEN_OFF),
    av.error.EOFError: (Trouble.CLOSED, f"closed the connection: {_ADDRESS}"),
    av.error.TimeoutError: (Trouble.SILENT, _SILENT),
    av.error.ExitError: (Trouble.SILENT, _SILENT),  # PyAV's time limit
    av.error.HTTPTooManyRequestsError: (
        Trouble.TOO_MANY,
        "asks for fewer connections: close other viewers",
    ),
    av.error.HTTPClientError: (
        Trouble.BAD_REQUEST,
        "does not accept the request: check the address",
    ),
    av.error.HTTPServerError: (
        Trouble.CAMERA_FAILED,
        "reports an error of its own: check or restart the camera",
    ),
}
_FOR_A_PERSON = (
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
    av.error.DecoderNotFoundError,
    av.error.ProtocolNotFoundError,
)


def _explained(source: Source, error: av.error.FFmpegError, timed_out: bool) -> SourceError:
    """Our sentence for FFmpeg's error, by its kind alone; its text may hold the password.

    What was cut off by our time limit is told by that: FFmpeg takes it for damaged data at times.
    Of RTSP it says the same where no way leads to the host, or that breaks off the conversation.
    """
    number = error.errno or 0
    found = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
    unnamed = os.strerror(number) if 0 < number < 200 else "unknown reason"
    trouble, reason = next(found, ("", f"cannot be read ({unnamed}): check it"))
    if source.kind is SourceKind.STREAM:
        if timed_out:
            trouble, reason = Trouble.SILENT, _SILENT
        elif number == errno.EIO:  # also: a host without address
            trouble = Trouble.UNREACHABLE
            reason = f"cannot be reached, or broke off the connection: {_ADDRESS}"
        elif trouble == Trouble.NO_VIDEO and source.locator.startswith("rtsp"):
            trouble = Trouble.UNREACHABLE
            reason = f"cannot be reached, or gives no answer that is a video: {_ADDRESS}"
    stays = source.kind is not SourceKind.STREAM or isinstance(error, _FOR_A_PERSON)
    return (SourceRefused if stays else SourceError)(f"{source.masked} {reason}.", trouble)


def _images(folder: Path) -> list[Path]:
    """The images in a folder by name; looked up again each round, so that it may change."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
    except OSError as error:
        raise SourceRefused(
            f"The folder {folder} cannot be read ({os.strerror(error.errno or 0)}): "
            "check its name and permissions.",
            Trouble.FOLDER_UNREADABLE,
        ) from error
