"""The records of events: a rule says what to watch for, an event that it happened.

Three kinds of rules, each with an exact meaning (times are those of capture, in seconds):

- `emotion_over`: the score of `emotion` of one face was above `share` in every frame that shows
  that face, for `for_s` without a break. A frame in which the model is *unsure* of the face does
  not count as that emotion. A face that is missed for less than a second breaks nothing.
- `new_person`: a face with a track number that was not there before has been in view for `for_s`.
  Nobody is recognised: who leaves and comes back later is new.
- `nobody_for`: somebody was in view, and now no face has been for `for_s`. A camera that sends
  nothing is no empty room: only analysed frames count.

One occurrence is one event. The next needs the condition to have been false for a second: a score
that flickers around the limit, or a face that is missed for a moment, is the same occurrence. Where
a feed gave nothing for five seconds, what had begun but not yet happened begins anew.

Not here: when that is the case (`workers.occurrences`), and where events are kept
(`shared.event_bus`).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from shared.records import build, json_object, require

MAX_NAME_LENGTH = 80
MAX_WEBHOOKS = 4
MAX_FEEDS = 64
MAX_FOR_S = 3600.0
MAX_COOLDOWN_S = 86400.0
_ID = re.compile(r"[0-9a-f]{8}")
_EMOTION = re.compile(r"[a-z][a-z ]{0,31}")
EVENT_ID = re.compile(r"\d{1,16}-\d{1,10}")


class RuleKind(StrEnum):
    """What a rule watches for; the module's docstring defines each."""

    EMOTION_OVER = "emotion_over"
    NEW_PERSON = "new_person"
    NOBODY_FOR = "nobody_for"


class DeliveryState(StrEnum):
    """How the delivery of one event to one target goes."""

    WAITING = "waiting"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a rule's events are posted to; `secret` signs them where it is not empty.

    The address often is a secret itself: `masked` is what may be shown.
    """

    id: str
    url: str
    secret: str = ""

    @classmethod
    def new(cls, url: str, secret: str = "") -> Self:
        return cls(secrets.token_hex(4), url, secret)

    def __post_init__(self) -> None:
        require(bool(_ID.fullmatch(self.id)), "a webhook id of 8 hexadecimal digits", self.id)

    @property
    def masked(self) -> str:
        """Scheme and host; the rest, where there is any, as ***."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        rest = parts.path.strip("/") or parts.query or "@" in parts.netloc
        return f"{parts.scheme}://{host}/{'***' if rest else ''}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What to watch for, on which feeds, and what to do then.

    `feeds` empty: all feeds. `share` is a probability; `emotion` is one of the model's labels; both
    belong to `emotion_over` alone. Within `cooldown_s` after an event, further occurrences on the
    same feed pass in silence. `picture`: keep the picture in which it happened. `watches_since`
    (epoch seconds) is when the rule began to watch for what it does now.
    """

    id: str
    name: str
    kind: RuleKind
    for_s: float
    emotion: str = ""
    share: float = 0.0
    feeds: tuple[str, ...] = ()
    cooldown_s: float = 0.0
    picture: bool = False
    webhooks: tuple[Webhook, ...] = ()
    enabled: bool = True
    created_at: float = field(default_factory=time.time)
    watches_since: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        require(bool(_ID.fullmatch(self.id)), "a rule id of 8 hexadecimal digits", self.id)
        require(
            0 < len(self.name) <= MAX_NAME_LENGTH and self.name.isprintable(),
            f"a name of 1 to {MAX_NAME_LENGTH} printable characters",
            self.name,
        )
        require(0 <= self.for_s <= MAX_FOR_S, f"0 to {MAX_FOR_S:g} seconds", self.for_s)
        require(
            0 <= self.cooldown_s <= MAX_COOLDOWN_S,
            f"a pause of 0 to {MAX_COOLDOWN_S:g} seconds",
            self.cooldown_s,
        )
        if self.kind is RuleKind.EMOTION_OVER:
            require(bool(_EMOTION.fullmatch(self.emotion)), "a label of the model", self.emotion)
            require(0 < self.share < 1, "a share between 0 and 1", self.share)
        require(len(self.webhooks) <= MAX_WEBHOOKS, f"up to {MAX_WEBHOOKS} webhooks", "more")
        require(len(self.feeds) <= MAX_FEEDS, f"up to {MAX_FEEDS} feeds", "more")

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(4)

    def watches(self, feed_id: str) -> bool:
        return self.enabled and (not self.feeds or feed_id in self.feeds)

    def succeed(self, former: Rule) -> Rule:
        """This rule in the place of `former`: what it watches begins anew only where it changed."""
        same = all(
            getattr(self, name) == getattr(former, name)
            for name in ("kind", "for_s", "emotion", "share", "feeds", "enabled")
        )
        return replace(
            self,
            created_at=former.created_at,
            watches_since=former.watches_since if same else self.watches_since,
        )

    def to_json(self) -> str:
        """The stored form: holds addresses and secrets, so it never leaves Redis and disk."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        try:
            row["kind"] = RuleKind(row.get("kind", ""))
        except ValueError:
            require(False, "a kind of rule", row.get("kind"))
        row["feeds"] = tuple(row.get("feeds", ()))
        row["webhooks"] = tuple(build(Webhook, each) for each in row.get("webhooks", ()))
        return build(cls, row)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far one event is on its way to one target.

    `to` names the target as it may be shown. `at` (epoch seconds) is when it was delivered or given
    up, or, while it is retried, when the first attempt failed.
    """

    to: str
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    at: float | None = None
    reason: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json_object(text)
        row["state"] = DeliveryState(row.get("state", ""))
        return build(cls, row)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a rule watches for has happened.

    `id` is its entry in the stream of events (empty until it is there). `at` is when the frame was
    captured that made it so (epoch seconds), `track` the face, `box` where it was in that frame
    ([x, y, width, height] in its pixels), `value` that face's score then.
    `test`: nothing has happened, somebody tries the rule's targets.
    """

    rule: str
    name: str
    kind: RuleKind
    feed: str
    feed_name: str
    at: float
    track: int | None = None
    emotion: str | None = None
    value: float | None = None
    box: tuple[int, int, int, int] | None = None
    test: bool = False
    id: str = ""

    @classmethod
    def of(
        cls,
        rule: Rule,
        *,
        feed: str,
        feed_name: str,
        at: float,
        track: int | None = None,
        value: float | None = None,
        box: tuple[int, int, int, int] | None = None,
        test: bool = False,
    ) -> Self:
        return cls(
            rule=rule.id,
            name=rule.name,
            kind=rule.kind,
            feed=feed,
            feed_name=feed_name,
            at=at,
            track=track,
            emotion=rule.emotion or None,
            value=None if value is None else round(value, 4),
            box=box,
            test=test,
        )

    def to_json(self) -> str:
        row = asdict(self)
        del row["id"]
        return json.dumps(row, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, event_id: str) -> Self:
        row = json_object(text)
        try:
            row["kind"] = RuleKind(row.get("kind", ""))
        except ValueError:
            require(False, "a kind of rule", row.get("kind"))
        box = row.get("box")
        row["box"] = tuple(box) if isinstance(box, list) else None
        return build(cls, {**row, "id": event_id})


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event as it is kept: with or without its picture, and how its deliveries go."""

    event: Event
    has_picture: bool
    deliveries: Mapping[str, Delivery]

    def to_dict(self) -> dict[str, Any]:
        """What programs are told of it: webhooks, MQTT and Socket.IO alike."""
        return {
            **asdict(self.event),
            "picture": f"/api/events/{self.event.id}/picture.jpg" if self.has_picture else None,
        }
