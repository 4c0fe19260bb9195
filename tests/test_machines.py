"""Workers on other machines: over TLS, as users with few rights, through a line that gets cut.

The other machine is a network namespace. It has the worker's address of Redis and of the storage,
and nothing else of this machine's network.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from shared.bus import Bus
from shared.errors import BusError
from shared.schema import CaptureReport, FeedState, WorkerReport
from tests import builders, machines
from tests.buckets import BUCKET, bucket_server
from tests.machines import Link, TlsRedis, wait_until
from tests.web.conftest import DEMO, form_of

_CUT_S = 10.0  # longer than the 8 s after which a silent connection is given up
_FAR = "far"  # what the other machine calls itself


@dataclass
class Site:
    """Capture, events, web, and storage on this machine; workers wherever a test starts them."""

    folder: Path
    link: Link
    redis: TlsRedis
    bucket: dict[str, str]
    base: str
    bus: Bus
    processes: ExitStack
    started: list[subprocess.Popen[bytes]]

    def add_worker(self, name: str, *, far: bool) -> int:
        """Start a worker with nothing but the two addresses, and say its process."""
        environment = {
            "REDIS_URL": self.redis.url("worker"),
            "MEDIA_URL": f"s3://{BUCKET}/here",
            "MOODLINE_LOG_LEVEL": "info",
            **self.bucket,
        }
        command = machines.part("worker")
        started = self.processes.enter_context(
            machines.process(
                self.link.inside(command) if far else command,
                self.folder / f"{name}.log",
                environment,
            )
        )
        self.started.append(started)
        wait_until(lambda: self.worker(started.pid), 30, f"worker {name}")
        return started.pid

    def worker(self, pid: int) -> WorkerReport | None:
        """What a worker last said of itself, while it counts as being there."""
        name = f"{socket.gethostname()}-{pid}"
        return next((each for each in self.bus.workers() if each.name == name), None)

    def frames(self, pid: int) -> int:
        report = self.worker(pid)
        return report.frames if report else 0

    def analysed(self) -> list[int]:
        """Frames analysed so far, a feed."""
        feeds = [feed.id for feed in self.bus.feeds()]
        return [status.analysed for status in self.bus.statuses(feeds).values()]

    def enqueue(self, function: str, *arguments: str) -> str:
        """Put a job into the queue for videos that is none of Moodline's; its id."""
        with contextlib.closing(redis.Redis.from_url(self.redis.url("admin"))) as client:
            queue = Queue("video", connection=client, serializer=JSONSerializer)
            return str(queue.enqueue(function, *arguments, failure_ttl=60).id)

    def failure(self, job_id: str) -> str:
        """Why a job failed; empty while it has not."""
        with contextlib.closing(redis.Redis.from_url(self.redis.url("admin"))) as client:
            job = Job.fetch(job_id, connection=client, serializer=JSONSerializer)
            result = job.latest_result() if job.is_failed else None
            return str(result.exc_string) if result else ""

    def post(self, path: str, **body: object) -> Any:
        headers = {"Content-Type": "application/json"}
        return self.call("POST", path, json.dumps(body).encode(), **headers)

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get_content_type() else body


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    machines.require("redis-server", "redis-server")
    with ExitStack() as running:
        link = running.enter_context(machines.link())
        server = running.enter_context(machines.tls_redis(tmp_path / "redis", link.here))
        bucket = running.enter_context(bucket_server(tmp_path / "bucket.log", link.here))
        port = machines.free_port()
        started: list[subprocess.Popen[bytes]] = []
        for role in ("capture", "events", "web"):
            environment = {
                "REDIS_URL": server.url(role),
                "MEDIA_URL": f"s3://{BUCKET}/here",
                "MOODLINE_DATA_DIR": str(tmp_path / role),
                "MOODLINE_PORT": str(port),
                **bucket,
            }
            started.append(
                running.enter_context(
                    machines.process(machines.part(role), tmp_path / f"{role}.log", environment)
                )
            )
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(base), 20, "the web process")
        bus = Bus(server.url("web"))
        running.callback(bus.close)
        processes = running.enter_context(ExitStack())
        yield Site(tmp_path, link, server, bucket, base, bus, processes, started)
        for each in started:  # all at once: they are waited for one by one
            each.terminate()


