"""Is it alive, is it ready, and how is it doing: for supervisors, people and Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from http import HTTPStatus

from flask import Blueprint, Response, jsonify
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from shared.bus import Bus
from shared.errors import BusError
from shared.schema import FeedState
from web.live import Live
from web.problem import problem
from web.readiness import missing


def blueprint(bus: Bus, live: Live) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    bp = Blueprint("health", __name__)
    registry = CollectorRegistry()
    registry.register(_Collector(bus, live))
    ProcessCollector(namespace="moodline_web", registry=registry)

    @bp.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "alive"})

    @bp.get("/readyz")
    def readyz() -> Response:
        found = missing(bus)
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
    """Reads all figures from Redis when asked, so that they are those of the whole system."""

    def __init__(self, bus: Bus, live: Live) -> None:
        self._bus = bus
        self._live = live

    def collect(self) -> Iterator[Metric]:
        yield from self._web()
        up = GaugeMetricFamily("moodline_redis_up", "Whether Redis answers.")
        try:
            families = [*self._feeds(), *self._workers()]
        except BusError:
            families = []
        up.add_metric([], 1.0 if families else 0.0)
        yield up
        yield from families

    def _web(self) -> Iterator[Metric]:
        clients = GaugeMetricFamily("moodline_web_clients", "Socket.IO clients of this process.")
        clients.add_metric([], self._live.clients)
        sent = CounterMetricFamily(
            "moodline_web_frames_sent", "Frames this process sent over Socket.IO."
        )
        sent.add_metric([], self._live.frames_sent)
        skipped = CounterMetricFamily(
            "moodline_web_frames_skipped",
            "Frames a viewer did not get because it had not acknowledged the one before.",
        )
        skipped.add_metric([], self._live.frames_skipped)
        yield from (clients, sent, skipped)

    def _feeds(self) -> Iterator[Metric]:
        names = ["feed", "name"]
        captured = CounterMetricFamily("moodline_feed_captured_frames", "Captured.", labels=names)
        analysed = CounterMetricFamily("moodline_feed_analysed_frames", "Analysed.", labels=names)
        dropped = CounterMetricFamily(
            "moodline_feed_dropped_frames", "Not analysed, by reason.", labels=[*names, "reason"]
        )
        reconnects = CounterMetricFamily(
            "moodline_feed_reconnects", "Times the source was opened again.", labels=names
        )
        fps = GaugeMetricFamily(
            "moodline_feed_fps", "Frames per second, by stage.", labels=[*names, "stage"]
        )
        latency = GaugeMetricFamily(
            "moodline_feed_latency_seconds",
            "Capture to result of the last frames, by quantile.",
            labels=[*names, "quantile"],
        )
        viewers = GaugeMetricFamily("moodline_feed_viewers", "Who watch now.", labels=names)
        state = GaugeMetricFamily(
            "moodline_feed_state", "1 for the state a feed is in.", labels=[*names, "state"]
        )
        feeds = self._bus.feeds()
        statuses = self._bus.statuses([feed.id for feed in feeds])
        for feed in feeds:
            key, status = [feed.id, feed.name], statuses[feed.id]
            captured.add_metric(key, status.captured)
            analysed.add_metric(key, status.analysed)
            for drop, count in status.drops.items():
                dropped.add_metric([*key, drop.value], count)
            reconnects.add_metric(key, status.reconnects)
            fps.add_metric([*key, "captured"], status.fps_in)
            fps.add_metric([*key, "analysed"], status.fps_analysed)
            for quantile, value in (
                ("0.5", status.latency_p50_ms),
                ("0.95", status.latency_p95_ms),
            ):
                if value is not None:
                    latency.add_metric([*key, quantile], value / 1000)
            viewers.add_metric(key, status.viewers)
            for each in FeedState:
                state.add_metric([*key, each.value], float(each is status.state))
        yield from (captured, analysed, dropped, reconnects, fps, latency, viewers, state)

    def _workers(self) -> Iterator[Metric]:
        reports = self._bus.workers()
        running = GaugeMetricFamily("moodline_workers", "Workers that reported lately.")
        running.add_metric([], len(reports))
        frames = CounterMetricFamily("moodline_worker_frames", "Analysed.", labels=["worker"])
        batches = CounterMetricFamily("moodline_worker_batches", "Batches.", labels=["worker"])
        faces = CounterMetricFamily("moodline_worker_faces", "Classified.", labels=["worker"])
        seconds = CounterMetricFamily(
            "moodline_worker_stage_seconds", "Time spent, by stage.", labels=["worker", "stage"]
        )
        for report in reports:
            frames.add_metric([report.name], report.frames)
            batches.add_metric([report.name], report.batches)
            faces.add_metric([report.name], report.faces)
            for stage, spent in report.stage_seconds.items():
                seconds.add_metric([report.name, stage], spent)
        yield from (running, frames, batches, faces, seconds)
