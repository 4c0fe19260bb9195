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
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that ends a process when the one that began it ends
_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def are_safe() -> bool:
    """Whether this process may be forked now: nothing runs in it but who asks."""
    try:
        return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False  # nobody can tell


@contextlib.contextmanager
def signals_kept_back() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C wait until the block ends, or until what is given here is called.

    PyAV drops what is raised while it asks for bytes, and a library that is being loaded makes an
    ImportError of it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_OUTSIDE)

    def let_in() -> None:
        if signal.sigpending():
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_OUTSIDE)

    try:
        yield let_in
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(work: Callable[..., object], *args: object) -> BaseProcess:
    """Start a process that does some work, and ends with this one where that ends in order.

    Ctrl-C and a terminal that closes reach this process alone, which then ends the other one.
    Raises MoodlineError where the system gives no further process.
    """
    process = get_context("fork").Process(target=_apart, args=(work, *args), daemon=True)
    try:
        with signals_kept_back():
            process.start()
    except OSError as error:
        raise no_process(error) from error
    return process


def no_process(error: OSError) -> MoodlineError:
    """What to tell where the system gives no further process."""
    return MoodlineError(
        f"No further process can be started ({error.strerror or error}): "
        "end others, or give fewer --workers."
    )


def _apart(work: Callable[..., object], *args: object) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # forgets one that came before: it was not meant
    for number in _FROM_OUTSIDE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FROM_OUTSIDE)
    work(*args)


@contextlib.contextmanager
def aside(ask: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Have something found out by a fork, where one can be had; give what waits for the answer.

    The waiting raises what went wrong there. The fork ends with this process, even if it is killed.
    """
    begun = None
    ours, theirs = Pipe(duplex=False)
    with ours:
        with theirs, contextlib.suppress(MoodlineError):
            begun = begin(_answer, ask, ours, theirs, os.getpid()) if are_safe() else None
        if begun is None:
            yield ask
            return
        process = begun

        def answer() -> T:
            try:
                told: tuple[T] | MoodlineError = ours.recv()
            except (EOFError, OSError):  # what went wrong there shows here
                return ask()
            process.join()
            if isinstance(told, MoodlineError):
                raise told
            return told[0]

        try:
            yield answer
        finally:
            process.kill()  # whatever it keeps back: nobody waits for the answer any more
            process.join()


def _answer(ask: Callable[[], object], theirs: Connection, own: Connection, asker_pid: int) -> None:
    import ctypes  # noqa: PLC0415 - this process has time, the other one waits for its libraries

    theirs.close()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != asker_pid:
        return  # it was too late for that
    with contextlib.suppress(Exception):
        try:
            told: object = (ask(),)
        except MoodlineError as error:
            told = error
        own.send(told)
