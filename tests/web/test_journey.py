"""One video's whole way through HTTP, with the server and the workers as they are run."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer, OutputContainer

from shared.bus import Bus
from shared.config import PROJECT_DIR
from tests.web.conftest import DEMO, Server, form_of, stop, wait_until

FPS = 15


@pytest.fixture
def worker(bus: Bus, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker beside the servers of `start_server`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moodline", "worker"],
        env={**os.environ, "REDIS_URL": bus.url, "MOODLINE_DATA_DIR": str(tmp_path / "data")},
        cwd=PROJECT_DIR,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    stop(process)


def ask(
    server: Server,
    method: str,
    path: str,
    data: object = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any, bytes]:
    """Status, headers and body; `data` that is no bytes goes as JSON."""
    headers = headers or {}
    if data is not None and not isinstance(data, bytes):
        data, headers = json.dumps(data).encode(), {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def leaves_and_comes_back(path: Path) -> bytes:
    """A clip of somebody who is there for a second, away for four, and there for another."""
    with av.open(str(DEMO)) as demo, av.open(str(path), "w") as out:
        assert isinstance(demo, InputContainer)
        assert isinstance(out, OutputContainer)
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        there = [frame.to_ndarray(format="rgb24") for frame in islice(demo.decode(video=0), FPS)]
        for picture in (*there, *[np.zeros_like(there[0])] * 4 * FPS, *there):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.slow
def test_upload_watch_explore_edit_take_away_and_delete(
    start_server: Callable[..., Server], worker: subprocess.Popen[str], tmp_path: Path
) -> None:
    server = start_server()
    clip = leaves_and_comes_back(tmp_path / "clip.mp4")
    body, headers = form_of(clip, "Interview.mp4", end="5.5")
    status, told, _ = ask(server, "POST", "/api/videos", body, headers)
    assert status == 202
    base = told["Location"]

    def video() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask(server, "GET", base)[2])
        return found

    seen = []

    def is_done() -> bool:
        now = video()
        seen.append((now["status"], now["progress"]))
        assert now["status"] in ("queued", "running", "done"), now
        return bool(now["status"] == "done")

    wait_until(is_done, 120)
    assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
    done = video()
    assert (done["progress"], done["eta_s"], done["error"]) == (1, None, None)
    assert done["frames_done"] == done["frames_total"] == 83  # up to 5.5 s

    results = json.loads(ask(server, "GET", f"{base}/results.json")[2])
    assert results["video"]["name"] == "Interview.mp4"
    assert results["video"]["frames_analysed"] == len(results["frames"]) == 83
    assert [frame["index"] for frame in results["frames"]] == list(range(83))
    faces = sum(len(frame["faces"]) for frame in results["frames"])
    rows = list(csv.DictReader(io.StringIO(ask(server, "GET", f"{base}/results.csv")[2].decode())))
    assert len(rows) == faces >= 20

    def summary() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask(server, "GET", f"{base}/summary.json")[2])
        return found

    def edit(method: str, path: str, data: object) -> None:
        status, _, kept = ask(server, method, f"{base}/people/{path}", data)
        assert status == 200, kept
        wait_until(lambda: summary()["revision"] == json.loads(kept)["revision"], 60)

    first, second = sorted(person["id"] for person in summary()["people"])[:2]
    assert (first, second) == (1, 2)
    edit("PATCH", f"{first}", {"name": "Ada"})
    edit("POST", f"{second}/merge", {"into": first})
    ada = summary()["people"][0]
    assert (ada["id"], ada["name"], ada["merged"]) == (first, "Ada", [second])
    wait_until(lambda: not video()["updating"], 10)
    again = json.loads(ask(server, "GET", f"{base}/results.json")[2])
    assert {face["track"] for frame in again["frames"] for face in frame["faces"]} == {first}
    assert sum(len(frame["faces"]) for frame in again["frames"]) == faces

    for file, kind in (
        ("annotated.mp4", b"ftyp"),
        ("annotated.mp4?blur=1", b"ftyp"),
        ("summary.pdf", b"%PDF"),
    ):

        def is_made(file: str = file) -> bool:
            status = ask(server, "GET", f"{base}/{file}")[0]
            assert status in (200, 202)
            return status == 200

        wait_until(is_made, 90)
        made = ask(server, "GET", f"{base}/{file}")[2]
        assert kind in made[:12]
        if kind == b"ftyp":
            with av.open(io.BytesIO(made)) as film:
                assert isinstance(film, InputContainer)
                assert film.streams.video[0].codec_context.name == "h264"
                assert sum(isinstance(f, av.VideoFrame) for f in film.decode(video=0)) == 83
    assert video()["exports"]["annotated"]["state"] == "done"

    assert ask(server, "DELETE", base)[0] == 204
    assert ask(server, "GET", base)[0] == 404
    assert json.loads(ask(server, "GET", "/api/videos")[2]) == []
    media = tmp_path / "data" / "media"
    wait_until(lambda: [path for path in media.rglob("*") if path.is_file()] == [], 10)
    assert list((tmp_path / "data" / "uploads").iterdir()) == []
    assert worker.poll() is None
