"""Recorded video files: what is in one, how to cut it, and its frames, exactly.

`probe` says what a file holds, or why it cannot be analysed. `plan` cuts it into segments, at key
frames where it can. `frames` decodes one segment. Together the segments give just the frames that
decoding the whole file from its beginning gives, each once, in order, at its own time: whoever
decodes which segment, and in whatever order.

How: the file's packets say which pictures there are and when each is shown, so the plan knows the
frames of every segment beforehand. A segment starts at a key frame, leaves out what belongs to
its neighbours, and reads on until all of its own pictures are out, for some come after the next key
frame. If one does not come, decoding starts again one segment earlier. What then is missing still
is counted, never made up. Where packets do not tell (no times, times that repeat or jump back,
codecs that hide pictures), there is one segment, and the decoder says what there is.

Promises: a file is only ever read from the one file handle that was given. Only demuxers of true
containers are let in (`FORMATS`), so no playlist can name other files or addresses, and FFmpeg may
open nothing by itself. No picture larger than `MAX_PIXELS` is decoded. Damaged packets are skipped;
of a file that was cut off, what is there can be read, and the plan says where it ended. FFmpeg is
silent; errors are SourceError, each one sentence about the file that says what to do.

Not here: limits on memory and time (`workers.probe`), what is seen in frames (`workers.video`), and
live sources (`workers.sources`).
"""

from __future__ import annotations

import errno
import json
import math
import os
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import accumulate, chain, groupby, islice, pairwise, repeat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, TypeAlias, cast

import av
import av.error
import av.logging
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from shared.errors import InvalidRecord, SourceError
from shared.records import build, json_object
from shared.video import Footage, VideoOptions

ImageBGR = NDArray[np.uint8]  # (height, width, 3)
_Packet: TypeAlias = "Packet[Any]"  # generic for the type checker alone
_Timed: TypeAlias = tuple[float, av.VideoFrame]

ANALYSIS_WIDTH = 1280  # pixels; frames wider than this are scaled down to it
MAX_PIXELS = 8192 * 4320
SEGMENT_S = 6.0  # at least so long, up to the next key frame
_MOST_PARTS, _PART_FRAMES = 4, 30  # from a key frame to the next; the fewest frames of one
_LAST_SEGMENTS_S, _MOST_LAST_PARTS = 1.5, 8  # what follows the last key frame is cut finer

# Containers, and no demuxer that opens a second file or address by what it reads in the first. The
# sound formats are here so that a song can be told from a broken video.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,dv,gxf,wtv,rm,"
    "dhav,h264,hevc,m4v,mpegvideo,mp3,aac,flac,wav"
)
_OPTIONS = {
    "format_whitelist": FORMATS,
    "protocol_whitelist": "none",  # the file is read through its handle; there is nothing to open
    "max_pixels": str(MAX_PIXELS),
}
_BUFFER_BYTES = 1 << 16

