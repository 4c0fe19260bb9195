"""Everything at once: what a viewer gets.

`find_limit` searches for the most feeds that can be served in time; what happens beyond is
`bench.overload`.

Runs the whole of Moodline as `moodline up` does, in a folder of its own, with N feeds of one clip
in real time, and measures at a plain Socket.IO client, so not what a part claims. Delay is from the
moment a frame was read to its arrival, on one machine's one clock.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
import socketio

from bench import DEMO_CLIP
from shared.errors import MoodlineError

_START_TIMEOUT_S = 60.0
_ANSWER_S = 30.0  # on a machine that has no time left
WARM_UP_S = 4.0
IN_TIME_S = 0.25
_HELD = 0.95
_TRIES = 2
_MOST_FEEDS = 500


@dataclass
class _Viewer:
    """A client that watches all feeds and acknowledges each frame at once."""

    delays_s: list[float] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    with_face: dict[str, int] = field(default_factory=dict)
    tracks: dict[str, set[int]] = field(default_factory=dict)
    counting: bool = False

    def receive(self, meta: dict[str, Any], _jpeg: bytes) -> None:
        if not self.counting:
            return
        feed = meta["feed"]
        self.delays_s.append(time.time() - meta["captured_at"])
        self.frames[feed] = self.frames.get(feed, 0) + 1
        self.with_face[feed] = self.with_face.get(feed, 0) + bool(meta["faces"])
        self.tracks.setdefault(feed, set()).update(face["track"] for face in meta["faces"])


def find_limit(
    start: int, measured: Callable[[int], dict[str, Any]]
) -> tuple[int, list[dict[str, Any]]]:
    """Return the most feeds of which 95 % of the frames come in time, and a row for each number.

    Tries `start`, doubles it until it is too much, and halves the interval from there; 0: not one.
    A number that fails is tried once more, and its better row counts: other work on the machine
    makes a run worse, never better, and what was judged too many is not come back to. A number
    with which Moodline does not come up has no row; raises MoodlineError where not one does.
    """
    rows: dict[int, dict[str, Any]] = {}
    failure: MoodlineError | None = None

    def holds(feeds: int) -> bool:
        nonlocal failure
        for _ in range(_TRIES):
            try:
                row = measured(feeds)
            except MoodlineError as error:
                failure = error
                continue
            rows[feeds] = max(rows.get(feeds, row), row, key=lambda each: each["in_time"])
            if row["in_time"] >= _HELD:
                return True
        return False

    held, tried = 0, start
    while holds(tried):
        held, tried = tried, min(2 * tried, _MOST_FEEDS)
        if tried == held:
            break
    while tried - held > 1:
        middle = (held + tried) // 2
        held, tried = (middle, tried) if holds(middle) else (held, middle)
    if not rows and failure is not None:
        raise failure
    return held, [rows[feeds] for feeds in sorted(rows)]


def measure(
    *, feeds: int, fps: float, seconds: float, workers: int, clip: Path, viewers: int
) -> dict[str, Any]:
    """Run `feeds` feeds of `clip` at `fps` for `seconds`; return what viewers and counters saw.

    `in_time` is the share of all captured frames that viewers had within `IN_TIME_S`; `degraded`
    counts the feeds by what was left out of them in the end.

    Raises MoodlineError where Moodline does not come up.
    """
    with (
        tempfile.TemporaryDirectory(prefix="moodline-bench-") as folder,
        Up(Path(folder), workers=workers, fps=fps) as run,
    ):
        for i in range(feeds):
            run.add_feed(str(clip), f"feed {i + 1}")
        run.wait_until_analysed(feeds)
        watching = [(viewer := _Viewer(), watch(run, viewer.receive)) for _ in range(viewers)]
        for _, client in watching:
            watch_feeds(client, run.counters())
        time.sleep(WARM_UP_S)
        before, cpu_before = run.counters(), run.cpu_seconds()
        for viewer, _ in watching:
            viewer.counting = True
        started = time.monotonic()
        time.sleep(seconds)
        elapsed_s = time.monotonic() - started
        for viewer, client in watching:
            viewer.counting = False
            client.disconnect()
        after, cpu_after = run.counters(), run.cpu_seconds()
    analysed = [after[feed]["analysed"] - before[feed]["analysed"] for feed in after]
    captured = sum(after[feed]["captured"] - before[feed]["captured"] for feed in after)
    dropped = sum(after[feed]["dropped"] - before[feed]["dropped"] for feed in after)
    first = watching[0][0]
    delays = sorted(delay for viewer, _ in watching for delay in viewer.delays_s)
    return {
        "feeds": feeds,
        "fps": fps,
        "workers": workers,
        "viewers": viewers,
        "seconds": round(elapsed_s, 1),
        "analysed_fps_min": round(min(analysed) / elapsed_s, 2),
        "analysed_fps_mean": round(sum(analysed) / len(analysed) / elapsed_s, 2),
        "shown_fps_min": round(
            min(viewer.frames.get(feed, 0) for viewer, _ in watching for feed in after) / elapsed_s,
            2,
        ),
        "dropped": dropped,
        "dropped_max": max(after[feed]["dropped"] - before[feed]["dropped"] for feed in after),
        "in_time": round(
            min(1.0, sum(delay <= IN_TIME_S for delay in delays) / max(1, captured * viewers)), 3
        ),
        "degraded": dict(Counter(after[feed]["degraded"] or "no" for feed in after)),
        "delay_ms": {
            name: round(percentile(delays, share) * 1000, 1)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "frames_with_a_face": round(
            sum(first.with_face.values()) / max(1, sum(first.frames.values())), 3
        ),
        "tracks_per_feed": [len(first.tracks.get(feed, ())) for feed in after],
        "cpu_seconds": {
            role: round(cpu_after[role] - cpu_before.get(role, 0.0), 2) for role in cpu_after
        },
    }


def percentile(ordered: list[float], share: float) -> float:
    if not ordered:
        raise MoodlineError("No frame reached the viewer: see that `moodline up` works here.")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ordered_client(**options: Any) -> socketio.Client:
    """A Socket.IO client that handles messages one after the other.

    python-socketio's threaded client gives each message a thread of its own, so that on a busy
    machine a picture can overtake the event that it belongs to, and both are lost.
    """
    client = socketio.Client(**options)
    trigger = client.eio._trigger_event

    def in_order(event: str, *args: Any, **options: Any) -> Any:
        if event == "message":
            options["run_async"] = False
        return trigger(event, *args, **options)

    client.eio._trigger_event = in_order
    return client


def watch(run: Up, receive: Callable[[dict[str, Any], bytes], None]) -> socketio.Client:
    """A viewer that hands each frame on and then acknowledges it; `watch_feeds` says which."""
    client = ordered_client()
    client.on("frame", receive)
    try:
        client.connect(run.address, transports=["websocket"])
    except socketio.exceptions.ConnectionError as error:
        raise MoodlineError(f"No viewer could connect ({error}): try fewer feeds.") from error
    return client


def watch_feeds(client: socketio.Client, feed_ids: Iterable[str]) -> None:
    """Have a viewer watch these feeds too."""
    for feed_id in feed_ids:
        try:
            client.call("watch", {"feed": feed_id}, timeout=_ANSWER_S)
        except socketio.exceptions.TimeoutError as error:
            raise MoodlineError(
                f"A viewer was not answered within {_ANSWER_S:g} s: try fewer feeds."
            ) from error


class Up:
    """`moodline up` in a folder of its own, for the length of a `with` block."""

    def __init__(self, folder: Path, *, workers: int, fps: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "moodline", "up", "--no-browser"),
                *("--port", str(port), "--data-dir", str(folder), "--workers", str(workers)),
                *("--source", str(DEMO_CLIP)),
            ],
            # Set to nothing rather than left out: a `.env` would fill them in again.
            env={
                **os.environ,
                "REDIS_URL": "",
                "MEDIA_URL": "",
                "MOODLINE_PASSWORD": "",
                "MOODLINE_HOST": "127.0.0.1",
                "MOODLINE_FPS": str(fps),
            },
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Up:
        try:
            self._wait(self._answers, "come up")
            # The source that kept `up` from looking for a webcam, in a Redis of its own.
            for feed_id in self.counters():
                self.remove_feed(feed_id)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def add_feed(self, source: str, name: str) -> str:
        """Add a feed; its id."""
        body = {"source": source, "name": name}
        return str(self._ask("POST", "/api/feeds", json=body).json()["id"])

    def remove_feed(self, feed_id: str) -> None:
        self._ask("DELETE", f"/api/feeds/{feed_id}")

    def counters(self) -> dict[str, dict[str, Any]]:
        """What each feed tells of itself, by its id."""
        return {feed["id"]: feed for feed in self._ask("GET", "/api/feeds").json()}

    def wait_until_analysed(self, feeds: int) -> None:
        def analysed() -> bool:
            rows = self.counters().values()
            return len(rows) == feeds and all(row["analysed"] for row in rows)

        self._wait(analysed, "analyse its feeds")

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of each role's processes so far, children included."""
        spent: dict[str, float] = {}
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                words, times = process.cmdline(), process.cpu_times()
            except psutil.Error:
                continue
            role = next(
                (r for r in ("redis-server", "capture", "worker", "web") if _plays(words, r)),
                "other",
            )
            spent[role] = spent.get(role, 0.0) + times.user + times.system
        return spent

    def _answers(self) -> bool:
        try:
            return bool(self.counters())
        except MoodlineError:
            return False

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """The answer to a request; raises MoodlineError where it is none, or a refusal."""
        try:
            answer = requests.request(method, self.address + path, timeout=_ANSWER_S, **options)
        except requests.RequestException as error:
            raise MoodlineError(f"The web process did not answer ({error}).") from error
        if not answer.ok:
            raise MoodlineError(f"The web process refused {method} {path}: {answer.text}")
        return answer

    def _wait(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise MoodlineError(
                    f"Moodline did not {what} within {_START_TIMEOUT_S:g} s: "
                    "run `moodline up` to see why."
                )
            time.sleep(0.2)


def _plays(words: list[str], role: str) -> bool:
    """Whether a command line is one of that role; Redis writes its whole own into one word."""
    return any(word.split("-feed")[0] == role or f"/{role} " in f"{word} " for word in words)
