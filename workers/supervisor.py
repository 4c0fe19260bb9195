"""Keep child processes running: start them, restart those that die, stop them all in order.

Each child runs in a session of its own, so that Ctrl-C on the terminal reaches the supervisor
alone, which then stops the children the other way round: the last added first. A child that dies
is started again, at once the first time, then after growing pauses. Stopping takes `grace_s` at
most: who has not ended by then is killed, with its own children. Where the supervisor itself is
killed, Linux ends its children.

Not here: which processes there are (the command line knows), and one machine watching another.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

_log = structlog.get_logger(__name__)

_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0)
_STEADY_S = 10.0  # who has run for so long starts again without a pause


@dataclass
class _Child:
    role: str
    command: Sequence[str]
    process: subprocess.Popen[bytes]
    started_at: float
    deaths: int = 0
    start_at: float | None = None  # set while dead: when to start again


@dataclass
class Supervisor:
    """Holds children by role. One thread uses it; times are `time.monotonic` seconds."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    on_death: Callable[[str, int], None] | None = None
    _children: list[_Child] = field(default_factory=list)

    def add(self, role: str, command: Sequence[str]) -> None:
        """Start a child. `role` is unique among the children."""
        self._children.append(_Child(role, command, self._start(command), time.monotonic()))

    def pids(self) -> dict[str, int]:
        """The process of each role that runs now."""
        return {
            child.role: child.process.pid
            for child in self._children
            if child.process.poll() is None
        }

    def turn(self) -> None:
        """Look at every child once; start again those whose time has come."""
        now = time.monotonic()
        for child in self._children:
            if child.start_at is None and (code := child.process.poll()) is not None:
                # What it left behind must not hold a port or a camera against its successor.
                _signal_group(child.process, signal.SIGKILL)
                if now - child.started_at > _STEADY_S:
                    child.deaths = 0
                child.start_at = now + _PAUSES_S[min(child.deaths, len(_PAUSES_S) - 1)]
                child.deaths += 1
                _log.warning("a process ended", child=child.role, exit_code=code)
                if self.on_death is not None:
                    self.on_death(child.role, code)
            if child.start_at is not None and now >= child.start_at:
                child.process = self._start(child.command)
                child.started_at, child.start_at = now, None

    def run(self, stopping: Callable[[], bool], *, pause_s: float = 0.1) -> None:
        """Supervise until `stopping()`."""
        while not stopping():
            self.turn()
            time.sleep(pause_s)

    def stop(self, grace_s: float = 4.0, *, last: Sequence[str] = ()) -> None:
        """End all children; those of the roles in `last` only after the others."""
        deadline = time.monotonic() + grace_s
        others = [child for child in self._children if child.role not in last]
        for group in (others, [child for child in self._children if child.role in last]):
            for child in reversed(group):
                if child.process.poll() is None:
                    child.process.terminate()
            for child in group:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _log.warning("a process did not end in time and is killed", child=child.role)
                _signal_group(child.process, signal.SIGKILL)
                child.process.wait()
        self._children.clear()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - the supervisor has one thread
        )


# Looked up before any fork: between fork and exec nothing may be imported or loaded.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Ask the kernel to send this process SIGTERM when its parent dies: see prctl(2)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal a child and whatever it has started itself."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return
