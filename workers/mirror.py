"""What must outlive Redis of events, as files in the data folder: the rules, what has happened.

Redis is the truth while it runs. The files hold webhooks' addresses and secrets, so only this user
may read them (`workers.kept_rows`). Pictures are never here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from shared.errors import InvalidRecord
from shared.events import Delivery, Event, KeptEvent, Rule
from workers.kept_rows import KeptRows

_log = structlog.get_logger(__name__)


class Mirror:
    """``rules.json`` and ``events.json`` of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._rules = KeptRows(data_dir / "rules.json", "rules")
        self._events = KeptRows(data_dir / "events.json", "events")
        self._trouble: set[Path] = set()

    def rules(self) -> list[Rule]:
        """The rules last saved; none if there is no file."""
        return self._rules.load(lambda row: Rule.from_json(json.dumps(row)))

    def events(self) -> list[KeptEvent]:
        """The events last saved with their deliveries, oldest first; none if there is no file."""
        return self._events.load(_event)

    def save_rules(self, rules: Sequence[Rule]) -> None:
        self._save(self._rules, [json.loads(rule.to_json()) for rule in rules])

    def save_events(self, events: Sequence[KeptEvent]) -> None:
        """Save events, oldest first."""
        rows = [
            {
                "id": kept.event.id,
                "event": json.loads(kept.event.to_json()),
                "deliveries": {
                    target: json.loads(delivery.to_json())
                    for target, delivery in kept.deliveries.items()
                },
            }
            for kept in events
        ]
        self._save(self._events, rows)

    def _save(self, file: KeptRows, rows: Sequence[Any]) -> None:
        """Replace a file; where that cannot be done, say so once and go on."""
        try:
            file.save(rows)
        except OSError as error:
            if file.path not in self._trouble:
                _log.warning(
                    "a file cannot be saved, and what it holds will not survive a restart: "
                    "make room, or set MOODLINE_DATA_DIR to a folder that can be written",
                    file=str(file.path),
                    reason=error.strerror,
                )
            self._trouble.add(file.path)
        else:
            self._trouble.discard(file.path)


def _event(row: Any) -> KeptEvent:
    if not isinstance(row, dict) or not isinstance(row["deliveries"], dict):
        raise InvalidRecord("expected an event with its deliveries")
    return KeptEvent(
        Event.from_json(json.dumps(row["event"]), str(row["id"])),
        False,
        {t: Delivery.from_json(json.dumps(each)) for t, each in row["deliveries"].items()},
    )
