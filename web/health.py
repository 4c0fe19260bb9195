"""Is it alive, is it ready, and how is it doing: for supervisors, people and Prometheus.

What the metrics promise: base units, counters that only rise while their subject exists, and a
number of series that is bounded (`_MAX_FEEDS`). All but ``moodline_web_*`` are those of the whole
system, read from Redis when asked, so every web process tells the same: ``max by`` their labels
before summing over processes.

What they leave out: names of feeds other than in ``moodline_feed_info``, and anything that says who
was seen. What each alert means is in docs/OPERATIONS.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from itertools import accumulate

from flask import Blueprint, Response, jsonify
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from shared.bus import Bus
from shared.errors import BusError
from shared.event_bus import EventBus
from shared.jobs import LIVE_QUEUE, VIDEO_QUEUE, Jobs
from shared.recording_bus import RecordingBus
from shared.recordings import RecordingState
from shared.schema import Feed, FeedState, FeedStatus, WorkerReport
from shared.videos import Videos
from web.intake import Intake
from web.live import Live
from web.problem import problem
from web.readiness import Missing, StorageProbe, missing

_MAX_FEEDS = 500  # feeds, the oldest, that have series of their own; all count in the sums


def blueprint(
    bus: Bus,
    live: Live,
    videos: Videos,
    jobs: Jobs,
    events: EventBus,
    recordings: RecordingBus,
    intake: Intake,
) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    bp = Blueprint("health", __name__)
    registry = CollectorRegistry()
    registry.register(_Collector(bus, live, videos, jobs, events, recordings, intake))
    ProcessCollector(namespace="moodline_web", registry=registry)
    storage = StorageProbe(videos.media)

    @bp.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "alive"})

    @bp.get("/readyz")
    def readyz() -> Response:
        found = missing(bus)
        if detail := storage.problem():
            found.append(Missing("storage", detail))
        if not found:
            return jsonify({"status": "ready", "missing": []})
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            " ".join(part.detail for part in found),
            missing=[asdict(part) for part in found],
        )

    @bp.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_1_0_0)

    return bp


class _Collector:
    """Reads all figures when asked."""

    def __init__(
        self,
        bus: Bus,
        live: Live,
        videos: Videos,
        jobs: Jobs,
        events: EventBus,
        recordings: RecordingBus,
        intake: Intake,
    ) -> None:
        self._bus = bus
        self._live = live
        self._videos = videos
        self._jobs = jobs
        self._events = events
        self._recordings = recordings
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        yield from self._web()
        up = GaugeMetricFamily("moodline_redis_up", "Whether Redis answers.")
        try:
            families = [
                *self._redis(),
                *self._backlog(),
                *self._live_feeds(),
                *_workers(self._bus.workers()),
                *self._recorded(),
                *self._noticed(),
            ]
        except BusError:
            families = []
        up.add_metric([], 1.0 if families else 0.0)
        yield up
        yield from families

    def _web(self) -> Iterator[Metric]:
        yield _gauge(
            "moodline_web_clients", "Socket.IO clients of this process.", self._live.clients
        )
        yield CounterMetricFamily(
            "moodline_web_frames_sent",
            "Frames this process sent over Socket.IO.",
            self._live.frames_sent,
        )
        yield CounterMetricFamily(
            "moodline_web_frames_skipped",
            "Frames a viewer did not get because it had not acknowledged the one before.",
            self._live.frames_skipped,
        )
        counts = self._intake.counts
        files = CounterMetricFamily(
            "moodline_web_uploaded_files",
            "Files that this process was sent whole, by what became of them.",
            labels=["outcome"],
        )
        files.add_metric(["taken"], counts.taken)
        files.add_metric(["refused"], counts.refused)
        yield files
        yield CounterMetricFamily(
            "moodline_web_uploaded_bytes", "Of the files that were taken.", counts.taken_bytes
        )

    def _redis(self) -> Iterator[Metric]:
        memory = self._bus.memory()
        yield _gauge("moodline_redis_memory_bytes", "Used by Redis.", memory.used_bytes)
        yield _gauge(
            "moodline_redis_memory_limit_bytes", "Redis may use; 0: all.", memory.limit_bytes
        )

    def _backlog(self) -> Iterator[Metric]:
        """Whether there are enough workers: what autoscaling goes by."""
        live = self._bus.backlog()
        steps, oldest_s = self._jobs.video_backlog()
        age = GaugeMetricFamily(
            "moodline_queue_age_seconds",
            "How long the first in the queue has waited: a feed (live), a video's step (video).",
            labels=["queue"],
        )
        age.add_metric([LIVE_QUEUE], live.oldest_s)
        age.add_metric([VIDEO_QUEUE], oldest_s)
        yield age
        yield _gauge(
            "moodline_ready_feeds", "Feeds with frames that wait for a worker.", live.ready
        )
        yield _gauge("moodline_drains", "Workers that serve live feeds right now.", live.drains)
        yield _gauge("moodline_video_steps_waiting", "Steps of videos in the queue.", steps)

    def _live_feeds(self) -> Iterator[Metric]:
        feeds = self._bus.feeds()
        ids = [feed.id for feed in feeds]
        yield from _feeds(feeds, self._bus.statuses(ids))
        recorded = Counter(
            recording.state for recording, _ in self._recordings.seen(ids).values() if recording
        )
        recordings = GaugeMetricFamily(
            "moodline_recordings", "Feeds that are being recorded, by state.", labels=["state"]
        )
        for state in RecordingState:
            recordings.add_metric([state.value], recorded[state])
        yield recordings

    def _recorded(self) -> Iterator[Metric]:
        load = self._videos.load()
        videos = GaugeMetricFamily("moodline_videos", "Recorded videos.", labels=["status"])
        for status, count in load.videos.items():
            videos.add_metric([status.value], count)
        yield videos
        yield _gauge(
            "moodline_video_steps_held",
            "Steps of videos that a worker does, or that pause after a failure.",
            load.held,
        )
        yield _gauge(
            "moodline_video_steps_failed", "Steps that failed and are not done yet.", load.failed
        )
        yield _gauge("moodline_video_frames", "Frames of videos under analysis.", load.frames_total)
        yield _gauge(
            "moodline_video_frames_analysed", "Of these, analysed so far.", load.frames_done
        )

    def _noticed(self) -> Iterator[Metric]:
        led, _ = self._events.led()
        yield _gauge("moodline_events_led", "Whether a process looks for events.", led)
        yield CounterMetricFamily(
            "moodline_events", "Events that rules have led to.", self._events.noticed()
        )
        yield _gauge(
            "moodline_event_deliveries_waiting",
            "Deliveries of events that are still to be made.",
            self._events.undelivered(),
        )


def _feeds(feeds: Sequence[Feed], statuses: Mapping[str, FeedStatus]) -> Iterator[Metric]:
    states = GaugeMetricFamily("moodline_feeds", "All feeds, by state.", labels=["state"])
    counts = Counter(status.state for status in statuses.values())
    for each in FeedState:
        states.add_metric([each.value], counts[each])
    yield states
    rates = GaugeMetricFamily(
        "moodline_frames_per_second", "Of all feeds together, by stage.", labels=["stage"]
    )
    rates.add_metric(["captured"], sum(status.fps_in for status in statuses.values()))
    rates.add_metric(["analysed"], sum(status.fps_analysed for status in statuses.values()))
    yield rates
    names = ["feed"]
    info = GaugeMetricFamily("moodline_feed_info", "1 for a feed.", labels=["feed", "name"])
    captured = CounterMetricFamily("moodline_feed_captured_frames", "Captured.", labels=names)
    analysed = CounterMetricFamily("moodline_feed_analysed_frames", "Analysed.", labels=names)
    dropped = CounterMetricFamily(
        "moodline_feed_dropped_frames", "Not analysed, by reason.", labels=["feed", "reason"]
    )
    reconnects = CounterMetricFamily(
        "moodline_feed_reconnects", "Times the source was opened again.", labels=names
    )
    fps = GaugeMetricFamily(
        "moodline_feed_fps", "Frames per second, by stage.", labels=["feed", "stage"]
    )
    latency = GaugeMetricFamily(
        "moodline_feed_latency_seconds",
        "Capture to result of the last frames, by quantile.",
        labels=["feed", "quantile"],
    )
    viewers = GaugeMetricFamily("moodline_feed_viewers", "Who watch now.", labels=names)
    state = GaugeMetricFamily(
        "moodline_feed_state", "1 for the state a feed is in.", labels=["feed", "state"]
    )
    for feed in feeds[:_MAX_FEEDS]:
        status = statuses[feed.id]
        info.add_metric([feed.id, feed.name], 1)
        captured.add_metric([feed.id], status.captured)
        analysed.add_metric([feed.id], status.analysed)
        for drop, count in status.drops.items():
            dropped.add_metric([feed.id, drop.value], count)
        reconnects.add_metric([feed.id], status.reconnects)
        fps.add_metric([feed.id, "captured"], status.fps_in)
        fps.add_metric([feed.id, "analysed"], status.fps_analysed)
        for quantile, value in (("0.5", status.latency_p50_ms), ("0.95", status.latency_p95_ms)):
            if value is not None:
                latency.add_metric([feed.id, quantile], value / 1000)
        viewers.add_metric([feed.id], status.viewers)
        state.add_metric([feed.id, status.state.value], 1)
    yield from (info, captured, analysed, dropped, reconnects, fps, latency, viewers, state)


def _workers(reports: Sequence[WorkerReport]) -> Iterator[Metric]:
    yield _gauge("moodline_workers", "Workers that reported lately.", len(reports))
    names = ["worker"]
    busy = CounterMetricFamily(
        "moodline_worker_busy_seconds",
        "Time in which a worker had something to do; its rate is the share of its time.",
        labels=names,
    )
    frames = CounterMetricFamily("moodline_worker_frames", "Analysed.", labels=names)
    batches = CounterMetricFamily("moodline_worker_batches", "Batches of frames.", labels=names)
    faces = CounterMetricFamily("moodline_worker_faces", "Classified.", labels=names)
    seconds = CounterMetricFamily(
        "moodline_worker_stage_seconds", "Time spent, by stage.", labels=["worker", "stage"]
    )
    delay = HistogramMetricFamily(
        "moodline_worker_delay_seconds",
        "Live frames by their time from capture to result.",
        labels=names,
    )
    for report in reports:
        busy.add_metric([report.name], report.busy_seconds)
        frames.add_metric([report.name], report.frames)
        batches.add_metric([report.name], report.batches)
        faces.add_metric([report.name], report.faces)
        for stage, spent in report.stage_seconds.items():
            seconds.add_metric([report.name, stage], spent)
        if report.delays:
            bounds = ["+Inf" if bound == "inf" else bound for bound in report.delays]
            buckets = list(zip(bounds, accumulate(report.delays.values()), strict=True))
            delay.add_metric([report.name], buckets, report.delay_seconds)
    yield from (busy, frames, batches, faces, seconds, delay)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