# Codecs of which each packet gives one picture with the packet's time, and key frames are marked.
_ONLY_KEY_FRAMES = frozenset(
    ("mjpeg", "prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo")
)
_AMONG_KEY_FRAMES = frozenset(("h264", "hevc", "av1", "vp8", "vp9", "flv1", "h263")) | frozenset(
    ("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "wmv1", "wmv2")
)
# Codecs whose decoders leave pictures out without a trace in the others.
_LEAVES_OUT = frozenset(("h264", "hevc"))
# Containers that keep the order of decoding alone, so that FFmpeg guesses when pictures are shown.
_GUESSED_TIMES = frozenset(("avi", "h264", "hevc", "m4v", "mpegvideo"))
# Containers that are looked through for a time by the order of decoding.
_SOUGHT_BY_DTS = frozenset(("ts", "mpg"))
_LOOK_FRAMES = 48  # decoded when planning, to see that the packets tell the truth
_LOOK_PACKETS = 2000  # read, to find a first picture
_SEEK_EARLIER_S = 10.0
_SET_BACK_S = 2.0
_BEYOND_FRAMES = 64  # that come after a segment's last: four times as many as any codec reorders

_BROWSER_FORMS = {
    "mp4": ("h264", "vp9", "av1"),
    "mov": ("h264",),
    "webm": ("vp8", "vp9", "av1"),
}
_BROWSER_SOUND = {"aac", "mp3", "opus", "vorbis", "flac"}


class Sampled(NamedTuple):
    """One frame: its time in seconds as the file says it, and its picture.

    The picture is upright, (height, width, 3) in BGR, of size `Plan.image_wh`.
    """

    t: float
    image_bgr: ImageBGR


class Start(NamedTuple):
    """A key frame to start decoding at: when it is shown, and when it is decoded."""

    pts: int
    dts: int | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a video that is decoded at one go.

    Decoding starts at the first of `starts` (None: the file's beginning), and anew at the next
    where that leaves a frame out. `pts` are the times of its sampled frames, in units of the plan's
    `time_base`; empty where only the decoder can tell.
    """

    index: int
    starts: tuple[Start | None, ...] = (None,)
    pts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a video is cut, and how many frames there are to analyse.

    `timed_by` is "packets", or "decoder" where only decoding tells the frames: `frames_total` is an
    estimate then. `width` and `height` are pixels as displayed. `fps` frames per second are
    sampled (None: all) of those from `start_s` up to `end_s` (frame times; None: open). `rate` is
    frames per second for frames without a time. `ended_early` says where a file that was cut off
    ends; empty for a whole one. `search_every_s` is how long a new face may go unseen, 0: never
    (`workers.lookout`); it stands here so that all workers search the same frames.
    """

    frames_total: int
    timed_by: str
    time_base: tuple[int, int]
    width: int
    height: int
    rate: float
    fps: float | None
    start_s: float | None
    end_s: float | None
    segments: tuple[Segment, ...]
    ended_early: str = ""
    search_every_s: float = 0.0

    @property
    def image_wh(self) -> tuple[int, int]:
        """Width and height of the pictures that `frames` gives."""
        return fitted_wh(self.width, self.height, ANALYSIS_WIDTH)

    @property
    def scale(self) -> float:
        """Pixels of such a picture times this are pixels of the video as displayed."""
        return self.width / self.image_wh[0]

    def time_s(self, pts: int) -> float:
        """The time of a frame, to the last bit as PyAV computes it."""
        return float(pts) * self.time_base[0] / self.time_base[1]

    def to_json(self) -> str:
        """As JSON: an hour at 30 frames/s takes less than a megabyte."""
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        row["segments"] = [[part.index, part.starts, *_packed(part.pts)] for part in self.segments]
        return json.dumps(row, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a plan again; raises InvalidRecord where it is none."""
        row = json_object(text)
        try:
            row["time_base"] = tuple(row["time_base"])
            row["segments"] = tuple(
                Segment(index, tuple(at and Start(*at) for at in starts), _unpacked(*packed))
                for index, starts, *packed in row["segments"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRecord(f"expected the fields of a plan, got {sorted(row)}") from error
        return build(cls, row)


class Frames(Iterator[Sampled]):
    """The frames of one segment, in order; `missing` counts those that could not be decoded."""

    def __init__(
        self,
        file: Path | BinaryIO,
        plan: Plan,
        segment: Segment,
        threads: int,
        *,
        wanted: Collection[int] | None = None,
        under_way: _Decoding | None = None,
        keep: bool = False,
    ) -> None:
        self.missing = 0
        self._file = file
        self._plan = plan
        self._segment = segment
        self._threads = threads
        self._upright = Upright(plan.image_wh)
        # What of the pictures that none builds on is decoded: what comes out may depend on that,
        # if the file is damaged.
        self._wanted = segment.pts if wanted is None else wanted
        self._decoding = under_way  # has got as far as this segment
        self._keep = keep  # whoever comes next may go on from the end of this segment
        self._kept = False
        self._frames = self._decoded() if plan.timed_by == "decoder" else self._expected()

    def __next__(self) -> Sampled:
        t, frame = next(self._frames)
        return Sampled(t, self._upright.image_bgr(frame))

    def undeveloped(self) -> Iterator[tuple[float, Callable[[], ImageBGR]]]:
        """The same frames, decoded, with what makes the picture of each.

        Who looks at a picture as soon as it is made finds it in the processor's caches.
        """
        for t, frame in self._frames:
            yield t, partial(self._upright.image_bgr, frame)

    def close(self) -> None:
        """Let go of the file, whether the end is reached or not."""
        self._frames.close()
        self._let_go()

    def left_over(self) -> _Decoding | None:
        """Give away the decoding, if it has got to the end of the segment without trouble."""
        if not self._kept:
            return None
        decoding, self._decoding = self._decoding, None
        return decoding

    def _let_go(self) -> None:
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None

    def _expected(self) -> Generator[_Timed]:
        """Give the frames whose times the plan knows, starting anew where one does not come.

        With nothing left to try, take them as the decoder gives them: of damaged pictures, some
        come late, and others never.
        """
        due = deque(self._segment.pts)
        left = set(due)
        try:
            for tries, start in enumerate(self._segment.starts, 1):
                last_try = tries == len(self._segment.starts)
                beyond = 0
                if self._decoding is None:
                    self._decoding = _Decoding(
                        self._file, start, frozenset(self._wanted), threads=self._threads
                    )
                for frame in self._decoding.frames:
                    if frame.pts not in left:
                        beyond += frame.pts is not None and frame.pts > self._segment.pts[-1]
                        if beyond >= (_BEYOND_FRAMES if last_try else 1):
                            break
                        continue
                    if frame.pts != due[0] and not last_try:
                        break
                    yield frame.time, frame
                    left.remove(frame.pts)
                    while due and due[0] not in left:
                        due.popleft()
                    if not left:
                        self._kept = self._keep and tries == 1 and not beyond
                        return
                self._let_go()
            self.missing = len(left)
        finally:
            if not self._kept:
                self._let_go()

    def _decoded(self) -> Generator[_Timed]:
        """Give what the decoder gives, and choose among it as it comes."""
        choose = _Choice(self._plan)
        with Opened(self._file, threads=self._threads) as source:
            for t, frame in source.timed_frames(self._plan):
                if choose.takes(t):
                    yield t, frame
            self.missing = source.damaged


class _Decoding:
    """Decoding from a start on, which may go on from one segment to the next.

    Pictures of other times than those `wanted` may be left out.
    """

    def __init__(
        self,
        file: Path | BinaryIO,
        start: Start | None,
        wanted: Collection[int],
        *,
        threads: int,
    ) -> None:
        self.source = Opened(file, threads=threads).__enter__()
        self.frames = self.source.frames(start, wanted=wanted)

    def close(self) -> None:
        self.source.__exit__()


class Reader:
    """Gives the frames of one segment after the other, in whatever order they are asked for.

    Where a segment is asked for just after the one before it, and both are decoded from the same
    key frame, decoding goes on where it ended; all else starts anew. Both give the same pictures,
    of a damaged file too: the decoder gets the same packets. The one handle that was given is read
    by one segment at a time.
    """

    def __init__(self, file: Path | BinaryIO, plan: Plan, *, threads: int = 1) -> None:
        self.plan = plan
        self._file = file
        self._threads = threads
        self._last: Frames | None = None
        self._last_index = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frames(self, segment: Segment) -> Frames:
        """The frames of this segment; those of another one end with this."""
        under_way = None
        if self._last is not None:
            if self._last_index + 1 == segment.index:
                under_way = self._last.left_over()
            self._last.close()
        run = [part for part in self.plan.segments if part.starts[0] == segment.starts[0]]
        self._last_index = segment.index
        self._last = Frames(
            self._file,
            self.plan,
            segment,
            self._threads,
            wanted=[pts for part in run for pts in part.pts],
            under_way=under_way,
            keep=segment.index < run[-1].index,
        )
        return self._last

    def close(self) -> None:
        """Let go of the file."""
        if self._last is not None:
            self._last.close()
            self._last = None


class Upright:
    """Makes decoded frames upright pictures of one size; keeps its scalers for the next."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self._size_wh = size_wh
        self._scaler = VideoReformatter()
        self._converter = VideoReformatter()

    def image_bgr(self, frame: av.VideoFrame) -> ImageBGR:
        """Scale, turn as the frame says, and convert to (height, width, 3)."""
        quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
        width, height = self._size_wh[:: -1 if quarter_turns % 2 else 1]
        if (frame.width, frame.height) != (width, height) and frame.format.name in _HALVED_COLOURS:
            # Scaled as it is first: that is half as many values as BGR has.
            frame = self._scaler.reformat(
                frame, width=width, height=height, interpolation="AREA", threads=1
            )
        upright = self._converter.reformat(
            frame, width=width, height=height, format="bgr24", interpolation="AREA", threads=1
        )
        # As it lies there: to copy it would take as long as half of the conversion.
        (plane,) = upright.planes
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        image_bgr = cast("ImageBGR", rows[:, : width * 3].reshape(height, width, 3))
        if quarter_turns:
            image_bgr = cast("ImageBGR", cv2.rotate(image_bgr, _ROTATIONS[quarter_turns]))
        return image_bgr


_HALVED_COLOURS = frozenset(("yuv420p", "yuvj420p"))
_ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def probe(file: Path | BinaryIO) -> Footage:
    """Look into a file and decode its first picture; raises SourceError with what to do.

    The file may hold anything: call this where memory and time are limited (`workers.probe`).
    """
    with Opened(file) as source:
        first = next(source.frames(None, packets=_LOOK_PACKETS), None)
        if first is None:
            raise SourceError(_NO_PICTURE)
        width, height = source.displayed_wh(first)
        Upright(fitted_wh(width, height, ANALYSIS_WIDTH)).image_bgr(first)
        stream, container, form = source.stream, source.container, source.form
        if stream.duration and stream.duration > 0:
            duration_s = float(stream.duration * source.time_base)
        else:
            duration_s = (container.duration or 0) / av.time_base
            if form in ("mkv", "webm") and duration_s > 0 and source.start_s > 0:
                duration_s = source.length_s(duration_s)
        sounds = {
            sound.codec_context.codec.canonical_name if sound.codec_context else "unknown"
            for sound in container.streams.audio
        }
        return Footage(
            duration_s=duration_s if duration_s > 0 else None,
            fps=source.rate,
            width=width,
            height=height,
            codec=source.codec,
            container=form,
            has_sound=bool(sounds),
            playable=source.codec in _BROWSER_FORMS.get(form, ())
            and first.format.name in ("yuv420p", "yuvj420p")
            and sounds <= _BROWSER_SOUND,
            start_s=source.start_s,
        )


def plan(file: Path | BinaryIO, options: VideoOptions, *, search_every_s: float = 0.0) -> Plan:
    """Cut a video, the same whoever does it; raises SourceError where no picture can be decoded.

    Reads all packets, and decodes no more than the first frames.
    """
    with Opened(file) as source:
        survey = _Survey(source)
        start_s = source.start_s
        uncut = Plan(
            frames_total=0,
            timed_by="packets" if survey.tells_frames() else "decoder",
            time_base=source.time_base.as_integer_ratio(),
            width=survey.size_wh[0],
            height=survey.size_wh[1],
            rate=source.rate or 25.0,
            fps=options.fps,
            start_s=start_s + options.start_s if options.start_s else None,
            end_s=None if options.end_s is None else start_s + options.end_s,
            segments=(),
            ended_early=survey.ended_early(),
            search_every_s=search_every_s,
        )
    if uncut.timed_by == "packets":
        segments = _segments(uncut, sorted(survey.pts), survey.cuts)
        return replace(
            uncut, segments=segments, frames_total=sum(len(part.pts) for part in segments)
        )
    times = (index / uncut.rate + start_s for index in range(len(survey.pts)))
    choose = _Choice(uncut)
    return replace(uncut, segments=(Segment(0),), frames_total=sum(map(choose.takes, times)))


def frames(file: Path | BinaryIO, plan: Plan, segment: Segment, *, threads: int = 1) -> Frames:
    """Decode a segment's sampled frames, in order, with `threads` threads.

    A file handle is read by one segment at a time. Raises SourceError where the file is no longer
    what it was when planned; damage is counted in `Frames.missing` instead.
    """
    return Frames(file, plan, segment, threads)


def fitted_wh(width: int, height: int, max_width: int) -> tuple[int, int]:
    """The size scaled down to a width, never up; whole pixels."""
    if width <= max_width:
        return width, height
    return max_width, max(1, round(height * max_width / width))


class Opened:
    """A file opened for its pictures: a context that closes it again.

    Has the PyAV `container` and `stream`, so that whoever needs other streams than this one of
    video gets them with the same care (`everything`: do not skip them). Raises SourceError.
    """

    container: InputContainer
    stream: VideoStream
    time_base: Fraction

    def __init__(
        self, file: Path | BinaryIO, *, threads: int = 1, everything: bool = False
    ) -> None:
        self._given = file  # what was given to read: a path, or a handle
        self._threads = threads
        self._everything = everything
        self.broke_off = False  # the file could not be read to its end
        self.damaged = 0  # packets that could not be decoded

    def __enter__(self) -> Self:
        try:
            self.file = self._given.open("rb") if isinstance(self._given, Path) else self._given
        except OSError as error:
            raise SourceError(
                f"The file {self._given} cannot be read ({os.strerror(error.errno or 0)}): "
                "check its name and permissions."
            ) from error
        try:
            self.head = _head(self.file)
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "container"):
            self.container.close()
        if self.file is not self._given:
            self.file.close()

    @property
    def codec(self) -> str:
        """The codec's name, whichever library decodes it."""
        return str(self.stream.codec_context.codec.canonical_name)

    @property
    def form(self) -> str:
        """The container's usual name: mp4, mov, webm, mkv, avi, ts, …"""
        name = self.container.format.name.partition(",")[0]
        if name == "mov":
            return "mov" if self.container.metadata.get("major_brand", "qt") == "qt  " else "mp4"
        if name == "matroska":
            return "webm" if b"webm" in self.head else "mkv"
        return {"mpegts": "ts", "mpeg": "mpg"}.get(name, name)

    @property
    def rate(self) -> float | None:
        """Frames per second on average, as the file says it."""
        stream = self.stream
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if self.form == "avi" and stream.frames and stream.duration:  # FFmpeg may count its fields
            rate = float(stream.frames / (stream.duration * self.time_base))
        return rate if 0 < rate <= 1000 else None

    @property
    def start_s(self) -> float:
        """The time of the file's first moment, of picture or sound."""
        return (self.container.start_time or 0) / av.time_base

    def length_s(self, said_s: float) -> float:
        """How long a Matroska file is that does not begin at 0 and says that it is so long.

        Some programs count from 0, others from the first picture: the last pictures tell. Where
        they cannot be found, what the file says. The file is elsewhere afterwards.
        """
        try:
            self.container.seek(int(said_s * av.time_base))
        except av.error.FFmpegError:
            return said_s
        last = max(
            (packet.pts + (packet.duration or 0) for packet in self.packets() if packet.pts),
            default=0,
        )
        length_s = float(last * self.time_base) - self.start_s
        return min(length_s, said_s) if length_s > 0 else said_s

    def displayed_wh(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height of a frame as players show it: with square pixels, and upright."""
        width, height = frame.width, frame.height
        shape = float(self.stream.sample_aspect_ratio or 1)
        if 1 < shape <= 4:
            width = max(1, round(width * shape))
        elif 0.25 <= shape < 1:
            height = max(1, round(height / shape))
        return (height, width) if round(frame.rotation / 90) % 2 else (width, height)

    def packets(self) -> Iterator[_Packet]:
        """The stream's packets to the end, or to where the file breaks off (`broke_off`)."""
        try:
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except av.error.FFmpegError:
            self.broke_off = True
        except IndexError:
            pass  # PyAV's, at the end of a file in which further streams appeared on the way

    def frames(
        self,
        start: Start | None,
        packets: int | None = None,
        wanted: Collection[int] | None = None,
    ) -> Iterator[av.VideoFrame]:
        """Decode from a key frame, or the beginning, to the end of the file, or so many packets.

        With `wanted`, pictures of other times that no picture builds on may be left out.
        """
        if self.codec not in _LEAVES_OUT or self._threads != 1:
            wanted = None
        context = self.stream.codec_context
        skips = False
        for packet in islice(self._packets_from(start), packets):
            if wanted is not None and skips == (packet.pts in wanted):
                skips = not skips
                context.skip_frame = "NONREF" if skips else "DEFAULT"
            yield from self.decode(packet)
        yield from self.decode(None)

    def timed_frames(
        self, plan: Plan, start: Start | None = None
    ) -> Iterator[tuple[float, av.VideoFrame]]:
        """The same with the time of each: one that has none is shown a frame after the last."""
        t = -1 / plan.rate
        for frame in self.frames(start):
            t = t + 1 / plan.rate if frame.time is None else frame.time
            yield t, frame

    def decode(self, packet: _Packet | None) -> list[av.VideoFrame]:
        """The frames that a packet completes; None: those that are still to come at the end."""
        try:
            decoded = self.stream.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.damaged += 1
            return []
        for frame in decoded:
            frame.time_base = self.time_base  # PyAV leaves it out of what comes at the end
        return [frame for frame in decoded if frame.width * frame.height <= MAX_PIXELS]

    def _packets_from(self, start: Start | None) -> Iterator[_Packet]:
        """The packets from a key frame on.

        Seeking may miss: then it is tried from further before, and last by reading from the
        beginning.
        """
        if start is None:
            yield from self.packets()
            return
        target = start.pts
        if self.form in _SOUGHT_BY_DTS and start.dts is not None:
            target = start.dts
        for at in (target, target - int(_SEEK_EARLIER_S / self.time_base), None):
            if at is None:
                self._open()
            else:
                try:
                    self.container.seek(at, stream=self.stream)
                except av.error.FFmpegError:
                    continue
            packets = self.packets()
            for packet in packets:
                if not packet.is_keyframe or packet.pts is None or packet.pts < start.pts:
                    continue
                if packet.pts > start.pts:
                    break
                yield packet
                yield from packets
                return

    def _open(self) -> None:
        if hasattr(self, "container"):
            self.container.close()
        self.file.seek(0)
        try:
            self.container = av.open(
                _Handle(self.file),
                "r",
                options=_OPTIONS,
                buffer_size=_BUFFER_BYTES,
                metadata_errors="replace",
            )
        except (av.error.FFmpegError, MemoryError, OSError) as error:
            raise SourceError(_refusal(self.file, self.head, error)) from None
        self.stream = _picture_stream(self.container)
        self.time_base = self.stream.time_base or Fraction(1, av.time_base)
        context = self.stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise SourceError(
                f"Pictures of {context.width}x{context.height} are too large: "
                f"give a video of at most {MAX_PIXELS / 1e6:.0f} megapixels."
            )
        context.thread_count = self._threads
        context.options = {"max_pixels": str(MAX_PIXELS)}
        if not self._everything:
            for stream in self.container.streams:
                if stream is not self.stream:
                    stream.discard = Discard.all


class _Handle:
    """A file as FFmpeg is given it: told to seek to where nothing is, it says no and goes on.

    PyAV would raise the file's own error at some later call; damaged files lead to such places.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL


class _Choice:
    """Says of frame after frame whether it is to be analysed."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._first_s: float | None = None
        self._taken = -1  # the period of the frame that was taken last

    def takes(self, t: float) -> bool:
        """Whether to take the frame of this time: the first of each period of 1 / fps."""
        plan = self._plan
        if plan.start_s is not None and t < plan.start_s:
            return False
        if plan.end_s is not None and t >= plan.end_s:
            return False
        if plan.fps is None:
            return True
        if self._first_s is None or self._set_back(t):
            self._first_s, self._taken = t, -1
        period = math.floor((t - self._first_s) * plan.fps + 1e-9)
        if period <= self._taken:
            return False
        self._taken = period
        return True

    def _set_back(self, t: float) -> bool:
        """Whether the file's clock was set back, by more than frames are ever out of order."""
        reached_s = (self._first_s or 0.0) + self._taken / (self._plan.fps or 1.0)
        return t < reached_s - _SET_BACK_S


class _Survey:
    """What all packets of a file say: `pts` of the pictures shown, and `cuts` at key frames."""

    def __init__(self, source: Opened) -> None:
        self.pts = array("q")
        self.cuts: list[Start] = []
        self.size_wh = (0, 0)
        self._source = source
        self._orderly = True
        self._look: list[int | None] = []
        self._end_s = 0.0
        self._read()

    def _read(self) -> None:
        """Go through all packets; decode until enough frames were seen."""
        source = self._source
        highest: int | None = None
        last_dts: int | None = None
        changed = False
        for count, packet in enumerate(source.packets()):
            if len(self._look) < _LOOK_FRAMES:
                self._see(source.decode(packet))
                if count == _LOOK_PACKETS and not self._look:
                    raise SourceError(_NO_PICTURE)
            pts, dts = packet.pts, packet.dts
            if pts is None or (dts is not None and last_dts is not None and dts < last_dts):
                self._orderly = False
            if pts is None:
                pts = dts or 0
            last_dts = dts if dts is not None else last_dts
            changed = changed or (count > 0 and packet.has_sidedata("new_extradata"))
            fresh = highest is None or pts > highest
            if packet.is_keyframe and fresh and not packet.is_discard and not changed:
                self.cuts.append(Start(pts, dts))
            highest = pts if fresh else highest
            if not packet.is_discard and _is_shown(source.codec, packet):
                self.pts.append(pts)
        if len(self._look) < _LOOK_FRAMES:
            self._see(source.decode(None))
        if not self._look:
            raise SourceError(_NO_PICTURE)

    def _see(self, seen: list[av.VideoFrame]) -> None:
        if seen and not self._look:
            self.size_wh = self._source.displayed_wh(seen[0])
        self._look.extend(frame.pts for frame in seen)

    def tells_frames(self) -> bool:
        """Whether packets and decoder agree, so far as was decoded.

        What comes before the first picture that can be decoded is never shown: it is taken out.
        """
        source = self._source
        if source.form in _GUESSED_TIMES and source.codec not in _ONLY_KEY_FRAMES:
            return False
        if source.codec not in _ONLY_KEY_FRAMES | _AMONG_KEY_FRAMES or not self._orderly:
            return False
        told = sorted(self.pts)
        if any(one == other for one, other in pairwise(told)) or None in self._look:
            return False
        seen = cast("list[int]", self._look)
        if any(one >= other for one, other in pairwise(seen)) or not set(seen) <= set(told):
            return False
        self.pts = array("q", told[bisect_left(told, seen[0]) :])
        return True

    def ended_early(self) -> str:
        """Where the file ends, if it says that there should be more of it; else nothing."""
        source = self._source
        stream = source.stream
        step_s = 1 / (source.rate or 25.0)
        end_s = float(max(self.pts, default=0) * source.time_base) + step_s - source.start_s
        due_s, tolerance_s = 0.0, max(0.5, 2 * step_s)
        if stream.duration and stream.duration > 0:
            due_s = float(((stream.start_time or 0) + stream.duration) * source.time_base)
            due_s -= source.start_s
        elif source.form in ("flv", "asf") and source.container.duration:
            due_s = source.container.duration / av.time_base - source.start_s
            tolerance_s = 2.0  # the sound may be what is so long
        late = due_s > end_s + tolerance_s
        if not (late or source.broke_off or _lacks_bytes(source.file, source.head)):
            return ""
        whole = f" of {due_s:.1f} s" if late else ""
        return f"The file is cut off or damaged: its video can be read up to {end_s:.1f} s{whole}."


def _segments(plan: Plan, told: list[int], cuts: list[Start]) -> tuple[Segment, ...]:
    """Share the sampled frames out among segments that begin at key frames, or decode from one."""
    starts: list[Start | None] = [None]
    for cut in cuts:
        since = starts[-1].pts if starts[-1] else told[0]
        if plan.time_s(cut.pts) - plan.time_s(since) >= SEGMENT_S and cut.pts > told[0]:
            starts.append(cut)
    choose = _Choice(plan)
    sampled = [pts for pts in told if choose.takes(plan.time_s(pts))]
    segments: list[Segment] = []
    for number, start in enumerate(starts):
        following = starts[number + 1] if number + 1 < len(starts) else None
        at = bisect_left(sampled, start.pts) if start else 0
        end = bisect_left(sampled, following.pts) if following else len(sampled)
        for part in _parts(plan, sampled, at, end):
            own = bisect_right(cuts, sampled[part.start], key=lambda cut: cut.pts)
            tried = [start]
            if own and part.start > at and (start is None or cuts[own - 1].pts > start.pts):
                tried.insert(0, cuts[own - 1])
            elif number:
                tried.append(starts[number - 1])
            pts = tuple(sampled[part.start : part.stop])
            segments.append(Segment(len(segments), tuple(tried), pts))
    return tuple(segments)


def _parts(plan: Plan, sampled: list[int], at: int, end: int) -> list[range]:
    """Cut the frames from one key frame to another where they are too many for one segment.

    Unless a `Reader` goes on to it, a part decodes what lies before it in vain, a quarter of what
    as many frames take to analyse: so there are few, and short ones only at the video's end, where
    they let workers end together.
    """
    if end <= at:
        return []
    begin_s, end_s = plan.time_s(sampled[at]), plan.time_s(sampled[end - 1])
    least_s, most = SEGMENT_S, _MOST_PARTS
    if end == len(sampled):
        least_s, most = _LAST_SEGMENTS_S, _MOST_LAST_PARTS
    parts = max(1, min(int((end_s - begin_s) / least_s), most, (end - at) // _PART_FRAMES))
    borders = [at + (end - at) * part // parts for part in range(parts + 1)]
    return [range(*border) for border in pairwise(borders)]


def _packed(pts: Sequence[int]) -> list[Any]:
    """The first time and the steps between them; a step that repeats is [step, how often]."""
    steps = [(step, len(list(run))) for step, run in groupby(b - a for a, b in pairwise(pts))]
    return [*pts[:1], *([step, times] if times > 1 else step for step, times in steps)]


def _unpacked(*packed: Any) -> tuple[int, ...]:
    steps = chain.from_iterable(
        repeat(*step) if isinstance(step, list) else (step,) for step in packed
    )
    return tuple(accumulate(steps))


def _is_shown(codec: str, packet: _Packet) -> bool:
    """Whether a packet's picture is ever seen: VP8 and VP9 have some that others only build on."""
    if codec not in ("vp8", "vp9"):
        return True
    data = memoryview(packet)
    if codec == "vp8":  # RFC 6386, 9.1: show_frame is a bit of the frame tag
        return bool(data[0] & 0x10)
    if data[-1] & 0xE0 == 0xC0:  # VP9, annex B: a superframe, which ends with what is shown
        return True
    # VP9, 6.2: marker (2 bits), profile (2 or 3), show_existing_frame, frame_type, show_frame
    skipped = 5 if data[0] & 0x30 == 0x30 else 4
    existing, shown = data[0] >> (7 - skipped) & 1, data[0] >> max(0, 5 - skipped) & 1
    return bool(existing or shown)


def _picture_stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures that can be decoded."""
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]
    if not moving and (container.streams.audio or container.streams.video):
        raise SourceError("This file holds sound only: give a video, in which faces can be seen.")
    if not moving:
        raise SourceError("This file holds no video: give one that does.")
    for stream in moving:
        if stream.codec_context is not None:
            return stream
    raise SourceError(
        "The video in this file is of a kind that cannot be decoded: convert it to H.264 in MP4."
    )


_NO_PICTURE = "This file holds no picture that can be decoded: check that it plays, or convert it."
_GIVE_VIDEO = "give a video file, such as MP4, MOV, WebM, MKV or AVI"
_OTHER_KINDS = {
    f"This file is a list that leads to other files, and no video: {_GIVE_VIDEO}.": (
        (b"#EXTM3U", b"ffconcat", b"v=0\r\n", b"v=0\n", b"[playlist]", b"<?xml", b"<MPD", b"<smil")
    ),
    f"This file is a picture, and no video: {_GIVE_VIDEO}.": (
        (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
    ),
    "This file is an archive: unpack it, and give the video that is in it.": (
        (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")
    ),
}


def _refusal(file: BinaryIO, head: bytes, error: Exception) -> str:
    """Why a file did not open, by what it looks like: FFmpeg's own words help nobody."""
    if not head:
        return f"This file is empty: {_GIVE_VIDEO}."
    if isinstance(error, MemoryError):
        return f"This file needs more memory than it may have, and may be damaged: {_GIVE_VIDEO}."
    start = head.lstrip()[:16]
    for sentence, signatures in _OTHER_KINDS.items():
        if start.startswith(signatures):
            return sentence
    if _lacks_bytes(file, head):
        return "This file is cut off, so that nothing in it can be found: copy or upload it anew."
    return f"This file is no video that can be read: {_GIVE_VIDEO}."


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(4096)


def _lacks_bytes(file: BinaryIO, head: bytes) -> bool:
    """Whether a file is shorter than what it says at its beginning, or its boxes say.

    Known of MP4 and MOV (boxes: ISO/IEC 14496-12, 4.2), of Matroska and WebM (RFC 8794, 6: the
    element after the header), and of AVI.
    """
    actual = file.seek(0, os.SEEK_END)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        at = 0
        for _ in range(100_000):
            file.seek(at)
            box = file.read(16)
            size = int.from_bytes(box[:4], "big")
            if size == 1:
                size = int.from_bytes(box[8:], "big")
            if size < 8:  # 0: to the end of the file; the rest is no box
                break
            at += size
        return at > actual
    if head[:4] == b"\x1a\x45\xdf\xa3":
        content, at = _element(head, 4)
        segment, content_at = _element(head, at + (content or 0) + 4)
        return segment is not None and content_at + segment > actual
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little") > actual
    return False


def _element(data: bytes, at: int) -> tuple[int | None, int]:
    """The size (None: not known) that is written at a place, and what comes after it."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = length > 8 or size == (1 << 7 * length) - 1
    return (None if unknown else size), at + length
