"""Log lines: structured, and without credentials."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from shared.log import mask_credentials

SPEAK = """
import logging, structlog
from shared import log
log.configure({level!r}, "worker")
structlog.get_logger("a").info("quiet")
import threading
thread = threading.Thread(target=structlog.get_logger("a").info, args=("from a thread",))
thread.start()
thread.join()
structlog.get_logger("a").warning("lost", source="rtsp://user:p@ss/w#rd@host/x")
logging.getLogger("rq.worker").info("chatty")
logging.getLogger("rq.worker").error("cannot reach redis://:secret@host:6379/0")
try:
    raise ValueError("http://me:hidden@cam/")
except ValueError:
    structlog.get_logger("a").exception("failed")
"""


def lines(level: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", SPEAK.format(level=level)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_each_line_is_an_object_that_names_the_process() -> None:
    assert {line["role"] for line in lines("info")} == {"worker"}
    first = lines("warning")[0]
    assert (first["event"], first["role"], first["level"]) == ("lost", "worker", "warning")


def test_it_is_quiet_by_default() -> None:
    assert "quiet" not in [line["event"] for line in lines("warning")]
    assert "quiet" in [line["event"] for line in lines("info")]
    assert "chatty" not in [line["event"] for line in lines("info")]


def test_no_password_is_logged() -> None:
    text = json.dumps(lines("info"))
    assert "cannot reach redis://***@host" in text
    for secret in ("p@ss", "w#rd", "secret", "hidden"):
        assert secret not in text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("see rtsp://a:b@c/d and rtsp://e:f@g", "see rtsp://***@c/d and rtsp://***@g"),
        ("http://host/path", "http://host/path"),
        ("no address", "no address"),
    ],
)
def test_every_address_in_a_text_is_masked(said: str, shown: str) -> None:
    assert mask_credentials(None, "info", {"event": said}) == {"event": shown}
