"""Processes that begin as this one is: what is loaded here is loaded there, and in memory once.

Only where nothing else runs in this process: a thread that holds a lock when another process begins
holds it there for ever. So neither LiteRT nor OpenCV may have threads by then. On other systems
than Linux the system's own libraries do not bear it; there processes have to start anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from shared.errors import MoodlineError

T = TypeVar("T")
_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def are_safe() -> bool:
    """Whether this process may be forked now: nothing runs in it but who asks."""
    return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1


def begin(work: Callable[..., object], *args: object) -> BaseProcess:
    """Start a process that does some work, and ends with this one where that ends in order.

    Ctrl-C and a terminal that closes reach this process alone, which then ends the other one.
    Raises MoodlineError where the system gives no further process.
    """
    process = get_context("fork").Process(target=_apart, args=(work, *args), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_OUTSIDE)
    try:
        process.start()
    except OSError as error:
        raise no_process(error) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def no_process(error: OSError) -> MoodlineError:
    """What to tell where the system gives no further process."""
    return MoodlineError(
        f"No further process can be started ({error.strerror or error}): "
        "end others, or give fewer --workers."
    )


def _apart(work: Callable[..., object], *args: object) -> None:
    os.setsid()
    for number in _FROM_OUTSIDE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FROM_OUTSIDE)
    work(*args)


@contextlib.contextmanager
def aside(ask: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Have something found out by a fork, where one is safe; give what waits for the answer.

    What goes wrong there goes wrong here once more, and is raised by the waiting.
    """
    if not are_safe():
        yield ask
        return
    ours, theirs = Pipe(duplex=False)
    process = begin(_answer, ask, ours, theirs)
    theirs.close()

    def answer() -> T:
        try:
            told: T = ours.recv()
        except EOFError:
            return ask()
        process.join()
        return told

    try:
        yield answer
    finally:
        process.terminate()
        process.join()
        ours.close()


def _answer(ask: Callable[[], object], theirs: Connection, own: Connection) -> None:
    theirs.close()
    with contextlib.suppress(Exception):
        own.send(ask())
