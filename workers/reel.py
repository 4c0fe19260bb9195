"""A recording's pictures on disk: written as they come, and joined into one video at the end.

While it grows, a recording is one or several parts, one for each process that worked on it:
fragments of MP4 (``part-000.mp4``), and beside them a line a frame with its number and its time
(``part-000.txt``). A process that is killed loses the fragment it was at, half a second; what
stands on disk before that can be read.

`Reel.join` makes the MP4 that browsers play and seek in, with the pictures as they were encoded:
nothing is encoded twice. Each frame is there once, in order, at its own time, which is that of its
capture, counted from the first frame. Times must rise in a file: what that means for a clock that
is set anew says `workers.mp4`.

The first picture gives the size. Later ones that differ are scaled into it with their own
proportions: somebody changed the feed's width, or turned a phone.

Not here: which frames there are, and when it is over (`workers.recorder`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import av.error
import cv2
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from shared.errors import SourceError
from shared.schema import Frame
from workers.footage import ImageBGR, Opened
from workers.mp4 import Clock
from workers.pipeline import decode_jpeg

_Packet: TypeAlias = "Packet[Any]"

SOFTWARE = av.__version__
"""The encoder: parts fit together only where the same one wrote them."""

_TICK = Fraction(1, 90_000)  # seconds
_FRAGMENT_S = 0.5
_KEY_FRAME_S = 2.0
# Each picture comes out as it goes in, so that a killed process has lost none on its way. A faster
# preset than that of copies (`workers.mp4`): half the processor's time, which live feeds have, for
# a quarter more on the disk.
_QUALITY = {"crf": "21", "preset": "superfast", "tune": "zerolatency"}
_FOR_ONE_THREAD = 1280 * 720  # pixels; larger pictures are encoded by several
_THREADS = 4


@dataclass(slots=True)
class Tally:
    """What has been recorded: counts, and times of capture (epoch seconds)."""

    frames: int = 0
    missed: int = 0
    since: float | None = None
    until: float | None = None
    _seq: int | None = None

    def add(self, seq: int, captured_at: float) -> None:
        """Count a frame, and those that are missing before it.

        Numbers that begin anew, as they do after Redis has lost its memory, tell of no gap.
        """
        if self._seq is not None and seq > self._seq:
            self.missed += seq - self._seq - 1
        self._seq = seq
        self.frames += 1
        self.since = captured_at if self.since is None else self.since
        self.until = captured_at


class Reel:
    """The pictures in one folder; `fps` is about how many come a second.

    Opened on a folder with parts in it, it goes on after the last picture that is whole there.
    """

    def __init__(self, folder: Path, *, fps: float) -> None:
        self._folder = folder
        self._fps = fps
        self.tally = Tally()
        self.size_wh: tuple[int, int] | None = None
        self._part: _Part | None = None
        for mp4 in self._parts():
            for _, seq, captured_at in self._read(mp4):
                self.tally.add(seq, captured_at)

    @property
    def size_bytes(self) -> int:
        """What lies in the folder."""
        return sum(file.stat().st_size for file in self._folder.iterdir())

    def add(self, frame: Frame) -> bool:
        """Write one frame; False where it is no picture, and so counts as missed.

        Raises OSError where it cannot be written.
        """
        image_bgr = decode_jpeg(frame.jpeg)
        if image_bgr is None:
            return False
        if self.size_wh is None:
            self.size_wh = _even(image_bgr.shape[1]), _even(image_bgr.shape[0])
        if self._part is None:
            mp4 = self._folder / f"part-{len(self._parts()):03d}.mp4"
            self._part = _Part(mp4, self.size_wh, self._fps)
        self._part.add(frame, fitted(image_bgr, self.size_wh))
        self.tally.add(frame.seq, frame.captured_at)
        return True

    def close(self) -> None:
        """Write what is left; what the disk does not take any more is lost."""
        part, self._part = self._part, None
        if part is not None:
            with contextlib.suppress(OSError):
                part.close()

    def join(self, target: Path) -> None:
        """Write all pictures to one MP4.

        Raises OSError where the file cannot be written, SourceError where there is no picture.
        """
        step = max(1, round(1 / self._fps / _TICK))
        clock = Clock(_TICK, step)
        options = {"movflags": "+faststart", "video_track_timescale": str(_TICK.denominator)}
        stream: VideoStream | None = None
        since = self.tally.since or 0.0
        with av.open(target, "w", format="mp4", container_options=options) as out:
            out.metadata["creation_time"] = datetime.fromtimestamp(since, UTC).isoformat()
            for mp4 in self._parts():
                for packet, _, captured_at in self._read(mp4):
                    if stream is None:
                        stream = out.add_stream_from_template(cast("VideoStream", packet.stream))
                        stream.time_base = _TICK
                    packet.pts = packet.dts = clock.place(round((captured_at - since) / _TICK))
                    packet.time_base, packet.duration = _TICK, step
                    packet.stream = stream
                    out.mux(packet)
            if stream is None:
                raise SourceError("This recording holds no picture.")

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.mp4"))

    def _read(self, mp4: Path) -> Iterator[tuple[_Packet, int, float]]:
        """The packets of a part that are whole, with their frames' numbers and times."""
        try:
            with Opened(mp4) as source, mp4.with_suffix(".txt").open(encoding="ascii") as lines:
                context = source.stream.codec_context
                self.size_wh = self.size_wh or (context.width, context.height)
                for packet, line in zip(source.packets(), lines, strict=False):
                    if packet.is_corrupt:  # cut off
                        return
                    seq, captured_at = line.split()
                    yield packet, int(seq), float(captured_at)
        except (SourceError, FileNotFoundError):
            return  # killed before there was a picture


