"""What a fork of this process finds out, where there is none, and signals that wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from shared.config import PROJECT_DIR
from shared.errors import ConfigError
from workers import forks

# Tests run beside threads, of which a fork knows nothing: these start from a process of their own.
_BEGIN = "import os, signal, sys, time\nfrom workers import forks\nassert forks.are_safe()\n"
needs_forks = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


def run(script: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.fixture
def thread() -> Iterator[None]:
    """Something that runs in this process."""
    over = threading.Event()
    running = threading.Thread(target=over.wait)
    running.start()
    yield
    over.set()
    running.join()


@needs_forks
def test_the_answer_comes_from_another_process_that_is_gone_then() -> None:
    out, _ = run(
        "with forks.aside(os.getpid) as answer:\n"
        "    told = answer()\n"
        "    assert told != os.getpid()\n"
        "    try: os.kill(told, 0)\n"
        "    except ProcessLookupError: print('gone')\n"
    )
    assert out == "gone\n"


@needs_forks
def test_what_goes_wrong_there_is_raised_here_and_says_nothing_else() -> None:
    out, err = run(
        "from shared.errors import ConfigError\n"
        "asked = os.getpid()\n"
        "def ask():\n"
        "    assert os.getpid() != asked\n"  # once is enough
        "    raise ConfigError('PORT must be a number.')\n"
        "with forks.aside(ask) as answer:\n"
        "    try: answer()\n"
        "    except ConfigError as error: print(error)\n"
    )
    assert (out, err) == ("PORT must be a number.\n", "")


@needs_forks
def test_an_answer_nobody_waits_for_is_given_up() -> None:
    run(
        "def ask():\n"
        "    with forks.signals_kept_back(): time.sleep(60)\n"
        "with forks.aside(ask): time.sleep(0.2)\n"
    )


@needs_forks
def test_who_is_killed_leaves_nobody_that_still_finds_out() -> None:
    script = (
        "with forks.aside(lambda: time.sleep(60)):\n"
        "    time.sleep(0.5)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The output that both write to is at its end when both have ended.
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script],
        cwd=PROJECT_DIR,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


@needs_forks
def test_an_answer_that_breaks_off_is_found_out_here() -> None:
    out, _ = run(
        "asked = os.getpid()\n"
        "def ask():\n"
        "    if os.getpid() == asked: return 'here'\n"
        "    import threading\n"
        "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "    return 'x' * 10_000_000\n"  # more than a pipe holds: it is killed while it sends
        "from multiprocessing import active_children\n"
        "with forks.aside(ask) as answer:\n"
        "    while active_children(): time.sleep(0.01)\n"
        "    print(answer())\n"
    )
    assert out == "here\n"


@needs_forks
def test_ctrl_c_reaches_the_one_that_began_alone() -> None:
    out, err = run(
        "signal.signal(signal.SIGINT, lambda *_: print('here'))\n"
        "os.setsid()\n"
        "def ask():\n"
        "    time.sleep(0.3)\n"
        "    return os.getpid()\n"
        "with forks.aside(ask) as answer:\n"
        "    time.sleep(0.1)\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "    print('there' if answer() != os.getpid() else 'asked here')\n"
    )
    assert (out.split(), err) == (["here", "there"], "")


def test_beside_a_thread_it_is_asked_here(thread: None) -> None:
    assert not forks.are_safe()
    with forks.aside(os.getpid) as answer:
        assert answer() == os.getpid()


def test_beside_a_thread_an_error_is_raised_by_the_waiting(thread: None) -> None:
    def ask() -> int:
        raise ConfigError("PORT must be a number.")

    with forks.aside(ask) as answer, pytest.raises(ConfigError, match="PORT"):
        answer()


@needs_forks
@pytest.mark.parametrize("fork", ["fork", "fails"])
def test_no_signal_stays_held_back(fork: str) -> None:
    out, _ = run(
        "fork = os.fork\n"
        "def fails(): raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        f"os.fork = {fork}\n"
        "def ask(): return signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "with forks.aside(ask) as answer: print(answer(), ask())\n"
    )
    assert out == "set() set()\n"


def test_ctrl_c_waits_until_it_is_let_in_or_the_block_ends() -> None:
    with forks.signals_kept_back() as let_in:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            let_in()
        let_in()  # once is enough
    waited = False
    with pytest.raises(KeyboardInterrupt), forks.signals_kept_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        waited = True
    assert waited
