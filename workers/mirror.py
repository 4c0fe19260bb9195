"""What must outlive Redis, as JSON in the data folder: the rules, and what has happened.

Redis is the truth while it runs. These files are readable by this user alone, because they hold
webhooks' addresses and secrets; each is replaced as a whole. A file that is damaged is set aside
under another name with a warning, and what could be read of it counts. Pictures are never here.
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
from shared.events import Delivery, Event, KeptEvent, Rule

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class Mirror:
    """``rules.json`` and ``events.json`` of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir
        self._trouble: set[str] = set()

    def rules(self) -> list[Rule]:
        """The rules last saved; none if there is no file."""
        return self._load("rules", lambda row: Rule.from_json(json.dumps(row)))

    def events(self) -> list[KeptEvent]:
        """The events last saved with their deliveries, oldest first; none if there is no file."""
        return self._load("events", _event)

    def save_rules(self, rules: Sequence[Rule]) -> None:
        self._save("rules", [json.loads(rule.to_json()) for rule in rules])

    def save_events(self, events: Sequence[KeptEvent]) -> None:
        """Save events, oldest first."""
        self._save(
            "events",
            [
                {
                    "id": kept.event.id,
                    "event": json.loads(kept.event.to_json()),
                    "deliveries": {
                        target: json.loads(delivery.to_json())
                        for target, delivery in kept.deliveries.items()
                    },
                }
                for kept in events
            ],
        )

    def _load(self, name: str, read: Callable[[Any], T]) -> list[T]:
        path = self._folder / f"{name}.json"
        found: list[T] = []
        damage = ""
        try:
            rows = list(json.loads(path.read_text(encoding="utf-8"))[name])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            rows, damage = [], type(error).__name__
        for row in rows:
            try:
                found.append(read(row))
            except (MoodlineError, ValueError, KeyError, TypeError, AttributeError) as error:
                damage = type(error).__name__  # not its text: it may quote a secret
        if damage:
            aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
            with contextlib.suppress(OSError):
                path.replace(aside)
            _log.warning(
                "a file was damaged and is set aside; what could be read of it counts",
                file=str(path),
                aside=str(aside),
                reason=damage,
            )
        return found

    def _save(self, name: str, rows: Sequence[Any]) -> None:
        """Replace a file; where that cannot be done, say so once and go on."""
        path = self._folder / f"{name}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # mkstemp makes files that only this user can read.
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({name: rows}, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            if name not in self._trouble:
                _log.warning(
                    f"the {name} cannot be saved and will not survive a restart of Redis: "
                    "make room, or set MOODLINE_DATA_DIR to a folder that can be written",
                    file=str(path),
                    reason=error.strerror,
                )
            self._trouble.add(name)
        else:
            self._trouble.discard(name)


def _event(row: dict[str, Any]) -> KeptEvent:
    return KeptEvent(
        Event.from_json(json.dumps(row["event"]), str(row["id"])),
        False,
        {t: Delivery.from_json(json.dumps(each)) for t, each in row["deliveries"].items()},
    )
