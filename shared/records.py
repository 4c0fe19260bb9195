"""How records are checked and read: the few words that `shared.schema` and `shared.video` share.

A record is a frozen dataclass that checks itself when built. What it is built from comes from
outside (Redis, storage, a request), so everything that does not fit is an InvalidRecord with what
was expected and what came instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from shared.errors import InvalidRecord

T = TypeVar("T")


def require(condition: bool, expected: str, actual: object) -> None:
    """Raise InvalidRecord unless `condition`."""
    if not condition:
        raise InvalidRecord(f"expected {expected}, got {actual!r}")


def json_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object; raises InvalidRecord where it is none."""
    try:
        row = json.loads(text)
    except ValueError as error:
        raise InvalidRecord(f"expected JSON, got {text[:80]!r}") from error
    if not isinstance(row, dict):
        raise InvalidRecord(f"expected a JSON object, got {text[:80]!r}")
    return row


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make a record of its fields by name; raises InvalidRecord where they are not those."""
    try:
        return cls(**values)
    except (TypeError, AttributeError) as error:
        raise InvalidRecord(
            f"expected the fields of {cls.__name__}, got {sorted(values)}"
        ) from error
