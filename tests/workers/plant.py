"""A Moodline without cameras or page, for tests: a Redis and worker processes that can be hurt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from shared import redis_server
from shared.config import PROJECT_DIR
from shared.jobs import Jobs
from shared.media import Media
from shared.video import Video, VideoOptions, source_path
from shared.videos import Videos
from workers import footage


class Plant:
    """Its folder holds Redis's socket, the workers' logs, and the media unless elsewhere."""

    def __init__(self, folder: Path, *, workers: int, media_url: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.redis_url = redis_server.url(folder)
        self.media = Media(media_url or str(folder / "media"))
        self._environment = {
            "REDIS_URL": self.redis_url,
            "MEDIA_URL": self.media.url,
            "MOODLINE_DATA_DIR": str(folder),
            "MOODLINE_LOG_LEVEL": "info",
        }
        self._redis = self._start_redis()
        self.videos = Videos(self.redis_url, self.media, Jobs(self.redis_url))
        self.workers: list[subprocess.Popen[bytes]] = []
        for _ in range(workers):
            self.add_worker()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(10)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.videos.close()
        self._redis.terminate()
        self._redis.wait()

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"worker-{len(self.workers)}.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "moodline", "worker"],
                env={**os.environ, **self._environment, **environment},
                cwd=PROJECT_DIR,
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def kill(self, count: int) -> None:
        """End workers as a power cut would, and start none for them."""
        for _ in range(count):
            worker = self.workers.pop(0)
            worker.send_signal(signal.SIGKILL)
            worker.wait()

    def restart_redis(self) -> None:
        """End Redis as a power cut would; the new one remembers nothing."""
        self._redis.kill()
        self._redis.wait()
        self._redis = self._start_redis()

    def submit(self, clip: Path, options: VideoOptions | None = None) -> Video:
        video = Video.new(
            clip.name,
            size_bytes=clip.stat().st_size,
            footage=footage.probe(clip),
            options=options,
        )
        self.media.write(source_path(video.id), clip.read_bytes())
        self.videos.add(video)
        return video

    def wait_for(
        self, video: Video, reached: Callable[[Video], bool], within_s: float = 150.0
    ) -> Video:
        """Look at a video until it is so far."""
        deadline = time.monotonic() + within_s
        while not reached(seen := self.videos.one(video.id)):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {within_s} s in vain; {seen}\n{self.logs()}")
            time.sleep(0.05)
        return seen

    def wait_until_done(self, video: Video) -> Video:
        return self.wait_for(video, lambda seen: seen.status.is_final)

    def results(self, video: Video) -> bytes:
        return self.media.read(f"videos/{video.id}/report/results.json")

    def logs(self) -> str:
        logs = sorted(self.folder.glob("worker-*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)

    def _start_redis(self) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(redis_server.command(self.folder))
        redis_server.wait_until_up(self.redis_url)
        return server
