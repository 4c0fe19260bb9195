"""deploy/nginx: Debian's nginx in front of two real web processes, over TLS."""

from __future__ import annotations

import itertools
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.live import ordered_client
from shared.bus import Bus
from shared.config import PROJECT_DIR
from tests import builders, machines
from tests.machines import wait_until
from tests.web.conftest import DEMO, PASSWORD, Server, start, stop
from tests.web.studio import Studio

CONF = PROJECT_DIR / "deploy" / "nginx" / "moodline.conf"


@dataclass
class Client:
    """A page or program that watches a feed, and does so again after its connection broke."""

    session: requests.Session
    transport: str
    frames: int = 0
    connects: int = 0
    socket: Any = field(init=False)

    def connect(self, base: str) -> None:
        self.socket = ordered_client(
            http_session=self.session, reconnection_delay=0.2, reconnection_delay_max=0.5
        )
        self.socket.on("connect", self._on_connect)
        self.socket.on("frame", self._on_frame)
        self.socket.connect(base, transports=[self.transport])

    def _on_connect(self) -> None:
        self.connects += 1
        self.socket.emit("watch", {"feed": "cam"})

    def _on_frame(self, _meta: object, _jpeg: bytes) -> bool:
        self.frames += 1
        return True


@dataclass
class Site:
    """`plain` is the same door without TLS: Python's TLS sockets cannot be read and written at once
    by two threads (CPython issue 124984), which is what its Socket.IO client does."""

    base: str
    plain: str
    ca: Path
    servers: list[Server]

    def session(self, base: str) -> requests.Session:
        """A browser, as far as cookies and certificates go, that has logged in."""
        session = requests.Session()
        session.trust_env = False  # or a bundle of this machine would take the place of ours
        session.verify = str(self.ca)
        page = {"Accept": "text/html"}
        answer = session.post(f"{base}/login", data={"password": PASSWORD}, headers=page, timeout=5)
        assert answer.status_code == 200
        return session

    def clients_of(self, server: Server) -> float:
        """Socket.IO clients that one web process has."""
        answer = requests.get(
            f"{server.url}/metrics",
            headers={"Authorization": f"Bearer {PASSWORD}".encode()},
            timeout=5,
        )
        line = next(x for x in answer.text.splitlines() if x.startswith("moodline_web_clients "))
        return float(line.split()[1])


@pytest.fixture
def site(bus: Bus, tmp_path: Path) -> Iterator[Site]:
    nginx = machines.require("nginx", "nginx-light")
    machines.certificates(tmp_path, "127.0.0.1")
    port, plain = machines.free_port(), machines.free_port()
    with ExitStack() as running:
        servers = []
        for name in ("one", "two"):
            servers.append(
                start(
                    bus.url,
                    tmp_path / name,
                    MOODLINE_PASSWORD=PASSWORD,
                    MOODLINE_SESSION_KEY="k" * 32,
                    MOODLINE_TRUSTED_PROXIES="127.0.0.1",
                    MEDIA_URL=str(tmp_path / "media"),
                )
            )
            running.callback(stop, servers[-1].process)
        text = CONF.read_text()
        for old, new in {
            "127.0.0.1:8471": f"127.0.0.1:{servers[0].port}",
            "127.0.0.1:8472": f"127.0.0.1:{servers[1].port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl; listen 127.0.0.1:{plain}",
            "listen 80": f"listen 127.0.0.1:{machines.free_port()}",
            "/etc/ssl/moodline.pem": str(tmp_path / "server.pem"),
            "/etc/ssl/moodline.key": str(tmp_path / "server.key"),
        }.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "moodline.conf").write_text(text)
        paths = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; events {{}}\n"
            f"http {{ access_log off; {paths} include {tmp_path}/moodline.conf; }}\n"
        )
        command = [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        running.enter_context(machines.process(command, tmp_path / "nginx.log"))
        addresses = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{plain}"
        found = Site(*addresses, tmp_path / "ca.pem", servers)

        def answers() -> bool:
            try:
                requests.get(f"{found.base}/healthz", verify=str(found.ca), timeout=2)
            except requests.ConnectionError:
                return False
            return True

        wait_until(answers, 10, "nginx")
        yield found


def test_a_login_counts_at_both_and_cookies_are_for_tls_alone(site: Site) -> None:
    session = site.session(site.base)
    cookies = {cookie.name: cookie for cookie in session.cookies}
    assert cookies["moodline_session"].secure
    assert cookies["moodline_route"].value
    for server in site.servers:
        seen = {"Cookie": f"moodline_session={cookies['moodline_session'].value}"}
        assert requests.get(f"{server.url}/api/feeds", headers=seen, timeout=5).status_code == 200
    # More than the megabyte that nginx takes by default: the demo with empty space at its end.
    space = 3 * 1024 * 1024
    film = DEMO.read_bytes() + space.to_bytes(4, "big") + b"free" + bytes(space - 8)
    answer = session.post(f"{site.base}/api/videos", files={"file": ("film.mp4", film)}, timeout=20)
    assert answer.status_code == 202


def test_clients_of_a_killed_web_process_go_on_at_the_other(site: Site, bus: Bus) -> None:
    studio = Studio(bus, [builders.feed("cam")])
    ended = threading.Event()

    def film() -> None:
        while not ended.wait(0.1):
            studio.turn()

    filming = threading.Thread(target=film)
    filming.start()
    clients: list[Client] = []
    try:
        # Who is served where is nginx's to choose: as many as it takes for both to have some.
        for transport in itertools.islice(itertools.cycle(["polling", "websocket"]), 24):
            clients.append(Client(site.session(site.plain), transport))
            clients[-1].connect(site.plain)
            if len(clients) >= 6 and all(site.clients_of(each) >= 2 for each in site.servers):
                break
        assert all(site.clients_of(each) >= 1 for each in site.servers)
        wait_until(lambda: all(each.frames > 2 for each in clients), 10, "frames for all")
        assert {each.connects for each in clients} == {1}

        moved = site.clients_of(site.servers[0])
        site.servers[0].process.send_signal(signal.SIGKILL)
        wait_until(
            lambda: sum(each.connects for each in clients) >= len(clients) + moved,
            15,
            "clients of the killed process connecting anew",
        )
        before = [each.frames for each in clients]
        wait_until(
            lambda: all(each.frames > n + 2 for each, n in zip(clients, before, strict=True)),
            10,
            "frames for all from one process",
        )
        assert site.clients_of(site.servers[1]) == len(clients)
        # Those that were at the other process noticed nothing.
        assert sum(each.connects == 1 for each in clients) == len(clients) - moved
    finally:
        for each in clients:
            each.socket.disconnect()
        ended.set()
        filming.join()
