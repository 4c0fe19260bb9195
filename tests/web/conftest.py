"""A web server as it is run, its client, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect, sync_playwright

from shared.bus import Bus
from shared.config import PROJECT_DIR, Settings
from shared.jobs import Jobs
from shared.media import Media
from shared.videos import Videos
from web import close_app, create_app

PASSWORD = "pa55 wörd"
DEMO = PROJECT_DIR / "workers" / "demo" / "demo.mp4"
# Two browsers on two busy cores now and then need more than Playwright's 5 s to show something;
# what has to be quick says so where it is tested.
expect.set_options(timeout=10_000)
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Server:
    """A web server in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def settings(tmp_path: Path, **values: object) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path / "data", **values)  # type: ignore[arg-type]


@pytest.fixture
def client(bus: Bus, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of the application without a password."""
    app = create_app(settings(tmp_path), bus)
    yield app.test_client()
    close_app(app)


@pytest.fixture
def videos(client: FlaskClient, bus: Bus, tmp_path: Path) -> Iterator[Videos]:
    """The videos that `client` speaks of, as a worker sees them."""
    kept = Videos(bus.url, Media(settings(tmp_path).media_address), Jobs(bus.url))
    yield kept
    kept.close()


def start(redis_url: str, data_dir: Path, port: int = 0, **environment: str) -> Server:
    """Start a web server as `moodline up` does, with further settings from the environment."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moodline", "web", "--port", str(port)],
        env={
            **os.environ,
            "REDIS_URL": redis_url,
            "MOODLINE_DATA_DIR": str(data_dir),
            **environment,
        },
        cwd=PROJECT_DIR,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process, port)
    wait_until(lambda: _answers(server) or process.poll() is not None, 15)
    assert process.poll() is None, process.stderr and process.stderr.read()
    return server


@pytest.fixture(scope="package")
def server(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A web server for all tests here that leave it running.

    It ends with them: others share its Redis, and it clears up browsers' feeds that nobody owns.
    """
    server = start(redis_url, tmp_path_factory.mktemp("web"))
    yield server
    stop(server.process)


@pytest.fixture
def start_server(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts web servers for one test; settings are given as environment variables."""
    running: list[Server] = []

    def start_one(port: int = 0, **environment: str) -> Server:
        running.append(start(redis_url, tmp_path / "data", port, **environment))
        return running[-1]

    yield start_one
    for server in running:
        stop(server.process)


@pytest.fixture
def own_server(start_server: Callable[..., Server], bus: Bus) -> Server:
    """A web server that a test may end."""
    return start_server()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("no Chromium: install it (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser said against the page, its policy included."""
    return []


@pytest.fixture
def open_page(browser: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    context = browser.new_context()  # each test its own cookies and storage
    lost: list[str] = []

    def open_one(url: str, *, width: int = 1280, height: int = 800) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: lost.append(f"{request.url}: {request.failure}"))
        page.goto(url)
        return page

    yield open_one
    sys.stdout.write(f"The browser complained {complaints}, and lost {lost}")  # where a test fails
    context.close()


def form_of(data: bytes, name: str = "clip.mp4", **fields: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with one file, named as browsers name it."""
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    parts = [f'Content-Disposition: form-data; name="{n}"\r\n\r\n{v}' for n, v in fields.items()]
    file = f'Content-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
    head = "".join(f"--moodline\r\n{part}\r\n" for part in parts) + f"--moodline\r\n{file}"
    body = head.encode("utf-8", "surrogatepass") + data + b"\r\n--moodline--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=moodline"}


def stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stderr:
        process.stderr.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
