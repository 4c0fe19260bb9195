"""Real parts for tests: a Redis server of their own, a bus on it, and small pictures."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared import redis_server
from shared.bus import Bus
from shared.config import PROJECT_DIR

MATERIAL = PROJECT_DIR.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_this_machine() -> None:
    """Tests must not depend on the settings of whoever runs them."""
    for variable in list(os.environ):
        if variable.startswith(("MOODLINE_", "AWS_")) or variable in ("REDIS_URL", "MEDIA_URL"):
            del os.environ[variable]


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_children() -> None:
    """A shell that starts tests in the background has Ctrl-C ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _plain_log_lines() -> None:
    """Unconfigured, structlog paints tracebacks with all locals, which takes a second."""
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ]
    )


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server, started as `moodline up` starts it."""
    data_dir = tmp_path_factory.mktemp("redis")
    with subprocess.Popen(redis_server.command(data_dir)) as server:
        redis_server.wait_until_up(redis_server.url(data_dir))
        yield redis_server.url(data_dir)
        server.terminate()


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    """A bus on an empty Redis."""
    bus = Bus(redis_url)
    bus._redis.flushall()
    yield bus
    bus.close()


@pytest.fixture
def clips() -> Path:
    """The folder of clips with real faces beside the checkout; skips by name without it."""
    folder = MATERIAL / "clips"
    if not folder.is_dir():
        pytest.skip(f"no clips of real faces at {folder}")
    return folder
