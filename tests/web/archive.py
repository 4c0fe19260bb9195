"""Recorded videos with their reports, as workers leave them: real clips, storage and bus.

What a worker's networks would have found is written here; everything made of it (the report, its
boxes and pictures) is made by the product. A clip is dark with one light square per person, each
elsewhere in every frame, so a test can see whether picture and overlay are of the same frame.
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from shared.config import Settings
from shared.jobs import Jobs
from shared.media import Media
from shared.video import (
    ExportKind,
    People,
    Video,
    VideoOptions,
    VideoStatus,
    export_path,
    frames_path,
    new_video_id,
    plan_path,
    source_path,
)
from shared.videos import Step, Videos
from tests.web.conftest import wait_until
from tests.web.studio import scores
from workers import footage, report
from workers.footage import Plan
from workers.vision.classifier import ModelCard, read_card

FPS = 25
WIDTH, HEIGHT = 480, 270
SIDE = 60
Cast = Callable[[int], dict[int, list[float]]]
"""Who is seen in the frame of that number: scores by track."""


def square_at(index: int, track: int = 1) -> tuple[int, int, int, int]:
    """Where the face of a track is in a frame: [x, y, width, height]."""
    return 10 + 11 * index % 400, 20 + 70 * (track - 1) + index % 10, SIDE, SIDE


def clip(frames: int, tracks: Sequence[int] = (1,), *, container: str = "mp4") -> bytes:
    """A clip of so many frames with a square for each track; no browser plays that in MOV."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{container}"
        # Told first what is in it, so that one that is cut off can be read up to there.
        first = {"movflags": "faststart"} if container == "mp4" else {}
        with av.open(str(path), "w", options=first) as file:
            if container == "mp4":
                options = {"crf": "16", "g": "25", "bf": "2"}
                stream = file.add_stream("libx264", rate=FPS, options=options)
            else:
                stream = file.add_stream("mpeg4", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(frames):
                picture = np.full((HEIGHT, WIDTH, 3), 50, np.uint8)
                for track in tracks:
                    x, y, width, height = square_at(index, track)
                    picture[y : y + height, x : x + width] = 255
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())
        return path.read_bytes()


def three_people(index: int) -> dict[int, list[float]]:
    """The first all the time, the second in the first half, the third in the second half."""
    seen = {1: True, 2: index < 60, 3: index >= 65}
    return {track: _clear(index / FPS * 4, track) for track, there in seen.items() if there}


def _clear(t: float, person: int) -> list[float]:
    """Scores that mostly leave no doubt."""
    powers = [score**3 for score in scores(t, person).values()]
    return [power / sum(powers) for power in powers]


def nobody(_: int) -> dict[int, list[float]]:
    return {}


class Archive:
    """Puts videos where a web server with that Redis and data folder finds them."""

    def __init__(self, redis_url: str, data_dir: Path) -> None:
        settings = Settings(_env_file=None, data_dir=data_dir)
        self.videos = Videos(redis_url, Media(settings.media_address), Jobs(redis_url))
        self.card: ModelCard = read_card(settings.model)

    def uploaded(
        self, source: bytes, name: str = "clip.mp4", *, options: VideoOptions | None = None
    ) -> Video:
        """A video that waits for its analysis."""
        video = self._stored(source, name, options)
        self.videos.add(video)
        return video

    def analysed(
        self,
        source: bytes,
        cast: Cast,
        name: str = "clip.mp4",
        *,
        options: VideoOptions | None = None,
        status: VideoStatus = VideoStatus.DONE,
        error: str = "",
    ) -> Video:
        """A video with its report."""
        video = self._stored(source, name, options)
        self._plan(video)
        media = self.videos.media
        plan = Plan.from_json(media.read(plan_path(video.id)))
        times = [plan.time_s(pts) for segment in plan.segments for pts in segment.pts]
        media.write(frames_path(video.id), gzip.compress(b"".join(_lines(times, cast))))
        report.derive(media, video, People(), self.card)
        self.videos.add(replace(video, status=status, error=error))
        return video

    def derive(self, video: Video) -> None:
        """Make the report anew with the edits there are, as a worker does."""
        people = self.videos.people(video.id)
        report.derive(self.videos.media, video, people, self.card)
        self.videos.reported(video.id, people.revision)

    def work_on(self, video: Video, frames: int) -> None:
        """Have a worker begin the analysis of an uploaded video and do so many frames."""
        plan, segment = Step("plan"), Step("segment-0")
        assert self.videos.begin(video.id, plan, "worker")
        self._plan(video)
        self.videos.done(video.id, plan, "worker")
        assert self.videos.begin(video.id, segment, "worker")
        self.videos.hold(video.id, segment, "worker", frames=frames)

    def export(self, video: Video, kind: ExportKind, content: bytes) -> None:
        """Have a worker make a file that was asked for."""
        step = Step(f"export-{kind}")
        # The page says that it is asked for before it asks.
        wait_until(lambda: self.videos.begin(video.id, step, "worker"))
        self.videos.media.write(export_path(video.id, kind), content)
        self.videos.exported(video.id, kind, self.videos.people(video.id).revision)
        self.videos.done(video.id, step, "worker")

    def _plan(self, video: Video) -> None:
        media = self.videos.media
        with media.open(source_path(video.id)) as file:
            plan = footage.plan(file, video.options)
        media.write(plan_path(video.id), plan.to_json().encode())

    def _stored(self, source: bytes, name: str, options: VideoOptions | None) -> Video:
        video_id = new_video_id()
        self.videos.media.write(source_path(video_id), source)
        return Video.new(
            name,
            size_bytes=len(source),
            footage=footage.probe(io.BytesIO(source)),
            options=options,
            video_id=video_id,
        )


def _lines(times: Sequence[float], cast: Cast) -> Iterator[bytes]:
    for index, t in enumerate(times):
        faces = [
            [track, [float(value) for value in square_at(index, track)], 0.9, found]
            for track, found in cast(index).items()
        ]
        yield json.dumps([t, faces]).encode() + b"\n"
