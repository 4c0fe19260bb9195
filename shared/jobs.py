"""What RQ runs for Moodline: queues, task paths, time-outs and lifetimes, all stated here.

Jobs are JSON, never pickle, and carry names, not pixels. Callers enqueue by dotted path, so that
nothing but a worker imports the code of a task.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from shared.connection import connect
from shared.errors import BusError
from shared.source import mask_address

LIVE_QUEUE = "live"
VIDEO_QUEUE = "video"
QUEUES = (LIVE_QUEUE, VIDEO_QUEUE)  # most urgent first

DRAIN_SLICE_S = 1.5  # how long a drain serves feeds before other work gets its turn
_DRAIN_TASK = "workers.tasks.drain"
_STEP_TASK = "workers.tasks.video_step"
TASKS = (_DRAIN_TASK, _STEP_TASK)  # all that a worker runs
# Ends what hangs for good, not what is slow: a video may last for hours, in one segment.
_STEP_TIMEOUT_S = 24 * 3600
_JOB_ID = re.compile(r"(?P<video>[0-9a-f]{16})_(?P<step>[a-z0-9-]+)_[0-9a-f]+")


class Jobs:
    """Submits work. One connection pool; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._address = mask_address(url)
        connection = connect(url)
        self._live = Queue(LIVE_QUEUE, connection=connection, serializer=JSONSerializer)
        self._video = Queue(VIDEO_QUEUE, connection=connection, serializer=JSONSerializer)

    def enqueue_drain(self) -> None:
        """Ask for one worker to serve ready feeds for a slice; raises BusError.

        A drain that waited for two seconds is void: by then another was asked for. It leaves
        nothing behind when it ends, and a failed one is seen for a minute.
        """
        with self._speaking():
            self._live.enqueue(
                _DRAIN_TASK,
                job_timeout=60,
                ttl=2,
                result_ttl=0,
                failure_ttl=60,
                retry=Retry(max=1),
            )

    def enqueue_step(self, video_id: str, step: str) -> None:
        """Ask for one worker to do one step of a video; raises BusError.

        Whether it succeeds is seen in the storage and in `shared.video_bus`, not in RQ: the task
        itself counts its attempts, and a job that runs for nothing ends at once.
        """
        with self._speaking():
            self._video.enqueue(
                _STEP_TASK,
                args=(video_id, step),
                job_id=f"{video_id}_{step}_{secrets.token_hex(4)}",
                job_timeout=_STEP_TIMEOUT_S,
                result_ttl=0,
                failure_ttl=3600,
                retry=Retry(max=1),
            )

    def waiting_steps(self, video_id: str) -> set[str]:
        """The steps of a video that wait in the queue; raises BusError."""
        with self._speaking():
            found = (_JOB_ID.fullmatch(job_id) for job_id in self._video.get_job_ids())
            return {job["step"] for job in found if job and job["video"] == video_id}

    def video_backlog(self) -> tuple[int, float]:
        """How many steps of videos wait, and for how many seconds the first has; BusError."""
        with self._speaking():
            first = next(iter(self._video.get_jobs(0, 1)), None)
            if first is None or first.enqueued_at is None:
                return self._video.count, 0.0
            waited = datetime.now(UTC) - first.enqueued_at
            return self._video.count, max(0.0, waited.total_seconds())

    def video_work_waits(self) -> bool:
        """Whether a step of any video waits for a worker; raises BusError."""
        with self._speaking():
            return bool(self._video.count)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise BusError(
                f"The queues in Redis at {self._address} do not answer "
                f"({type(error).__name__}: {error}): check that it runs, and REDIS_URL."
            ) from error
