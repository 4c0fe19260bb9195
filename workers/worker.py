"""One worker process: models loaded and warm, then RQ's loop until told to stop.

RQ's SimpleWorker runs jobs in this very process, because a fork a job would load the models anew
and a forked LiteRT or TensorFlow is not safe. What that gives up (a crash takes the worker along)
the supervisor and the leases give back: another worker goes on, and a new one starts.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any, cast

import cv2
import structlog
from redis import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import InvalidJobOperation, StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import DequeueStrategy

from shared.bus import Bus
from shared.config import Settings
from shared.connection import connect
from shared.errors import BusError, InvalidRecord
from shared.jobs import LIVE_QUEUE, QUEUES, TASKS, VIDEO_QUEUE, Jobs
from shared.media import Media
from shared.schema import WorkerReport
from shared.videos import Videos
from workers import tasks
from workers.keeper import Keeper
from workers.live import Drain, Turns
from workers.pipeline import Pipeline, load_pipeline
from workers.steps import Steps
from workers.vision.classifier import read_card

_log = structlog.get_logger(__name__)
_REPORT_EVERY_S = 2.0
_STOP_S = 3.5  # less than the supervisor waits


class _Stopwatch:
    """The time that jobs have taken so far, the one under way included; read by another thread."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._started_at: float | None = None

    def start(self) -> None:
        self._started_at = time.monotonic()

    def stop(self) -> None:
        if (started_at := self._started_at) is not None:
            self._started_at = None
            self._total_s += time.monotonic() - started_at

    def read_s(self) -> float:
        total_s, started_at = self._total_s, self._started_at
        return total_s + (0.0 if started_at is None else time.monotonic() - started_at)


class _Job(Job):
    """A job that runs one of Moodline's tasks, and no other code that its sender names.

    Whoever may write to the queues in Redis could else have a worker call any function it can
    import.
    """

    success_callback = failure_callback = stopped_callback = None

    @property
    def func(self) -> Callable[..., Any]:
        if self.func_name not in TASKS:
            raise InvalidRecord(f"expected a job for one of {TASKS}, got {str(self.func_name)!r}")
        return cast("Callable[..., Any]", super().func)


class _Worker(SimpleWorker):
    """RQ's worker, with shorter pauses while Redis is away, and a stop that does not ask Redis."""

    max_connection_wait_time = 2.0
    _running_job = False

    def __init__(
        self, *args: Any, stopping: threading.Event, stopwatch: _Stopwatch, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._stopping = stopping
        self._stopwatch = stopwatch

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._running_job = True
        self._stopwatch.start()
        try:
            super().execute_job(job, queue)
        finally:
            self._stopwatch.stop()
            self._running_job = False

    def handle_job_success(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().handle_job_success(*args, **kwargs)
        except InvalidJobOperation:
            # Redis was restarted during the job and knows it no more. Its work is published.
            _log.info("Redis has forgotten a job that just ended")

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def _shutdown(self) -> None:
        self._stop_requested = True
        if not self._running_job:
            raise StopRequested


def run(settings: Settings, redis_url: str, queues: tuple[str, ...] = QUEUES) -> None:
    """Work until SIGTERM or SIGINT.

    Raises ModelError where a model cannot be loaded. A Redis that is away is waited for.
    """
    cv2.setNumThreads(settings.threads)
    name = f"{socket.gethostname()}-{os.getpid()}"
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    pipeline = load_pipeline(settings)
    bus = Bus(redis_url)
    report = WorkerReport(
        name=name, model=pipeline.model, labels=pipeline.labels, started_at=time.time()
    )
    jobs = Jobs(redis_url)
    videos = Videos(redis_url, Media(settings.media_address), jobs)
    drain = Drain(
        bus,
        jobs,
        pipeline,
        name=name,
        staleness_s=settings.staleness_s,
        timeline_s=settings.timeline_s,
        serves_video=VIDEO_QUEUE in queues,
        stopping=stopping.is_set,
    )
    stopwatch = _Stopwatch()
    reporter = threading.Thread(
        target=_report,
        args=(bus, pipeline, drain, stopwatch, report, stopping),
        name="report",
        daemon=True,
    )
    reporter.start()
    steps = Steps(
        videos,
        pipeline,
        read_card(settings.model),
        smoothing_s=settings.smoothing_s,
        live_turn=Turns(drain) if LIVE_QUEUE in queues else lambda: None,
        stopping=stopping.is_set,
    )
    tasks.install(drain, steps)
    keeper = Keeper(
        videos,
        name=name,
        retention_s=settings.retention_days * 86400 if settings.retention_days else None,
    )
    threading.Thread(target=keeper.run, args=(stopping,), name="keeper", daemon=True).start()
    threading.Thread(target=_end_in_time, args=(stopping,), name="end", daemon=True).start()
    while not stopping.is_set():
        _work(redis_url, queues, stopping, stopwatch)
        # RQ gives up when Redis goes away in mid-job; the models stay loaded meanwhile.
        stopping.wait(0.5)
    try:
        bus.remove_worker(name)
    except BusError:
        _log.info("Redis was away at the end")


def _work(
    redis_url: str, queues: tuple[str, ...], stopping: threading.Event, stopwatch: _Stopwatch
) -> None:
    """Run RQ's loop until it is told to stop or gives up."""
    try:
        worker = _Worker(
            list(queues),
            connection=connect(redis_url),
            serializer=JSONSerializer,
            job_class=_Job,
            stopping=stopping,
            stopwatch=stopwatch,
        )
        # In turns: neither kind of work can keep the other from this worker.
        worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
    except RedisError as error:
        _log.warning("Redis is away", error=str(error))


def _end_in_time(stopping: threading.Event) -> None:
    """End a worker that was told to stop, also where each goodbye waits for a line that is cut.

    Nothing is lost: what it held goes to others when its leases run out.
    """
    stopping.wait()
    time.sleep(_STOP_S)
    _log.warning("ended without a goodbye: Redis or the storage does not answer")
    os._exit(0)


def _report(
    bus: Bus,
    pipeline: Pipeline,
    drain: Drain,
    stopwatch: _Stopwatch,
    report: WorkerReport,
    stopping: threading.Event,
) -> None:
    """Say every other second that this worker is there, and what it has done."""
    while True:
        done = pipeline.work_done()
        try:
            bus.report_worker(
                replace(
                    report,
                    frames=done.frames,
                    batches=done.batches,
                    faces=done.faces,
                    stage_seconds=dict(done.stage_seconds),
                    busy_seconds=max(0.0, stopwatch.read_s() - drain.idle_s),
                    delays=dict(drain.delays.counts),
                    delay_seconds=drain.delays.sum_s,
                )
            )
        except BusError as error:
            _log.info("no report while Redis is away", error=str(error))
        if stopping.wait(_REPORT_EVERY_S):
            return