class _Part:
    """One file while it is written."""

    def __init__(self, mp4: Path, size_wh: tuple[int, int], fps: float) -> None:
        self._lines = mp4.with_suffix(".txt").open("w", encoding="ascii")
        self._container: OutputContainer = av.open(
            mp4,
            "w",
            format="mp4",
            container_options={
                "movflags": "empty_moov+default_base_moof",
                "frag_duration": str(round(_FRAGMENT_S * 1e6)),
                "flush_packets": "1",
            },
        )
        stream = self._container.add_stream(
            "libx264", Fraction(fps).limit_denominator(1001), _QUALITY
        )
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        stream.time_base = _TICK
        context = stream.codec_context
        context.time_base = _TICK
        context.thread_count = 1 if size_wh[0] * size_wh[1] <= _FOR_ONE_THREAD else _THREADS
        context.gop_size = max(1, round(_KEY_FRAME_S * fps))
        context.colorspace = Colorspace.ITU601  # what JPEG is, and browsers are told so
        context.color_range = ColorRange.MPEG
        self._stream = stream
        self._step = max(1, round(1 / fps / _TICK))
        self._clock = Clock(_TICK, self._step)
        self._began_at: float | None = None
        self._converter = VideoReformatter()

    def add(self, frame: Frame, image_bgr: ImageBGR) -> None:
        if self._began_at is None:
            self._began_at = frame.captured_at
        picture = self._converter.reformat(
            av.VideoFrame.from_ndarray(image_bgr, "bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        picture.pts = self._clock.place(round((frame.captured_at - self._began_at) / _TICK))
        picture.time_base = _TICK
        picture.duration = self._step
        # The line first: a picture without one would be lost, a line without a picture is not read.
        self._lines.write(f"{frame.seq} {frame.captured_at!r}\n")
        self._lines.flush()
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
            self._lines.close()


def fitted(image_bgr: ImageBGR, size_wh: tuple[int, int]) -> ImageBGR:
    """The picture in this size, both sides even: as it is, or scaled, with black beside it.

    One that is a pixel smaller gains it as the repetition of its last.
    """
    (height, width), (wanted_width, wanted_height) = image_bgr.shape[:2], size_wh
    if (_even(width), _even(height)) == size_wh:
        edge, right, below = cv2.BORDER_REPLICATE, wanted_width - width, wanted_height - height
        left = above = 0
        if not (right or below):
            return image_bgr
    else:
        scale = min(wanted_width / width, wanted_height / height)
        width, height = (max(1, round(side * scale)) for side in (width, height))
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image_bgr = cast("ImageBGR", cv2.resize(image_bgr, (width, height), interpolation=kind))
        edge = cv2.BORDER_CONSTANT
        left, above = (wanted_width - width) // 2, (wanted_height - height) // 2
        right, below = wanted_width - width - left, wanted_height - height - above
    return cast("ImageBGR", cv2.copyMakeBorder(image_bgr, above, below, left, right, edge))


def _even(side: int) -> int:
    return side + side % 2
