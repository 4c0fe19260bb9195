from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import socketio

from shared.bus import Bus
from shared.config import PROJECT_DIR
from tests import builders
from tests.web.conftest import DEMO, Server, form_of, wait_until
from tests.web.studio import Studio


def run_web(redis_url: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moodline", "web", *options],
        env={**os.environ, "REDIS_URL": redis_url, "MOODLINE_DATA_DIR": str(tmp_path)},
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_ends_promptly_whoever_is_connected(own_server: Server, bus: Bus) -> None:
    with Studio(bus, [builders.feed()]):
        wait_until(lambda: bus.latest("cam"))
        viewer = socketio.Client(reconnection=False)
        viewer.connect(own_server.url)
        polling = socketio.Client(reconnection=False)
        polling.connect(own_server.url, transports=["polling"])
        idle = socket.create_connection(("127.0.0.1", own_server.port))
        stuck = socket.create_connection(("127.0.0.1", own_server.port))
        stuck.sendall(b"GET /api/feeds/cam/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with closing(idle), closing(stuck):
            viewer.call("watch", {"feed": "cam"})
            time.sleep(0.5)
            own_server.process.send_signal(signal.SIGTERM)
            assert own_server.process.wait(3) == 0
        viewer.disconnect()
        polling.disconnect()
    assert own_server.process.stderr is not None
    assert own_server.process.stderr.read() == ""


def test_it_is_one_process(own_server: Server) -> None:
    assert psutil.Process(own_server.process.pid).children() == []


def test_an_interrupt_ends_it_too(own_server: Server) -> None:
    own_server.process.send_signal(signal.SIGINT)
    assert own_server.process.wait(3) == 0


def test_a_killed_one_gives_its_port_back(
    own_server: Server, redis_url: str, tmp_path: Path
) -> None:
    own_server.process.kill()
    own_server.process.wait()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", own_server.port))


def test_it_does_not_tell_its_version(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/healthz") as answer:
        assert not any(character.isdigit() for character in answer.headers.get("Server", ""))


def test_a_taken_port_is_one_line_with_the_remedy(
    server: Server, redis_url: str, tmp_path: Path
) -> None:
    ended = run_web(redis_url, tmp_path, "--port", str(server.port))
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1:{server.port}" in ended.stderr
    assert "another" in ended.stderr


def test_a_strange_host_is_one_line_too(redis_url: str, tmp_path: Path) -> None:
    ended = run_web(redis_url, tmp_path, "--host", "127.0.0.1.nowhere.invalid")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "password" in ended.stderr  # it may reach beyond this machine


def test_it_refuses_to_be_open_to_others(redis_url: str, tmp_path: Path) -> None:
    ended = run_web(redis_url, tmp_path, "--host", "0.0.0.0")
    assert ended.returncode == 1
    assert "MOODLINE_PASSWORD" in ended.stderr


@pytest.mark.slow
def test_a_player_that_pauses_is_let_go_without_noise(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    server = start_server()
    # A film larger than what the kernel holds for a client; players read the rest later.
    body, headers = form_of(DEMO.read_bytes() + bytes(20_000_000))
    request = urllib.request.Request(f"{server.url}/api/videos", body, headers)
    with urllib.request.urlopen(request) as answer:
        path = f"{answer.headers['Location']}/source"
    with socket.create_connection(("127.0.0.1", server.port)) as paused:
        paused.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: _connections(server) == 1)
        wait_until(lambda: _connections(server) == 0, 40)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) == 0
    assert server.process.stderr is not None
    assert server.process.stderr.read() == ""


def _connections(server: Server) -> int:
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in found)


def test_a_client_that_takes_nothing_costs_no_memory(
    start_server: Callable[..., Server], bus: Bus
) -> None:
    server = start_server()
    process = psutil.Process(server.process.pid)
    with Studio(bus, [builders.feed()], fps=60):
        wait_until(lambda: bus.latest("cam"))
        stuck = []
        for _ in range(10):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(
                b"GET /api/feeds/cam/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            stuck.append(connection)
        time.sleep(2)
        before = process.memory_info().rss
        time.sleep(4)  # 10 readers x 60 pictures a second x 8 kB: 20 MB, were they queued
        assert process.memory_info().rss - before < 4_000_000
        for connection in stuck:
            connection.close()
