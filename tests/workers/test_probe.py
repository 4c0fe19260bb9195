"""A look into a hostile file, in a process of its own: it answers, and touches nothing else."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.config import PROJECT_DIR
from shared.video import Footage
from tests.workers import footage_clips as clips
from workers.sources import DEMO_CLIP

LOOK = "import sys; from workers.probe import main_json; print(main_json(sys.argv[1]))"


def command(path: Path, program: str = LOOK) -> list[str]:
    return [sys.executable, "-c", program, str(path)]


def look(path: Path, program: str = LOOK) -> dict[str, Any]:
    done = subprocess.run(
        command(path, program),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=PROJECT_DIR,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A port, and who connected to it."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                connection.close()
                came.append(address)

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], came
        ended.set()
        thread.join()


def test_a_video_is_described() -> None:
    found = Footage.from_dict(look(DEMO_CLIP)["footage"])
    assert (found.width, found.height, found.codec) == (640, 480, "h264")


@pytest.mark.parametrize("name", ["av1.webm", "vp9.webm", "hevc.mp4", "prores.mov", "theora.ogv"])
def test_every_decoder_works_within_the_limits(name: str, tmp_path: Path) -> None:
    path = clips.pattern(tmp_path / name, *clips.RECIPES[name], seconds=1)
    assert look(path)["footage"]["width"] == 160


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    assert "No such file" in look(tmp_path / "gone.mp4")["error"]


def test_lists_lead_nowhere(tmp_path: Path, listener: tuple[int, list[object]]) -> None:
    port, came = listener
    address = f"http://127.0.0.1:{port}/clip.ts"
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n",
        "hidden.mp4": f"\n\n#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:9,\n{address}\n",
        "local.m3u8": f"#EXTM3U\n#EXTINF:9,\nfile://{DEMO_CLIP}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {DEMO_CLIP}\n",
        "remote.ffconcat": f"ffconcat version 1.0\nfile {address}\n",
        "camera.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
        "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        f"<Period><AdaptationSet><Representation><BaseURL>{address}</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>",
        "list.asx": f'<ASX version="3.0"><Entry><Ref href="{address}"/></Entry></ASX>',
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        answer = look(tmp_path / name)
        assert set(answer) == {"error"}, name
        assert answer["error"].count(". ") == 0
    assert came == []


def test_nothing_is_opened_but_the_file(tmp_path: Path) -> None:
    """Here with a film whose pictures are said to lie in another file."""
    if shutil.which("strace") is None:
        pytest.skip("no strace to look with: apt-get install strace")
    whole = clips.pattern(tmp_path / "whole.mov", *clips.H264, seconds=1)
    canary = tmp_path / "canary.mov"
    shutil.copy(whole, canary)
    data = bytearray(whole.read_bytes())
    at = data.index(b"url \x00\x00\x00\x01")
    data[at : at + 8] = b"url \x00\x00\x00\x00"  # not in this file
    path = tmp_path / "elsewhere.mov"
    path.write_bytes(data)
    for name in ("elsewhere.mov", "list.m3u8"):
        (tmp_path / "list.m3u8").write_text(
            f"#EXTM3U\n#EXTINF:9,\nfile://{canary}\n#EXT-X-ENDLIST\n"
        )
        log = tmp_path / "calls"
        traced = ["strace", "-f", "-o", str(log), "-e", "trace=open,openat,socket,connect,execve"]
        subprocess.run(
            [*traced, *command(tmp_path / name)],
            stdout=subprocess.DEVNULL, timeout=60, cwd=PROJECT_DIR, check=True,
        )  # fmt: skip
        calls = log.read_text().splitlines()
        opened = next(
            i for i, call in enumerate(calls) if str(tmp_path / name) in call and "open" in call
        )
        after = [
            call for call in calls[opened + 1 :] if re.search(r"open|socket|connect|exec", call)
        ]
        succeeded = [call for call in after if not re.search(r"= -1 E|/proc/", call)]
        assert succeeded == []


def test_memory_is_limited(tmp_path: Path) -> None:
    """A film of 8192x4320 does not fit into 60 MB: the answer comes all the same."""
    path = clips.pattern(
        tmp_path / "huge.mp4", "-c:v", "mpeg4", filters="scale=8000:4000", seconds=0.1, rate="10"
    )
    program = f"from workers import probe; probe.MEMORY_BYTES = 60_000_000; {LOOK}"
    assert set(look(path, program)) == {"error"}
    assert look(path)["footage"]["width"] == 8000


def test_what_was_given_up_stays_given_up() -> None:
    program = (
        f"{LOOK}; import json, os\n"
        "try: os.open('/etc/hostname', os.O_RDONLY)\n"
        "except OSError as error: assert error.errno == 24, error\n"
        "else: raise SystemExit('another file could be opened')\n"
    )
    assert "footage" in look(DEMO_CLIP, program)