def _answers(base: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/healthz", timeout=1):
        return True
    return False


def test_a_worker_on_another_machine_joins_works_and_survives_a_cut_line(site: Site) -> None:
    far = site.add_worker("far", far=True)
    assert site.post("/api/feeds/test", source="demo")[:2] == b"\xff\xd8"
    feed = site.post("/api/feeds", source="demo", fps=5)["id"]
    site.post("/api/feeds", source="demo", fps=5)
    rule = {"kind": "emotion_over", "emotion": "neutral", "share": 0.01, "for_s": 0}
    site.post("/api/rules", name="Anybody", picture=True, **rule)
    form, headers = form_of(DEMO.read_bytes(), fps="3")
    video = site.call("POST", "/api/videos", form, **headers)["id"]

    def done() -> bool:
        state = site.call("GET", f"/api/videos/{video}")
        assert state["status"] != "failed", state["error"]
        return bool(state["status"] == "done")

    # Alone, the far worker serves both live feeds and the video.
    wait_until(lambda: min(site.analysed(), default=0) > 5, 20, "live feeds from afar")
    wait_until(done, 60, "the video from afar")
    report = site.call("GET", f"/api/videos/{video}/results.json")
    assert report["video"]["frames_analysed"] == report["video"]["frames_total"] > 0

    wait_until(lambda: site.call("GET", "/api/events"), 10, "an event from afar")
    site.post(f"/api/feeds/{feed}/recording", name="A while")

    near = site.add_worker("near", far=False)
    site.link.cut()
    cut_at = time.monotonic()
    before = site.analysed()
    wait_until(
        lambda: min(n - m for n, m in zip(site.analysed(), before, strict=True)) > 10,
        8,
        "feeds moving on to the near worker",
    )
    wait_until(lambda: site.worker(far) is None, 12, "the far worker missing")
    time.sleep(max(0.0, _CUT_S - (time.monotonic() - cut_at)))
    site.link.mend()
    wait_until(lambda: site.worker(far) is not None, 15, "the far worker coming back")
    back = site.frames(far)
    wait_until(lambda: site.frames(far) > back, 15, "the far worker working again")
    assert site.worker(near) is not None

    site.call("DELETE", f"/api/feeds/{feed}/recording")
    wait_until(lambda: len(site.call("GET", "/api/videos")) == 2, 15, "the recording as a video")

    # A job that somebody else put into the queue is refused, which needs rights of its own.
    refused = site.enqueue("os.system", "true")
    wait_until(lambda: site.failure(refused), 15, "a foreign job being refused")
    assert "expected a job for one of" in site.failure(refused)
    # Nobody asked for anything that their user may not.
    assert site.redis.refusals() == []


def _behind_one_address(folder: Path, running: ExitStack) -> tuple[str, Callable[[], None]]:
    """As a managed Redis, or one behind a virtual address: what the first one held is gone."""
    redis_server, port = machines.require("redis-server", "redis-server"), machines.free_port()
    command = [redis_server, "--port", str(port), "--save", "", "--dir", str(folder)]
    first = running.enter_context(machines.process(command, folder / "first.log"))

    def fail_over() -> None:
        first.kill()
        time.sleep(1.0)
        running.enter_context(machines.process(command, folder / "second.log"))

    return f"redis://127.0.0.1:{port}/0", fail_over


def _with_sentinel(folder: Path, running: ExitStack) -> tuple[str, Callable[[], None]]:
    _, _, url, first = _watched(folder, running)
    return url, first.kill


def _watched(
    folder: Path, running: ExitStack
) -> tuple[redis.Redis, redis.Redis, str, subprocess.Popen[bytes]]:
    """A primary, a replica, and a Sentinel that notices within a second.

    Gives clients of the primary and the Sentinel, the address, and the process of the primary.
    """
    redis_server = machines.require("redis-server", "redis-server")
    primary, replica, sentinel = (machines.free_port() for _ in range(3))
    common = [redis_server, "--save", "", "--dir", str(folder), "--port"]
    first = running.enter_context(machines.process([*common, str(primary)], folder / "first.log"))
    second = [*common, str(replica), "--replicaof", "127.0.0.1", str(primary)]
    running.enter_context(machines.process(second, folder / "second.log"))
    (folder / "sentinel.conf").write_text(
        f"port {sentinel}\nsentinel monitor faces 127.0.0.1 {primary} 1\n"
        "sentinel down-after-milliseconds faces 1000\nsentinel failover-timeout faces 3000\n"
    )
    watching = [redis_server, str(folder / "sentinel.conf"), "--sentinel"]
    running.enter_context(machines.process(watching, folder / "sentinel.log"))
    asked = redis.Redis(port=sentinel)
    running.callback(asked.close)

    def knows_replica() -> bool:
        with contextlib.suppress(redis.RedisError):
            rows = asked.sentinel_slaves("faces")
            return any(row["port"] == replica and row["flags"] == "slave" for row in rows)
        return False

    wait_until(knows_replica, 20, "the Sentinel knowing the replica")
    asked_first = redis.Redis(port=primary)
    running.callback(asked_first.close)
    # The first of the two named does not exist: another one is asked.
    return asked_first, asked, f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/faces/0", first


def test_after_a_planned_failover_nobody_reads_what_the_old_primary_remembers(
    tmp_path: Path,
) -> None:
    with ExitStack() as servers:
        old, sentinel, url, _ = _watched(tmp_path, servers)
        bus = Bus(url)
        servers.callback(bus.close)
        bus.restore_feeds([builders.feed("cam")])
        assert "cam" in bus.statuses(["cam"])
        sentinel.execute_command("SENTINEL", "FAILOVER", "faces")  # type: ignore[no-untyped-call]
        wait_until(lambda: old.role()[0] == b"slave", 20, "the old primary being a replica")
        # And one that learns nothing any more:
        old.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        bus.report_capture("cam", CaptureReport(FeedState.LIVE, fps_in=15.0))
        for _ in range(3):
            assert bus.statuses(["cam"])["cam"].fps_in == 15.0


def test_an_answer_that_came_too_late_is_nobody_elses(tmp_path: Path) -> None:
    with ExitStack() as servers:
        primary, _, url, _ = _watched(tmp_path, servers)
        bus = Bus(url)
        servers.callback(bus.close)
        bus.restore_feeds([builders.feed("cam")])
        asked: dict[str, Any] = {"max_feeds": 4, "max_frames": 4, "staleness_s": 1.0}
        assert bus.claim("worker", **asked) == []
        primary.client_pause(6000, all=True)
        with pytest.raises(BusError):
            bus.claim("worker", **asked)

        def answers() -> bool:
            with contextlib.suppress(BusError):
                return "cam" in bus.statuses(["cam"])
            return False

        wait_until(answers, 20, "Redis answering again")
        for _ in range(3):
            assert bus.claim("worker", **asked) == []
            assert "cam" in bus.statuses(["cam"])


@pytest.mark.parametrize("kind", [_behind_one_address, _with_sentinel])
def test_live_feeds_go_on_after_redis_failed_over(
    kind: Callable[[Path, ExitStack], tuple[str, Callable[[], None]]], tmp_path: Path
) -> None:
    with ExitStack() as servers, ExitStack() as running:
        url, fail_over = kind(tmp_path, servers)
        environment = {
            "REDIS_URL": url,
            "MOODLINE_DATA_DIR": str(tmp_path / "data"),
            "MEDIA_URL": str(tmp_path / "media"),
        }
        bus = Bus(url)
        running.callback(bus.close)

        def frames() -> int:
            with contextlib.suppress(BusError):
                status = bus.statuses(["cam"])["cam"]
                return status.analysed if status.state is FeedState.LIVE else 0
            return 0

        for role in ("capture", "worker"):
            running.enter_context(
                machines.process(machines.part(role), tmp_path / f"{role}.log", environment)
            )
        wait_until(lambda: _is_restored(bus), 20, "capture")
        bus.put_feed(builders.feed("cam"))
        wait_until(lambda: frames() > 5, 30, "live frames")
        fail_over()
        wait_until(lambda: frames() == 0, 10, "the first Redis missing")
        seen = 0

        def goes_on() -> bool:
            nonlocal seen
            seen = seen or frames()
            return bool(seen) and frames() > seen + 5

        wait_until(goes_on, 30, "live frames at the second Redis")
        assert [feed.id for feed in bus.feeds()] == ["cam"]
        wait_until(bus.workers, 10, "the worker telling of itself")
        running.close()  # while there is somebody to say goodbye to


def _is_restored(bus: Bus) -> bool:
    with contextlib.suppress(BusError):
        return bus.feeds_version() is not None
    return False


def test_a_part_that_is_told_to_stop_while_its_line_is_cut_ends(tmp_path: Path) -> None:
    with ExitStack() as running:
        link = running.enter_context(machines.link())
        server = running.enter_context(machines.tls_redis(tmp_path / "redis", link.here))
        parts = [
            running.enter_context(
                machines.process(
                    link.inside(machines.part(role)),
                    tmp_path / f"{role}.log",
                    {
                        "REDIS_URL": server.url(role),
                        "MOODLINE_DATA_DIR": str(tmp_path / role),
                    },
                )
            )
            for role in ("capture", "worker", "web")
        ]
        bus = Bus(server.url("web"))
        running.callback(bus.close)
        wait_until(lambda: bus.workers() and bus.feeds_version() is not None, 30, "all parts")
        time.sleep(1.0)
        link.cut()
        time.sleep(1.0)
        for each in parts:
            each.terminate()
        told_at = time.monotonic()
        for each in parts:
            each.wait(15)
        assert time.monotonic() - told_at < 10


def test_a_worker_may_do_no_more_than_it_needs(tmp_path: Path) -> None:
    with machines.tls_redis(tmp_path / "redis", "127.0.0.1") as server:
        client = redis.Redis.from_url(server.url("worker"))
        for command in (
            ("HGETALL", "moodline:feeds"),  # cameras' addresses, passwords included
            ("HSET", "moodline:feeds", "x", "{}"),
            ("GET", "other:key"),
            ("CONFIG", "GET", "*"),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CLIENT", "LIST"),
            ("ACL", "LIST"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)  # type: ignore[no-untyped-call]
        client.close()
        stranger = server.url("worker").replace(server.password, "guessed")
        with pytest.raises(BusError, match="AuthenticationError") as refused:
            Bus(stranger).ping()
        assert "guessed" not in str(refused.value)


def test_a_server_with_a_foreign_certificate_is_not_spoken_to(tmp_path: Path) -> None:
    with machines.tls_redis(tmp_path / "redis", "127.0.0.1") as server:
        (tmp_path / "other").mkdir()
        machines.certificates(tmp_path / "other", "127.0.0.1")
        url = server.url("web").replace(str(server.ca), str(tmp_path / "other" / "ca.pem"))
        with pytest.raises(BusError, match="CERTIFICATE_VERIFY_FAILED"):
            Bus(url).ping()
        with pytest.raises(BusError, match="ca_missing"):
            Bus(url.replace("ca.pem", "ca_missing.pem")).ping()
