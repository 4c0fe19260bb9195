"""Recorded videos for tests: clips of known faces, and analysed segments made by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from shared.media import Media
from shared.video import Footage, Video, VideoOptions, plan_path, segment_path, source_path
from workers.footage import Plan, Segment
from workers.footage import plan as cut
from workers.video import Found
from workers.vision.classifier import ModelCard
from workers.vision.detector import Detection, ImageBGR

LABELS = ("neutral", "happy", "sad")
HAPPY, NEUTRAL, TORN = [0.1, 0.8, 0.1], [0.9, 0.06, 0.04], [0.4, 0.35, 0.25]
CARD = ModelCard(
    name="test",
    version="1",
    labels=LABELS,
    input_size_hw=(96, 96),
    colour="grey",
    default_backend="litert",
    unsure_below=0.5,
    files={"model.tflite": ""},
    details={},
)
Row = tuple[float, float, list[float]]
"""Of one face: left edge in pixels, detector's score, scores of `LABELS`."""


def write_clip(path: Path, pictures: Iterable[ImageBGR], *, fps: int = 10, gop: int = 10) -> Path:
    """Write H.264 with a key frame every `gop` frames and none in between."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.options = {"g": str(gop), "sc_threshold": "0", "preset": "ultrafast", "crf": "20"}
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frame_times(path: Path) -> list[float]:
    """What PyAV gives when it decodes the whole file: the truth about its frames."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def portrait_clip(
    path: Path,
    portrait: ImageBGR,
    is_there: Callable[[int], bool],
    *,
    frames: int,
    fps: int = 10,
    gop: int = 10,
) -> Path:
    """320 x 240: the portrait wherever `is_there` says so of a frame's number, else a wall."""
    wall = np.full((240, 320, 3), 90, np.uint8)
    face = wall.copy()
    face[:, 40:280] = cv2.resize(portrait, (240, 240), interpolation=cv2.INTER_AREA)
    pictures = (face if is_there(k) else wall for k in range(frames))
    return write_clip(path, pictures, fps=fps, gop=gop)


def found(t: float, *rows: Row) -> Found:
    """A frame as a segment's file has it, with faces of 80 x 100 pixels."""
    return Found(
        t,
        [Detection((x, 100.0, 80.0, 100.0), score) for x, score, _ in rows],
        [1.0] * len(rows),
        [scores for *_, scores in rows],
        [(None,) * 4] * len(rows),
        [0] * len(rows),
    )


def put_video(
    media: Media,
    frames: Sequence[tuple[float, Sequence[Row]]],
    *,
    fps: int = 10,
    source: Path | None = None,
    frames_total: int | None = None,
) -> Video:
    """Store a video whose one segment is analysed: a frame is its time and its faces.

    With a `source` its plan is that file's.
    """
    footage = Footage(
        duration_s=len(frames) / fps,
        fps=float(fps),
        width=640,
        height=480,
        codec="h264",
        container="mp4",
        has_sound=False,
        playable=True,
    )
    video = Video.new("clip.mp4", size_bytes=1, footage=footage)
    pts = tuple(round(t * fps) for t, _ in frames)
    if source is None:
        pts = tuple(round(t * fps) for t, _ in frames)
        plan = Plan(
            frames_total=len(frames) if frames_total is None else frames_total,
            timed_by="packets",
            time_base=(1, fps),
            width=640,
            height=480,
            rate=float(fps),
            fps=None,
            start_s=None,
            end_s=None,
            segments=(Segment(0, (None,), pts),),
        )
    else:
        plan = cut(source, VideoOptions())
    media.write(source_path(video.id), source.read_bytes() if source else b"")
    media.write(plan_path(video.id), plan.to_json().encode())
    put_segment(media, video, 0, frames)
    return video


def put_segment(
    media: Media, video: Video, index: int, frames: Sequence[tuple[float, Sequence[Row]]]
) -> None:
    lines: list[Any] = [
        [t, [[[x, 100, 80, 100], score, 1, scores, [None] * 4] for x, score, scores in rows]]
        for t, rows in frames
    ]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"missing": 0}])
    media.write(segment_path(video.id, index), gzip.compress(text.encode()))
