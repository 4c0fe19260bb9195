"""A look into a file that may hold anything, within limits: ``python -m workers.probe FILE``.

The process that calls `main_json` gives up memory, processor time, further files and writing for
good: so it has to be a process of its own, whose output goes into a pipe. Who starts it limits the
time that passes as well, for a decoder that only waits uses no processor.

Promises: one line of JSON comes back, `{"footage": …}` or `{"error": …}` with one sentence that
says what to do; or the process dies, and then too the file is to be refused. Nothing but the file
is opened, nothing is written.

Not here: what is looked at (`workers.footage`).
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path

import av.subtitles.stream  # noqa: F401 - PyAV would at its first file, when no file can be opened
import psutil

from shared.errors import SourceError
from workers import footage

MEMORY_BYTES = 1_500_000_000  # on top of what the program takes before it sees the file
PROCESSOR_S = 20


def main_json(path: str | Path) -> str:
    """Probe a file within limits that stay for the process; give what there is to say as JSON."""
    try:
        with Path(path).open("rb") as file:
            _give_up_all_but(MEMORY_BYTES)
            return json.dumps({"footage": asdict(footage.probe(file))})
    except SourceError as error:
        return json.dumps({"error": str(error)})
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return json.dumps({"error": f"The file {path} cannot be read ({reason}): check its name."})
    except MemoryError:
        return json.dumps({"error": "This file needs too much memory: convert it to H.264 in MP4."})


def _give_up_all_but(memory_bytes: int) -> None:
    """Limit the process, for good, to what it has and so much memory more."""
    most_bytes = psutil.Process().memory_info().vms + memory_bytes
    for what, most in (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_CPU, PROCESSOR_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":  # not a command of `moodline`: that one takes as long to load again
    sys.stdout.write(main_json(sys.argv[1]))
