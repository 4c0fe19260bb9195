"""Cameras for tests: pictures that carry a number, clips of them, and servers that stream them."""

from __future__ import annotations

import base64
import contextlib
import functools
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from workers.jpeg import ImageBGR

SYSTEM_PYTHON = "/usr/bin/python3"
_BITS = 10
_RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")


def numbered(number: int, width: int = 640, height: int = 480) -> ImageBGR:
    """A picture with a number in large black and white fields along its top."""
    image_bgr = np.full((height, width, 3), 100, np.uint8)
    field = width // _BITS
    for bit in range(_BITS):
        image_bgr[: height // 4, bit * field : (bit + 1) * field] = 255 * (number >> bit & 1)
    return image_bgr


def decoded(jpeg: bytes) -> ImageBGR:
    image_bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image_bgr is not None
    return np.asarray(image_bgr, np.uint8)


def number_in(jpeg: bytes) -> int:
    """The number of the picture, whatever its size now."""
    image_bgr = decoded(jpeg)
    height, width = image_bgr.shape[:2]
    field = width / _BITS
    return sum(
        int(image_bgr[height // 8, int((bit + 0.5) * field), 1] > 128) << bit
        for bit in range(_BITS)
    )


def jpeg_of(image_bgr: ImageBGR, quality: int = 80) -> bytes:
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_clip(
    path: Path,
    times_s: Sequence[float],
    *,
    images: Callable[[int], ImageBGR] = numbered,
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
) -> Path:
    """An H.264 clip that shows numbered pictures at the given times."""
    first = images(0)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(
            "libx264", rate=30, options=encoder or {"preset": "ultrafast"}
        )
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 15
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, t_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(images(number), format="bgr24")
            frame.pts, frame.time_base = round(t_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A viewer that goes away is no error."""


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[int]:
    """Serve HTTP on a loopback port."""
    with _Server(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving_folder(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Serve the files of a folder; gives the port and the list of paths that were asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with serving(functools.partial(Handler, directory=str(folder)), 0) as port:  # type: ignore[arg-type]
        yield port, asked


class MjpegCamera:
    """An HTTP camera that sends numbered JPEG pictures, as many small IP cameras do."""

    def __init__(
        self,
        *,
        fps: float = 30.0,
        size_wh: tuple[int, int] = (640, 480),
        credentials: str = "",
        port: int = 0,
    ) -> None:
        self.sent: dict[int, bytes] = {}
        self.sent_at: dict[int, float] = {}
        self.paused = threading.Event()
        self.damaged = threading.Event()
        self._off = threading.Event()
        self._fps = fps
        self._size_wh = size_wh
        self._credentials = credentials
        self._port = port

    @contextlib.contextmanager
    def on(self) -> Iterator[int]:
        """Switch the camera on; gives its port."""
        self._off.clear()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                wanted = base64.b64encode(camera._credentials.encode()).decode()
                if camera._credentials and self.headers["Authorization"] != f"Basic {wanted}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                camera._stream(self)

        with serving(Handler, self._port) as port:
            self._port = port
            try:
                yield port
            finally:
                self._off.set()

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        started_at = time.monotonic()
        for number in range(2**_BITS):
            while self.paused.is_set() and not self._off.is_set():
                time.sleep(0.02)
            if self._off.is_set():
                return
            jpeg = jpeg_of(numbered(number, *self._size_wh))
            if self.damaged.is_set():
                jpeg = jpeg[:200]
            self.sent[number], self.sent_at[number] = jpeg, time.time()
            handler.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\n"
                + f"Content-Length: {len(jpeg)}\r\n\r\n".encode()
                + jpeg
                + b"\r\n"
            )
            time.sleep(max(0.0, started_at + number / self._fps - time.monotonic()))


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts and then says nothing."""
    gone = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            gone.wait(60)

    with serving(Handler) as port:
        yield port
        gone.set()


@contextlib.contextmanager
def abrupt_server(answer: bytes) -> Iterator[int]:
    """A server that reads a request, gives the answer (if any) and breaks off."""

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with serving(Handler) as port:
        yield port


def require_rtsp_server() -> None:
    """Skip the test by name where GStreamer's RTSP server is not installed."""
    probe = [SYSTEM_PYTHON, str(_RTSP_SERVER), "--probe"]
    found = Path(SYSTEM_PYTHON).exists()
    if not found or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip(
            "no RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
            "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
        )


@contextlib.contextmanager
def rtsp_camera(
    port: int, user: str, password: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A real RTSP server with H.264, as a process of its own; gives its port and the process."""
    command = [SYSTEM_PYTHON, str(_RTSP_SERVER), str(port), user, password]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline()), server
        finally:
            server.kill()


def require_ffmpeg() -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to stream with: apt-get install ffmpeg")


@contextlib.contextmanager
def ffmpeg_camera(clip: Path, port: int) -> Iterator[int]:
    """ffmpeg serving a clip over and over as an MPEG transport stream over HTTP."""
    port = port or _free_port()
    command = ["ffmpeg", "-loglevel", "quiet", "-re", "-stream_loop", "-1", "-i", str(clip)]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15"]
    command += ["-f", "mpegts", "-listen", "1", f"http://127.0.0.1:{port}/"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as server:
        try:
            yield port
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
