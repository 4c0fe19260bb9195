"""Plays capture and worker for tests of the web side: real JPEGs and results through the real bus.

A picture is grey with a white square where its one face is said to be, so a test can see whether
picture and overlay are of the same frame.
"""

from __future__ import annotations

import functools
import io
import math
import threading
import time
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from shared.bus import Bus
from shared.schema import (
    CaptureReport,
    Face,
    Feed,
    FeedState,
    Frame,
    FrameResult,
    Outcome,
    WorkerReport,
)

LABELS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
UNSURE_BELOW = 0.3  # below what `scores` ever falls to: a test that wants more raises it
WIDTH, HEIGHT = 640, 480
Scene = Callable[[int], tuple[bytes, tuple[Face, ...]]]


def scores(t: float, person: int = 0) -> dict[str, float]:
    """Scores that wander between emotions over some twenty seconds; they sum to 1."""
    heights = [
        math.exp(2.2 * math.sin(2 * math.pi * (t / 19 + i / len(LABELS) + person * 0.37)))
        for i in range(len(LABELS))
    ]
    total = sum(heights)
    return {label: h / total for label, h in zip(LABELS, heights, strict=True)}


def face(track: int, box_xywh: tuple[int, int, int, int], t: float) -> Face:
    found = scores(t, track)
    emotion = max(found, key=found.__getitem__)
    unsure = found[emotion] < UNSURE_BELOW
    return Face(track, box_xywh, emotion, found[emotion], found, unsure)


def square_at(index: int) -> tuple[int, int, int, int]:
    """Where the face of the frame with that number is: [x, y, width, height]."""
    return 40 + 37 * index % 400, 60 + 23 * index % 240, 120, 120


@functools.lru_cache(maxsize=512)
def _square_jpeg(index: int) -> bytes:
    picture = Image.new("RGB", (WIDTH, HEIGHT), (70, 70, 70))
    x, y, width, height = square_at(index)
    ImageDraw.Draw(picture).rectangle((x, y, x + width, y + height), fill=(255, 255, 255))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def square_scene(index: int) -> tuple[bytes, tuple[Face, ...]]:
    index %= 300
    return _square_jpeg(index), (face(1, square_at(index), index / 15),)


class Studio:
    """Captures and analyses feeds until stopped; one turn of it can be called alone."""

    def __init__(
        self, bus: Bus, feeds: Sequence[Feed], scene: Scene = square_scene, fps: float = 15.0
    ) -> None:
        self._bus = bus
        self._feeds = list(feeds)
        self._scene = scene
        self._pause_s = 1 / fps
        self._count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        bus.restore_feeds([])
        for feed in feeds:
            bus.put_feed(feed)

    def __enter__(self) -> Studio:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def turn(self) -> None:
        """Capture one frame of each feed and analyse it."""
        self._count += 1
        for feed in self._feeds:
            jpeg, _ = self._scene(self._count)
            self._bus.put_frame(feed, jpeg, time.time())
        claims = self._bus.claim("studio", max_feeds=64, max_frames=4, staleness_s=5.0)
        self._bus.publish(
            [
                (claim, {}, [self._analysed(frame, len(claim.frames) - i - 1)])
                for claim in claims
                for i, frame in enumerate(claim.frames)
            ][: len(claims)],
            labels=LABELS,
            unsure_below=UNSURE_BELOW,
            timeline_s=600,
        )
        if self._count % 10 == 1:
            self.report()

    def _analysed(self, frame: Frame, back: int) -> Outcome:
        faces = self._scene(self._count - back)[1]
        queue_ms = (time.time() - frame.captured_at) * 1000
        stages = {"queue": queue_ms, "decode": 1.4, "detect": 7.1, "classify": 0.8}
        return Outcome(
            frame,
            FrameResult(
                feed=frame.feed,
                seq=frame.seq,
                captured_at=frame.captured_at,
                analysed_at=time.time(),
                width=WIDTH,
                height=HEIGHT,
                faces=faces,
                stages_ms=stages,
            ),
        )

    def report(self) -> None:
        """Say that capture and worker are there."""
        for feed in self._feeds:
            self._bus.report_capture(
                feed.id, CaptureReport(FeedState.LIVE, fps_in=1 / self._pause_s)
            )
        self._bus.report_worker(
            WorkerReport("studio", "test", LABELS, time.time(), frames=self._count)
        )

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.turn()
            due = max(due + self._pause_s, time.monotonic())
            self._stop.wait(due - time.monotonic())
