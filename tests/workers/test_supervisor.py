"""The supervisor, with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.supervisor import Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def turn_until(supervisor: Supervisor, condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        supervisor.turn()
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_child_is_replaced() -> None:
    deaths = []
    supervisor = Supervisor(on_death=lambda role, code: deaths.append((role, code)))
    supervisor.add("sleeper", SLEEP)
    before = supervisor.pids()["sleeper"]
    os.kill(before, signal.SIGKILL)
    turn_until(supervisor, lambda: supervisor.pids().get("sleeper", before) != before)
    assert deaths == [("sleeper", -signal.SIGKILL)]
    supervisor.stop()


def test_a_child_that_fails_at_once_is_started_again_ever_more_slowly(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    supervisor = Supervisor({**os.environ, "LOG": str(log)})
    supervisor.add(
        "failing",
        [sys.executable, "-S", "-c", "import os; open(os.environ['LOG'], 'a').write('x')"],
    )
    started = time.monotonic()
    while time.monotonic() - started < 2.0:
        supervisor.turn()
        time.sleep(0.02)
    supervisor.stop()
    assert 2 <= len(log.read_text()) <= 4  # at 0 s, at once again, after 0.5 s, after 1 s


def test_stopping_ends_all_also_those_that_do_not_listen() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
    supervisor = Supervisor()
    supervisor.add("deaf", [sys.executable, "-c", f"{deaf}; time.sleep(60)"])
    supervisor.add("sleeper", SLEEP)
    pids = supervisor.pids().values()
    time.sleep(0.5)
    started = time.monotonic()
    supervisor.stop(grace_s=1.0)
    assert time.monotonic() - started < 10
    assert not any(map(is_alive, pids))


def test_a_killed_childs_own_children_do_not_stay_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = (
        "import subprocess, sys, time, pathlib;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); time.sleep(60)"
    )
    supervisor = Supervisor()
    supervisor.add("parent", [sys.executable, "-c", parent])
    turn_until(supervisor, lambda: note.exists() and note.read_text() != "")
    grandchild = int(note.read_text())
    os.kill(supervisor.pids()["parent"], signal.SIGKILL)
    turn_until(supervisor, lambda: not _running(grandchild))
    supervisor.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of it")
def test_children_end_when_the_supervisor_itself_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from workers.supervisor import Supervisor\n"
        "supervisor = Supervisor()\n"
        f"supervisor.add('sleeper', {SLEEP!r})\n"
        "print(supervisor.pids()['sleeper'], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _running(child)
        parent.kill()
        deadline = time.monotonic() + 5
        while _running(child):
            assert time.monotonic() < deadline, "the child outlives its supervisor"
            time.sleep(0.02)


def _running(pid: int) -> bool:
    """Whether a process that is not ours to reap still does anything (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_is_last_is_stopped_after_the_others(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def noisy(name: str) -> list[str]:
        code = (
            "import signal, sys, time\n"
            "def stop(*_):\n"
            f"    open({str(order)!r}, 'a').write({name!r})\n"
            "    time.sleep(0.2)\n"
            "    sys.exit()\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            f"open({str(tmp_path / name)!r}, 'w').close()\n"
            "time.sleep(60)\n"
        )
        return [sys.executable, "-c", code]

    supervisor = Supervisor()
    for name in ("redis", "a", "b"):
        supervisor.add(name, noisy(name))
    turn_until(supervisor, lambda: all((tmp_path / n).exists() for n in ("redis", "a", "b")))
    supervisor.stop(last=["redis"])
    assert order.read_text().endswith("redis")
