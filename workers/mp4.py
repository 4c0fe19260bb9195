"""Writes MP4 that browsers play: pictures as H.264, sound as it is or as AAC.

`Pictures` and `Sound` are the two streams of a file that is made from another one: each gives
packets to be written. Times stay those of the source, counted from where the copy begins, and
nothing is left out or put in. Only what cannot stand in a file is changed: times must rise there,
so one that repeats becomes the next tick; where the clock of a file was set anew, it goes on.

Not here: what is in the pictures (`workers.annotate`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from typing import Any, TypeAlias, cast

import av
import av.error
import av.filter
import cv2
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from workers.footage import ImageBGR, Opened, Plan

_Packet: TypeAlias = "Packet[Any]"

_QUALITY = {"crf": "21", "preset": "veryfast"}  # of libx264
_KEY_FRAME_S = 2.0  # a player that seeks decodes this much at most
_BACK_S = 1.0  # a time further before the last one tells of a clock that was set anew
_LEAP_S = 3600.0  # and so does one further after it: MP4 knows no frame much longer

_MP3_RATE = 16000  # samples a second: MP4 has no MP3 with fewer
_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_SAMPLES = 1024  # a packet
_LONG_SILENCE_S = 10.0  # longer gaps are left empty


class Pictures:
    """The stream of pictures of a copy of `source`, of pictures of one size.

    `first` is the first frame, whose colours tell how all are to be read; `rate` is frames per
    second on average, for the encoder's choices.
    """

    def __init__(
        self,
        target: OutputContainer,
        source: Opened,
        first: av.VideoFrame,
        size_wh: tuple[int, int],
        *,
        begins_s: float,
        rate: float,
        threads: int,
    ) -> None:
        tick = source.time_base
        stream = target.add_stream("libx264", Fraction(rate).limit_denominator(1001), _QUALITY)
        stream.width, stream.height = (side + side % 2 for side in size_wh)
        stream.pix_fmt = "yuv420p"
        stream.time_base = tick
        context = stream.codec_context
        context.time_base = tick
        context.thread_count = threads
        context.gop_size = max(1, round(_KEY_FRAME_S * rate))
        # Pictures went to RGB by these numbers: back by the same, only what is drawn changes.
        context.colorspace = first.colorspace
        context.color_primaries = first.color_primaries
        context.color_trc = first.color_trc
        context.color_range = ColorRange.MPEG
        self._colours = first.colorspace if first.colorspace in set(Colorspace) else None
        self._stream = stream
        self._tick = tick
        self._origin = round(begins_s / tick)
        self._step = max(1, round(1 / rate / tick))
        self._clock = Clock(tick, self._step)
        self._converter = VideoReformatter()

    def encode(self, t: float, frame: av.VideoFrame, image_bgr: ImageBGR) -> list[_Packet]:
        """Take the picture that stands for a decoded frame; give what is ready to be written."""
        ticks = round(t / self._tick) if frame.pts is None else frame.pts
        right, below = (side % 2 for side in image_bgr.shape[1::-1])
        if right or below:
            padded = cv2.copyMakeBorder(image_bgr, 0, below, 0, right, cv2.BORDER_REPLICATE)
            image_bgr = cast("ImageBGR", padded)
        picture = self._converter.reformat(
            av.VideoFrame.from_ndarray(image_bgr, "bgr24"),
            format="yuv420p",
            dst_colorspace=self._colours,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        picture.pts = self._clock.place(ticks - self._origin)
        picture.time_base = self._tick
        picture.duration = self._step
        return self._stream.encode(picture)

    def flush(self) -> list[_Packet]:
        """Give what is left."""
        return self._stream.encode(None)


class Sound:
    """The sound of a file, from one time to another; none where none can be decoded.

    `source` is for this alone, opened with everything in it. `begins_s` is where the copy begins.
    Sound that browsers play is copied if it `may_copy`: where that is damaged, writing may fail.
    """

    def __init__(
        self,
        target: OutputContainer,
        source: Opened,
        plan: Plan,
        *,
        begins_s: float,
        may_copy: bool,
    ) -> None:
        self._container = source.container
        self._plan = plan
        self._begins_s = begins_s
        self._packets: Iterator[tuple[float, _Packet]] = iter(())
        source.stream.discard = Discard.all
        sounds = [sound for sound in source.container.streams.audio if sound.codec_context]
        if sounds:
            best = source.container.streams.best("audio")
            chosen = next((sound for sound in sounds if sound is best), sounds[0])
            for other in sounds:
                other.discard = Discard.default if other is chosen else Discard.all
            copies = may_copy and _can_be_copied(chosen)
            self._packets = (self._copied if copies else self._encoded)(target, chosen)
        self._next = next(self._packets, None)

    def until(self, t: float) -> list[_Packet]:
        """Give the packets up to a time, counted from where the copy begins."""
        ready = []
        while self._next is not None and self._next[0] <= t:
            ready.append(self._next[1])
            self._next = next(self._packets, None)
        return ready

    def _copied(
        self, target: OutputContainer, sound: AudioStream
    ) -> Iterator[tuple[float, _Packet]]:
        """Packets as they are, with when they are heard."""
        written = target.add_stream_from_template(sound)
        tick = _tick(sound)
        origin = round(self._begins_s / tick)
        clock = Clock(tick, 1)
        for pts, packet in self._bare(sound):
            at = (pts if packet.dts is None else packet.dts) - origin
            packet.dts = clock.place(at)
            packet.pts = max(pts - origin + packet.dts - at, packet.dts)
            packet.stream = written
            yield float(packet.pts * tick), packet

    def _bare(self, sound: AudioStream) -> Iterator[tuple[int, _Packet]]:
        """The packets as MP4 has them: of AAC without the headers that broadcasts put on each."""
        if sound.codec_context.extradata or sound.codec_context.name != "aac":
            yield from self._read(sound)
            return
        strip = BitStreamFilterContext("aac_adtstoasc", sound)
        for pts, packet in self._read(sound):
            with contextlib.suppress(av.error.FFmpegError):  # damaged
                yield from ((pts, bare) for bare in strip.filter(packet))

    def _encoded(
        self, target: OutputContainer, sound: AudioStream
    ) -> Iterator[tuple[float, _Packet]]:
        """The same as AAC."""
        rate = sound.sample_rate if sound.sample_rate in _AAC_RATES else _AAC_RATES[0]
        layout = "mono" if sound.channels == 1 else "stereo"
        written = target.add_stream("aac", rate=rate, layout=layout)
        written.bit_rate = 64_000 if layout == "mono" else 128_000
        origin = round(self._begins_s * rate)
        ending: tuple[av.AudioFrame | None, ...] = (None,)
        ends: int | None = None
        for samples in chain(_even_samples(self._decoded(sound), rate, layout), ending):
            if samples is not None:
                samples.pts = (samples.pts or 0) - origin
                if ends is not None and samples.pts < ends:  # heard twice where it began anew
                    continue
                ends = samples.pts + samples.samples
            for packet in written.encode(samples):
                yield float((packet.pts or 0) * packet.time_base), packet

    def _decoded(self, sound: AudioStream) -> Iterator[av.AudioFrame]:
        clock = Clock(_tick(sound), 1)
        for _, packet in self._read(sound):
            with contextlib.suppress(av.error.FFmpegError):  # damaged: silence takes its place
                for frame in sound.codec_context.decode(packet):
                    if frame.pts is not None:
                        frame.pts = clock.place(frame.pts)
                        yield frame

    def _read(self, sound: AudioStream) -> Iterator[tuple[int, _Packet]]:
        """The packets of the part with their times, up to where the file breaks off."""
        plan, tick = self._plan, _tick(sound)
        if plan.start_s is not None:
            with contextlib.suppress(av.error.FFmpegError):
                self._container.seek(round(plan.start_s / tick), stream=sound)
        # IndexError is PyAV's, at the end of a file in which further streams appeared on the way.
        with contextlib.suppress(av.error.FFmpegError, IndexError):
            for packet in self._container.demux(sound):
                if packet.pts is None or not packet.size:
                    continue
                t = packet.pts * tick
                if plan.end_s is not None and t >= plan.end_s:
                    return
                if plan.start_s is None or t >= plan.start_s:
                    yield packet.pts, packet


class Clock:
    """Makes times in ticks that only rise out of any; those that do rise stay as they are."""

    def __init__(self, tick: Fraction, step: int) -> None:
        self._back = round(_BACK_S / tick)
        self._leap = round(_LEAP_S / tick)
        self._step = step
        self._last: int | None = None
        self._shift = 0

    def place(self, ticks: int) -> int:
        at = ticks + self._shift
        if self._last is not None:
            if not -self._back <= at - self._last <= self._leap:
                self._shift += self._last + self._step - at
                at = self._last + self._step
            at = max(at, self._last + 1)
        self._last = at
        return at


def _can_be_copied(sound: AudioStream) -> bool:
    name = sound.codec_context.codec.canonical_name
    return name == "aac" or (name == "mp3" and sound.sample_rate >= _MP3_RATE)


def _tick(sound: AudioStream) -> Fraction:
    return sound.time_base or Fraction(1, av.time_base)


def _even_samples(
    frames: Iterable[av.AudioFrame], rate: int, layout: str
) -> Iterator[av.AudioFrame]:
    """Sound as an AAC encoder takes it, without gaps: silence stands where some is missing.

    After a long gap, and where the kind of sound changes, it begins anew at the later time.
    """
    graph: av.filter.Graph | None = None
    kind: tuple[Any, ...] = ()
    heard_s = 0.0
    for frame in frames:
        now = (frame.sample_rate, frame.format.name, frame.layout.name)
        begins_s = frame.time or 0.0
        if graph is None or now != kind or begins_s - heard_s > _LONG_SILENCE_S:
            if graph is not None:
                yield from _drained(graph)
            graph, kind = _resampler(frame, rate, layout), now
        heard_s = begins_s + frame.samples / frame.sample_rate
        graph.push(frame)
        yield from _pulled(graph)
    if graph is not None:
        yield from _drained(graph)


def _resampler(frame: av.AudioFrame, rate: int, layout: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=frame.time_base,
        ),
        graph.add("aresample", f"{rate}:async=1"),
        graph.add("aformat", f"sample_fmts=fltp:channel_layouts={layout}"),
        graph.add("asetnsamples", f"n={_AAC_SAMPLES}:p=0"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _pulled(graph: av.filter.Graph) -> Iterator[av.AudioFrame]:
    with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            yield cast("av.AudioFrame", graph.pull())


def _drained(graph: av.filter.Graph) -> Iterator[av.AudioFrame]:
    graph.push(None)
    yield from _pulled(graph)
