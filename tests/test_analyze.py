"""`moodline analyze`: the same report however many processes, and nothing left behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.config import PROJECT_DIR, Settings
from shared.errors import SourceRefused
from shared.video import VideoOptions
from tests.workers import recordings
from tests.workers.conftest import portrait
from tests.workers.looped import looped
from workers import analysis, forks
from workers.sources import DEMO_CLIP
from workers.vision.detector import ImageBGR

__all__ = ["portrait"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where temporary files go; must be empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@contextmanager
def analyzing(folder: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "moodline", "analyze", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    ) as process:
        yield process


def analyze(folder: Path, *words: object) -> tuple[int, str, str]:
    """Exit status, output and error output."""
    with analyzing(folder, *words) as process:
        out, err = process.communicate(timeout=120)
    assert list(folder.iterdir()) == []
    return process.returncode, out, err


def crew(process: subprocess.Popen[Any], count: int) -> list[psutil.Process]:
    """The worker processes, once they all run."""
    deadline = time.monotonic() + 20
    while True:
        workers = []
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):
                # Unlike those that read the settings and plan they have it loaded.
                if any("litert" in place.path for place in child.memory_maps()):
                    workers.append(child)
        if len(workers) == count:
            return workers
        assert time.monotonic() < deadline, f"there are no {count} worker processes"
        time.sleep(0.02)


def first_processes(process: subprocess.Popen[Any], after_s: float) -> list[psutil.Process]:
    """The processes that it has so long after it began the first one, while it still loads."""
    while not psutil.Process(process.pid).children():
        time.sleep(0.001)
    time.sleep(after_s)
    return psutil.Process(process.pid).children()


@pytest.mark.parametrize("gop", [10, 150], ids=["many key frames", "one key frame"])
def test_any_number_of_processes_writes_the_same_files(
    folder: Path, tmp_path: Path, portrait: ImageBGR, gop: int
) -> None:
    clip = recordings.portrait_clip(
        tmp_path / "clip.mp4", portrait, lambda k: not 30 < k < 70, frames=150, gop=gop
    )
    for workers in (1, 3):
        words = [clip, "--workers", workers]
        for kind in ("json", "csv"):
            words += [f"--{kind}", tmp_path / f"{workers}.{kind}"]
        assert analyze(folder, *words) == (0, "", "")
    for kind in ("json", "csv"):
        one, three = (tmp_path / f"{workers}.{kind}" for workers in (1, 3))
        assert one.read_bytes() == three.read_bytes()
    results = json.loads((tmp_path / "1.json").read_text())
    assert results["video"]["name"] == "clip.mp4"
    assert results["video"]["frames_analysed"] == 150
    assert [row["t"] for row in results["frames"]] == recordings.frame_times(clip)
    with (tmp_path / "1.csv").open() as file:
        assert len(list(csv.DictReader(file))) == sum(len(r["faces"]) for r in results["frames"])


def test_without_a_file_to_write_it_says_who_is_there(folder: Path) -> None:
    status, out, err = analyze(folder, DEMO_CLIP, "--end", 2, "--fps", 5)
    assert (status, err) == (0, "")
    assert "demo.mp4: 10 frames, 1 person" in out
    assert "0.0 s" in out
    assert "neutral" in out


def test_a_part_at_fewer_frames_is_analysed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.json"
    words = ["--fps", 5, "--start", 3, "--end", 5, "--json", out]
    assert analyze(folder, DEMO_CLIP, *words)[0] == 0
    times = [row["t"] for row in json.loads(out.read_text())["frames"]]
    assert times == [pytest.approx(3 + k / 5, abs=1 / 15) for k in range(10)]
    assert set(times) <= set(recordings.frame_times(DEMO_CLIP))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere.mp4"], 1, "There is no file nowhere.mp4"),
        ([__file__], 1, f"{__file__}: This file is no video"),
        ([DEMO_CLIP, "--start", 1000], 1, "give an earlier start"),
        ([DEMO_CLIP, "--fps", "nan"], 2, "frames per second"),
        ([DEMO_CLIP, "--end", "inf"], 2, "an end after the start"),
        ([DEMO_CLIP, "--json", "/nowhere/a.json"], 1, "no folder /nowhere"),
        ([DEMO_CLIP, "--json", "same", "--csv", "same"], 2, "its own name"),
        ([DEMO_CLIP, "--csv", DEMO_CLIP], 2, "written over"),
        ([DEMO_CLIP, "--start", 5, "--end", 4], 2, "after the start"),
        ([DEMO_CLIP, "--fps", 0], 2, "--fps"),
        ([DEMO_CLIP, "--blur"], 2, "--annotated"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(
    folder: Path, words: list[object], status: int, said: str
) -> None:
    ended, out, err = analyze(folder, *words)
    assert (ended, out) == (status, "")
    assert said in err
    if status == 1:
        assert len(err.splitlines()) == 1
        assert err.startswith("moodline: ")


def test_what_is_no_plain_file_stays_what_it_is(tmp_path: Path) -> None:
    """`--json /dev/null`, run by root, must not put a file in the place of the device."""
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / ("n" * 250)
    os.mkfifo(pipe)
    link.symlink_to(target)
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(pipe.read_bytes()), daemon=True)
    listener.start()
    for path in (pipe, link):
        with analysis.written(path) as file:
            file.write(b"all of it")
    listener.join(10)
    assert heard == [b"all of it"]
    assert pipe.is_fifo()
    assert link.is_symlink()
    with analysis.written(target) as file:  # as long as names may be
        file.write(b"anew")
    assert link.read_bytes() == b"anew"
    assert sorted(tmp_path.iterdir()) == sorted([pipe, link, target])


def test_a_model_that_is_not_there_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOODLINE_MODEL", str(tmp_path))
    status, _, err = analyze(folder, DEMO_CLIP)
    assert status == 1
    assert err.startswith(f"moodline: {tmp_path} has no readable card.json")


def test_a_model_that_workers_cannot_load_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODLINE_YUNET_MODEL", "/nowhere.onnx")
    for _ in range(3):  # several workers find it out, each in its own time
        status, _, err = analyze(folder, DEMO_CLIP, "--workers", 2)
        assert status == 1
        assert err.startswith("moodline: there is no face detector at /nowhere.onnx")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.0, 0.8, 2.0])
def test_it_ends_at_once_and_leaves_nothing(
    folder: Path, tmp_path: Path, number: signal.Signals, after_s: float
) -> None:
    out = tmp_path / "out.json"
    clip = looped(DEMO_CLIP, tmp_path / "long.mp4", 20)  # some ten seconds of work
    with analyzing(folder, clip, "--workers", 2, "--json", out) as process:
        workers = crew(process, 2)
        time.sleep(after_s)
        os.killpg(process.pid, number)  # as a terminal does
        _, err = process.communicate(timeout=5)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert psutil.wait_procs(workers, timeout=1)[1] == []
    assert list(folder.iterdir()) == []
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_while_it_draws(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out.mp4"
    clip = looped(DEMO_CLIP, tmp_path / "long.mp4", 3)
    with analyzing(folder, clip, "--workers", 2, "--annotated", out) as process:
        while process.poll() is None and not list(tmp_path.glob(".moodline-*")):
            time.sleep(0.01)
        time.sleep(0.3)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=5)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []
    assert list(tmp_path.glob("*.mp4")) == [clip]
    assert not list(tmp_path.glob(".moodline-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
def test_it_ends_while_it_loads_and_its_processes_start(
    folder: Path, number: signal.Signals, after_s: float
) -> None:
    with analyzing(folder, DEMO_CLIP, "--workers", 2) as process:
        children = first_processes(process, after_s)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=5)
    assert (process.returncode, err.strip()) == (1, "Aborted!")
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.2, 0.3])
def test_nothing_stays_of_a_command_that_is_killed_while_it_loads(
    folder: Path, after_s: float
) -> None:
    with analyzing(folder, DEMO_CLIP, "--workers", 2) as process:
        children = first_processes(process, after_s)
        process.kill()
        assert psutil.wait_procs(children, timeout=10)[1] == []
    assert list(folder.iterdir()) == []


def test_where_temporary_files_go_is_found_out_before_a_process_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python tries a folder with a file, which stays there when the process is ended meanwhile.
    def aside(_: object) -> None:
        raise SourceRefused(f"with {tempfile.tempdir}")

    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # what the call changes
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(forks, "aside", aside)
    with (
        pytest.raises(SourceRefused, match=f"^with {folder}$"),
        analysis.analysed(DEMO_CLIP, VideoOptions(), Settings, progress=print),
    ):
        pass


def test_a_process_that_is_killed_is_an_error_and_no_hang(folder: Path) -> None:
    with analyzing(folder, DEMO_CLIP, "--workers", 2) as process:
        crew(process, 2)[0].kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "worker process ended" in err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("after_s", [0.0, 1.0])
def test_processes_end_with_the_one_that_started_them_and_tidy_up(
    folder: Path, tmp_path: Path, after_s: float
) -> None:
    clip = looped(DEMO_CLIP, tmp_path / "long.mp4", 20)
    with analyzing(folder, clip, "--workers", 2) as process:
        workers = crew(process, 2)
        time.sleep(after_s)
        process.kill()
        assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert list(folder.iterdir()) == []
    assert clip.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_stays_of_a_command_that_is_killed_when_its_workers_are_done(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    clip, copy = looped(DEMO_CLIP, tmp_path / "long.mp4", 4), tmp_path / "copy.mp4"
    with analyzing(folder, clip, "--workers", workers, "--annotated", copy) as process:
        while not list(tmp_path.glob(".moodline-*")):  # the copy is being written
            assert process.poll() is None
            time.sleep(0.02)
        children = psutil.Process(process.pid).children()
        (first,) = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        assert list(folder.iterdir())
        process.kill()
        first.wait(10)
    assert list(folder.iterdir()) == []


def test_a_single_worker_ends_with_the_one_that_started_it_and_tidies_up(
    folder: Path, tmp_path: Path
) -> None:
    clip = looped(DEMO_CLIP, tmp_path / "long.mp4", 20)
    with analyzing(folder, clip, "--workers", 1) as process:
        while not list(folder.glob("*/videos/*/segments")):  # at work
            assert process.poll() is None
            time.sleep(0.02)
        (worker,) = psutil.Process(process.pid).children()
        process.kill()
        worker.wait(10)
    assert list(folder.iterdir()) == []


def scripted(folder: Path, tmp_path: Path, fork: str, *words: object) -> tuple[int, str]:
    """`moodline analyze` with another `os.fork`, as `fork` says; exit status, error output."""
    script = tmp_path / "script.py"
    begin = "import os, moodline\nfork = os.fork\n"
    script.write_text(f"{begin}{fork}\nos.fork = forked\nmoodline.main()\n")
    done = subprocess.run(
        [sys.executable, script, "analyze", *map(str, words)],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(PROJECT_DIR)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert list(folder.iterdir()) == []
    return done.returncode, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_workers_are_forked_while_nothing_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that runs as a process is forked may hold a lock, for ever in the fork."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    counted = (
        "def forked():\n"
        "    threads = len(os.listdir('/proc/self/task'))\n"
        "    os.write(2, f'{threads} thread\\n'.encode())\n"
        "    return fork()"
    )
    status, err = scripted(folder, tmp_path, counted, DEMO_CLIP, "--workers", 3, "--end", 1)
    assert (status, err) == (0, 5 * "1 thread\n"), "one reads the settings, one plans, three work"


@pytest.mark.skipif(sys.platform != "linux", reason="by a limit that Linux has")
@pytest.mark.parametrize("room", [0, 4])
def test_a_system_that_gives_no_further_process_is_told_and_nothing_stays(
    folder: Path, tmp_path: Path, room: int
) -> None:
    """The limit binds nobody who may do everything, as in CI: the kernel's call is made to fail."""
    limited = (
        f"room = {room}\n"
        "def forked():\n"
        "    global room\n"
        "    room -= 1\n"
        "    if room < 0: raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "    return fork()"
    )
    assert scripted(folder, tmp_path, limited, DEMO_CLIP, "--workers", 4) == (
        1,
        "moodline: No further process can be started (Resource temporarily unavailable): "
        "end others, or give fewer --workers.\n",
    )


def test_where_it_cannot_fork_workers_start_anew_and_find_the_same(
    folder: Path, tmp_path: Path
) -> None:
    """As on other systems, or in a program that runs threads."""
    words = [DEMO_CLIP, "--end", 4, "--workers", 2, "--json"]
    assert analyze(folder, *words, tmp_path / "forked.json") == (0, "", "")
    beside_a_thread = (
        "import sys, threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "import moodline\n"
        "moodline.main()\n"
    )
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            beside_a_thread,
            "analyze",
            *map(str, words),
            tmp_path / "anew.json",
        ],
        env={**os.environ, "TMPDIR": str(folder)},
        cwd=PROJECT_DIR,
    ) as process:
        workers = crew(process, 2)
        assert all("workers.crew" in worker.cmdline() for worker in workers)
        assert process.wait(60) == 0
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert (tmp_path / "anew.json").read_bytes() == (tmp_path / "forked.json").read_bytes()
    assert list(folder.iterdir()) == []
