"""What RQ runs for Moodline: queues, task paths, time-outs and lifetimes, all stated here.

Jobs are JSON, never pickle, and carry names, not pixels. Callers enqueue by dotted path, so that
nothing but a worker imports the code of a task.
"""

from __future__ import annotations

import redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from shared.bus import connect
from shared.errors import BusError
from shared.source import mask_address

LIVE_QUEUE = "live"
VIDEO_QUEUE = "video"
QUEUES = (LIVE_QUEUE, VIDEO_QUEUE)  # most urgent first

DRAIN_SLICE_S = 1.5  # how long a drain serves feeds before other work gets its turn
_DRAIN_TASK = "workers.tasks.drain"


class Jobs:
    """Submits work. One connection pool; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._address = mask_address(url)
        self._live = Queue(LIVE_QUEUE, connection=connect(url), serializer=JSONSerializer)

    def enqueue_drain(self) -> None:
        """Ask for one worker to serve ready feeds for a slice; raises BusError.

        A drain that waited for two seconds is void: by then another was asked for. It leaves
        nothing behind when it ends, and a failed one is seen for a minute.
        """
        try:
            self._live.enqueue(
                _DRAIN_TASK,
                job_timeout=60,
                ttl=2,
                result_ttl=0,
                failure_ttl=60,
                retry=Retry(max=1),
            )
        except redis.RedisError as error:
            raise BusError(
                f"Redis at {self._address} took no job ({type(error).__name__}: {error})."
            ) from error
