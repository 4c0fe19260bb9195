"""A list of JSON rows in one file of the data folder, which only this user may read.

The file is replaced as a whole. One that is damaged is set aside under another name with a warning,
and what could be read of it counts. What the rows are is the caller's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from shared.errors import MoodlineError

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class KeptRows:
    """The rows under `name` in the file at `path`."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._name = name

    def load(self, read: Callable[[Any], T]) -> list[T]:
        """What `read` makes of each row last saved; nothing if there is no file.

        `read` raises MoodlineError, ValueError, KeyError or TypeError at a row that is damaged.
        """
        found: list[T] = []
        damage = ""
        try:
            rows = list(json.loads(self.path.read_text(encoding="utf-8"))[self._name])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            rows, damage = [], type(error).__name__
        for row in rows:
            try:
                found.append(read(row))
            except (MoodlineError, ValueError, KeyError, TypeError) as error:
                damage = type(error).__name__  # not its text: it may quote a password
        if damage:
            self._set_aside(damage)
        return found

    def save(self, rows: Sequence[Any]) -> None:
        """Replace the file; raises OSError where the folder cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes files that only this user can read.
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({self._name: rows}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _set_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        with contextlib.suppress(OSError):
            self.path.replace(aside)
        _log.warning(
            f"the list of {self._name} was damaged and is set aside; add what is missing again",
            file=str(self.path),
            aside=str(aside),
            reason=reason,
        )
