"""The command line: what it says to mistakes, and the whole of Moodline started, hurt and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from bench.live import ordered_client
from moodline import _unregister
from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.schema import Feed
from shared.source import Source


def moodline(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moodline", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {within_s} s in vain for {what}"
        time.sleep(0.1)
    return value


class Running:
    """A `moodline up` of the test's own."""

    def __init__(self, data_dir: Path, *options: str, **environment: str) -> None:
        self.port = free_port()
        self.data_dir = data_dir
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "moodline", "up", "--no-browser"),
                    *("--port", str(self.port), "--data-dir", str(data_dir)),
                    *options,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def children(self, role: str) -> list[psutil.Process]:
        """The processes of a role, the parents first."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if any(word == role or f"/{role} " in f"{word} " for word in words):
                    found.append(process)
        return found

    def feeds(self) -> list[dict[str, Any]]:
        try:
            answer = requests.get(f"{self.address}/api/feeds", timeout=5)
            return list(answer.json()) if answer.status_code == 200 else []
        except (requests.RequestException, ValueError):
            return []

    def analysed_since(self, since: float) -> bool:
        """Whether every feed has a result captured after `since`."""
        feeds = self.feeds()
        for feed in feeds:
            with contextlib.suppress(requests.RequestException, ValueError):
                reply = requests.get(
                    f"{self.address}/api/feeds/{feed['id']}/timeline?seconds=5", timeout=5
                ).json()
                times = [point[0] for track in reply["tracks"] for point in track["points"]]
                if times and max(times) > since:
                    continue
            return False
        return bool(feeds)

    def stop(self, number: int = signal.SIGINT) -> float:
        """End it; return the seconds it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers on the demo."""
    run = Running(tmp_path_factory.mktemp("up") / "data", "--source", "demo")
    wait_for(lambda: run.analysed_since(0), 40, "the first analysed frame")
    yield run
    if run.process.poll() is None:
        run.stop()


@pytest.mark.parametrize(
    ("words", "environment", "code", "said"),
    [
        (["up", "--host", "0.0.0.0"], {}, 1, "MOODLINE_PASSWORD"),
        (["up"], {"MOODLINE_MODEL": "/nowhere"}, 1, "/nowhere"),
        (["up"], {"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, 1, "REDIS_URL"),
        (["up"], {"REDIS_URL": "nonsense"}, 1, "REDIS_URL"),
        (["up", "--source", ""], {}, 1, "source is empty"),
        (["up", "--source", "ftp://host/x"], {}, 1, "rtsp://"),
        (["up", "--port", "0"], {}, 2, "--port"),
        (["up"], {"MOODLINE_FPS": "fast"}, 1, "MOODLINE_FPS"),
        (["up", "--source", "me:secret@host/x"], {}, 1, "rtsp://"),
        (["up", "--data-dir", "/proc/nowhere"], {}, 1, "--data-dir"),
        (["feeds", "list"], {}, 1, "moodline up"),
        (["worker", "--queues", "lunch"], {}, 2, "live"),
    ],
)
def test_a_mistake_gets_one_clear_line_with_the_remedy(
    words: list[str], environment: dict[str, str], code: int, said: str, tmp_path: Path
) -> None:
    done = moodline(*words, MOODLINE_DATA_DIR=str(tmp_path / "data"), **environment)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = moodline("up", "--port", str(port), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr


def test_every_command_explains_itself() -> None:
    commands = [[], ["up"], ["capture"], ["worker"], ["web"], ["feeds"], ["settings"], ["health"]]
    for words in commands:
        done = moodline(*words, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage:" in done.stdout


def test_settings_say_where_each_value_came_from_and_mask_secrets(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moodline", "settings", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MOODLINE_PASSWORD": "hush", "MOODLINE_PORT": "9000"},
        check=True,
    )
    rows = {row["variable"]: row for row in json.loads(done.stdout)}
    assert (rows["MOODLINE_PORT"]["value"], rows["MOODLINE_PORT"]["origin"]) == (
        "9000",
        "environment",
    )
    assert rows["MOODLINE_PASSWORD"]["value"] == "***"
    assert rows["MOODLINE_HOST"]["origin"] == "default"
    assert all(row["help"] for row in rows.values())
    assert "hush" not in done.stdout


def test_a_second_start_says_that_one_runs(running: Running) -> None:
    done = moodline("up", "--data-dir", str(running.data_dir), "--port", str(free_port()))
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert str(running.process.pid) in done.stderr


def test_a_viewer_gets_frames_with_faces(running: Running) -> None:
    (feed,) = running.feeds()
    seen: list[tuple[dict[str, Any], bytes]] = []
    client = ordered_client()

    client.on("frame", lambda meta, jpeg: seen.append((meta, jpeg)))
    client.connect(running.address, transports=["websocket"])
    assert client.call("watch", {"feed": feed["id"]}) == {"ok": True}
    wait_for(lambda: len(seen) > 20, 10, "frames")
    client.disconnect()
    numbers = [meta["seq"] for meta, _ in seen]
    assert numbers == sorted(set(numbers))
    assert all(jpeg.startswith(b"\xff\xd8") for _, jpeg in seen)
    faces = [face for meta, _ in seen for face in meta["faces"]]
    assert len(faces) > len(seen) / 2
    assert all(abs(sum(face["scores"].values()) - 1) < 1e-3 for face in faces)
    assert len({face["track"] for face in faces}) == 1


def test_a_feed_of_a_command_line_goes_with_it_unless_somebody_has_changed_it(bus: Bus) -> None:
    plain, changed, removed = (
        Feed.new(Source.parse("demo"), fps=15, width=640, transient=True) for _ in range(3)
    )
    for feed in (plain, changed):
        bus.put_feed(feed)
    kept = bus.change_feed(changed.id, lambda feed: feed.changed(name="Hall"))
    _unregister(bus.url, [plain.id, changed.id, removed.id])
    assert bus.feeds() == [kept]


def test_feeds_are_listed_added_and_removed_from_the_command_line(running: Running) -> None:
    here = {"MOODLINE_DATA_DIR": str(running.data_dir)}
    added = moodline("feeds", "add", "rtsp://me:p@ss/w#rd@127.0.0.1:1/x", "--name", "Gate", **here)
    feed_id = added.stdout.strip()
    assert added.returncode == 0, added.stderr
    listed = moodline("feeds", "list", "--json", **here)
    assert [row["name"] for row in json.loads(listed.stdout)] == ["Demo", "Gate"]
    assert "p@ss" not in listed.stdout
    assert "w#rd" not in listed.stdout
    wait_for(
        lambda: any(f["id"] == feed_id and f["status"] != "starting" for f in running.feeds()),
        10,
        "the new feed's state",
    )
    for change in (("rename", "[/Yard]"), ("disable",), ("enable",), ("disable",)):
        command, *values = change
        assert moodline("feeds", command, feed_id, *values, **here).returncode == 0
        unknown = moodline("feeds", command, "nobody", *values, **here)
        assert (unknown.returncode, feed_id in unknown.stderr) == (1, True)
    now = json.loads(moodline("feeds", "list", "--json", **here).stdout)[-1]
    assert (now["name"], now["status"], now["error"]) == ("[/Yard]", "disabled", "")
    unfit = moodline("feeds", "rename", feed_id, " ", **here)
    assert (unfit.returncode, "1 to 80" in unfit.stderr) == (1, True)
    assert moodline("feeds", "remove", feed_id, **here).returncode == 0
    again = moodline("feeds", "remove", feed_id, **here)
    assert again.returncode == 1
    assert feed_id in again.stderr


@pytest.mark.parametrize("role", ["worker", "capture", "events", "web", "redis-server"])
def test_a_killed_part_is_replaced_and_the_feeds_go_on(running: Running, role: str) -> None:
    before = [feed["id"] for feed in running.feeds()]
    victim = running.children(role)[0]
    victim.kill()
    killed_at = time.time()
    wait_for(lambda: running.analysed_since(killed_at + 0.5), 15, f"feeds after {role} was killed")
    assert [feed["id"] for feed in running.feeds()] == before
    wait_for(lambda: any(p.pid != victim.pid for p in running.children(role)), 10, f"a new {role}")


def test_ctrl_c_ends_everything_and_leaves_no_process(running: Running) -> None:
    everyone = psutil.Process(running.process.pid).children(recursive=True)
    assert len(everyone) >= 5
    assert running.stop() < 6
    _, alive = psutil.wait_procs(everyone, timeout=1)
    assert alive == []
    assert running.process.returncode == 0
    assert "Traceback" not in running.log.read_text()


def test_the_same_source_twice_is_two_feeds_and_any_name_can_be_listed(tmp_path: Path) -> None:
    run = Running(tmp_path / "data", "--source", "demo", "--source", "demo", "--workers", "1")
    wait_for(run.feeds, 30, "the dashboard")
    here = {"MOODLINE_DATA_DIR": str(run.data_dir)}
    assert moodline("feeds", "add", "demo", "--name", "[/x]", **here).returncode == 0
    listed = moodline("feeds", "list", **here)
    assert listed.returncode == 0, listed.stderr
    assert "[/x]" in listed.stdout
    assert [feed["name"] for feed in run.feeds()] == ["Demo", "Demo", "[/x]"]
    run.stop()


def test_feeds_that_were_added_survive_a_restart_and_the_command_lines_do_not(
    tmp_path: Path,
) -> None:
    run = Running(tmp_path / "data", "--source", "demo", "--workers", "1")
    wait_for(run.feeds, 30, "the dashboard")
    requests.post(
        f"{run.address}/api/feeds",
        json={"source": str(PROJECT_DIR / "workers/demo/demo.mp4"), "name": "Kept"},
        timeout=5,
    ).raise_for_status()
    wait_for(lambda: "Kept" in (run.data_dir / "feeds.json").read_text(), 10, "the list on disk")
    run.stop()
    again = Running(tmp_path / "data", "--workers", "1")
    wait_for(again.feeds, 30, "the dashboard")
    assert [feed["name"] for feed in again.feeds()] == ["Kept"]
    again.stop(signal.SIGTERM)
