"""Try sources that are no feeds yet: somebody wants to see the first picture before saving.

The web process asks over Redis; whichever capture process takes the question opens the source here,
where feeds would be captured, in a child process (`workers.first_picture`) that is killed when it
takes too long. The question holds the source's password: the child gets it through a pipe, so it
stands in no command line and no log. Pictures pass through memory only.

A webcam gives its pictures to one program at a time, and many a camera to a few: where a feed of
this process has the source open, its newest picture is the answer.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Mapping, Sequence

import structlog

from shared.bus import Bus
from shared.errors import BusError, MoodlineError
from shared.schema import FirstPicture, Trial
from shared.source import Source, SourceKind

_log = structlog.get_logger(__name__)

TIME_LIMIT_S = 8.0
_AT_ONCE = 2
_CAMERAS = (SourceKind.WEBCAM, SourceKind.STREAM)  # files can be read twice


class _Attempt:
    """One trial's process. It ends with its standard input, that is, with this process."""

    def __init__(
        self,
        trial: Trial,
        captured_by: str,
        command: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.trial = trial
        self._kill_at = time.monotonic() + TIME_LIMIT_S
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
        question = {"id": trial.id, "source": trial.source.text, "feed": captured_by}
        with contextlib.suppress(BrokenPipeError):  # it ended at once: `problem` will say so
            self._tell(json.dumps(question).encode() + b"\n")

    def _tell(self, line: bytes) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def problem(self) -> str | None:
        """Why the process could give no answer, "" if it did; None: it is at it still."""
        code = self._process.poll()
        if code is None and time.monotonic() < self._kill_at:
            return None
        self.end()
        masked = self.trial.source.masked
        if code is None:
            return (
                f"{masked} gave no picture within {TIME_LIMIT_S:g} s: "
                "check the address, the camera and the network."
            )
        return "" if code == 0 else f"The attempt to open {masked} broke down: try it again."

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


class Trials:
    """The trials of one capture process, a few at once; one turn looks at everything once."""

    def __init__(self, bus: Bus, *, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._bus = bus
        self._command = command
        self._environment = environment
        self._attempts: list[_Attempt] = []

    def turn(self, captured: Mapping[str, Source]) -> None:
        """Answer what is due and take what waits; `captured`: what this process has open."""
        for attempt in list(self._attempts):
            problem = attempt.problem()
            if problem is not None:
                self._attempts.remove(attempt)
            if problem:
                self._answer(attempt.trial, FirstPicture(problem=problem))
        try:
            while len(self._attempts) < _AT_ONCE and (trial := self._bus.take_trial()):
                self._start(trial, captured)
        except MoodlineError as error:
            _log.debug("no sources are tried", reason=str(error))

    def stop(self) -> None:
        """End all attempts; who waits for one is told that nobody answers."""
        for attempt in self._attempts:
            attempt.end()
        self._attempts.clear()

    def _start(self, trial: Trial, captured: Mapping[str, Source]) -> None:
        captured_by = ""
        if trial.source.kind in _CAMERAS:
            wanted = _device(trial.source)
            captured_by = next((i for i, each in captured.items() if _device(each) == wanted), "")
        self._attempts.append(_Attempt(trial, captured_by, self._command, self._environment))

    def _answer(self, trial: Trial, answer: FirstPicture) -> None:
        with contextlib.suppress(BusError):  # whoever asked asks Redis too, and knows
            self._bus.answer_trial(trial.id, answer)


def _device(source: Source) -> str:
    """What is opened for a source, under one name."""
    if source.kind is SourceKind.WEBCAM and source.locator.isdecimal():
        return f"/dev/video{source.locator}"
    return source.locator
