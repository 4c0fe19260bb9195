"""What Redis holds of events: the rules, what has happened, and what is still to be delivered.

What it promises:

- One process leads, by a lease that runs out with it; only the leader's words count (`commit`,
  `settle`). Names of processes are never used twice, so the name is the fence.
- An event is written once: with it, in one transaction, go the cursor in its feed's results, what
  the rules know of the feed, its picture and its deliveries. A leader that was killed, or whose
  answer was lost, finds either all of it or nothing.
- Events are bounded in number and age, pictures in number besides; with an event go its picture
  and its deliveries. Deleted is deleted.
- Events are the stream ``moodline:events`` (field ``event``: JSON): other programs may read it.

Not here: what is in a rule (`shared.events`), when it is met (`workers.occurrences`) and how
events reach their targets (`workers.deliveries`). Every verb raises BusError where Redis cannot be
reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from shared.connection import connect, verb
from shared.errors import NotFound
from shared.events import Delivery, Event, KeptEvent, Rule
from shared.source import mask_address

LEASE_S = 2.0  # after a leader was killed, the next one takes over after so long
MQTT = "mqtt"  # the target that is no rule's own
_PREFIX = "moodline:"
_AT_ONCE = 100  # events read from the stream in one go

_COMMON = """
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function dequeue(target, id)
  redis.call('LREM', P..'events:queue:'..target, 0, id)
  if redis.call('LLEN', P..'events:queue:'..target) == 0 then
    redis.call('ZREM', P..'events:targets', target)
    redis.call('HDEL', P..'events:failures', target)
  end
end
local function drop(id)
  local key = P..'event:'..id
  for _, target in ipairs(redis.call('HKEYS', key..':deliveries')) do dequeue(target, id) end
  redis.call('DEL', key..':deliveries', key..':picture')
  redis.call('LREM', P..'events:pictures', 0, id)
  return redis.call('XDEL', P..'events', id)
end
local function enqueue(target, id, row)
  redis.call('HSET', P..'event:'..id..':deliveries', target, row)
  redis.call('RPUSH', P..'events:queue:'..target, id)
  redis.call('ZADD', P..'events:targets', 'NX', now, target)
end
local function trim(most, oldest_ms)
  local dropped = 0
  local old = redis.call('XRANGE', P..'events', '-', math.max(0, now - oldest_ms), 'COUNT', 100)
  for _, entry in ipairs(old) do dropped = dropped + drop(entry[1]) end
  local over = redis.call('XLEN', P..'events') - most
  if over > 0 then
    for _, entry in ipairs(redis.call('XRANGE', P..'events', '-', '+', 'COUNT', over)) do
      dropped = dropped + drop(entry[1])
    end
  end
  return dropped
end
local function leads(name) return redis.call('GET', P..'events:leader') == name end
"""

# Each feed: id, cursor it was at, cursor, state, number of events; each event: JSON, picture,
# number of targets, then target and delivery of each.
_COMMIT = (
    _COMMON
    + """
if not leads(ARGV[1]) then return 0 end
local most, oldest_ms, pictures = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local feed = ARGV[5]
if (redis.call('HGET', P..'events:cursors', feed) or '') ~= ARGV[6] then return 0 end
redis.call('HSET', P..'events:cursors', feed, ARGV[7])
redis.call('HSET', P..'events:states', feed, ARGV[8])
local i = 9
while i <= #ARGV do
  local id = redis.call('XADD', P..'events', '*', 'event', ARGV[i])
  redis.call('INCR', P..'events:noticed')
  if ARGV[i + 1] ~= '' then
    redis.call('SET', P..'event:'..id..':picture', ARGV[i + 1], 'PX', oldest_ms)
    redis.call('LPUSH', P..'events:pictures', id)
    while redis.call('LLEN', P..'events:pictures') > pictures do
      redis.call('DEL', P..'event:'..redis.call('RPOP', P..'events:pictures')..':picture')
    end
  end
  local count = tonumber(ARGV[i + 2])
  i = i + 3
  for _ = 1, count do
    enqueue(ARGV[i], id, ARGV[i + 1])
    i = i + 2
  end
  redis.call('INCR', P..'events:version')
  trim(most, oldest_ms)
end
return 1
"""
)

_ADD = (
    _COMMON
    + """
local id = redis.call('XADD', P..'events', '*', 'event', ARGV[1])
for i = 2, #ARGV, 2 do enqueue(ARGV[i], id, ARGV[i + 1]) end
redis.call('INCR', P..'events:version')
return id
"""
)

_LEAD = """
local key = KEYS[1]..'events:leader'
local leader = redis.call('GET', key)
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[1]..'events:mqtt', ARGV[3], 'PX', ARGV[2])
return 1
"""

_LEAVE = """
if redis.call('GET', KEYS[1]..'events:leader') == ARGV[1] then
  redis.call('DEL', KEYS[1]..'events:leader', KEYS[1]..'events:mqtt')
end
return 1
"""

_DUE = (
    _COMMON
    + """
local rows = {}
for _, target in ipairs(redis.call('ZRANGEBYSCORE', P..'events:targets', '-inf', now)) do
  local id = redis.call('LINDEX', P..'events:queue:'..target, 0)
  if id then
    local entry = redis.call('XRANGE', P..'events', id, id)[1]
    if entry then
      rows[#rows + 1] = {target, id, entry[2][2],
        redis.call('HGET', P..'event:'..id..':deliveries', target) or '',
        redis.call('HGET', P..'events:failures', target) or '0',
        redis.call('EXISTS', P..'event:'..id..':picture')}
    else
      dequeue(target, id)
    end
  else
    redis.call('ZREM', P..'events:targets', target)
  end
end
return rows
"""
)

_SETTLE = (
    _COMMON
    + """
local target, id, row, again_ms = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if not leads(ARGV[1]) then return 0 end
if redis.call('HEXISTS', P..'event:'..id..':deliveries', target) == 0 then return 0 end
redis.call('HSET', P..'event:'..id..':deliveries', target, row)
redis.call('INCR', P..'events:version')
if again_ms >= 0 then
  redis.call('HINCRBY', P..'events:failures', target, 1)
  redis.call('ZADD', P..'events:targets', now + again_ms, target)
else
  redis.call('HDEL', P..'events:failures', target)
  dequeue(target, id)
  if redis.call('LLEN', P..'events:queue:'..target) > 0 then
    redis.call('ZADD', P..'events:targets', now, target)
  end
end
return 1
"""
)

_REMOVE = (
    _COMMON
    + """
local dropped = 0
if ARGV[1] then
  dropped = drop(ARGV[1])
else
  for _, entry in ipairs(redis.call('XRANGE', P..'events', '-', '+')) do
    dropped = dropped + drop(entry[1])
  end
end
if dropped > 0 then redis.call('INCR', P..'events:version') end
return dropped
"""
)

_TRIM = (
    _COMMON
    + """
local dropped = trim(tonumber(ARGV[1]), tonumber(ARGV[2]))
if dropped > 0 then redis.call('INCR', P..'events:version') end
return dropped
"""
)

# Number of rules, then id and JSON of each; then events: id, JSON, number of deliveries, those.
_RESTORE = (
    _COMMON
    + """
if redis.call('SET', P..'rules:restored', '1', 'NX') == false then return 0 end
local i = 2
for _ = 1, tonumber(ARGV[1]) do
  redis.call('HSETNX', P..'rules', ARGV[i], ARGV[i + 1])
  i = i + 2
end
redis.call('INCR', P..'rules:version')
if redis.call('XLEN', P..'events') > 0 then return 1 end
while i <= #ARGV do
  local id, count = ARGV[i], tonumber(ARGV[i + 2])
  redis.call('XADD', P..'events', id, 'event', ARGV[i + 1])
  i = i + 3
  for _ = 1, count do
    local state = cjson.decode(ARGV[i + 1]).state
    if state == 'waiting' or state == 'retrying' then
      enqueue(ARGV[i], id, ARGV[i + 1])
    else
      redis.call('HSET', P..'event:'..id..':deliveries', ARGV[i], ARGV[i + 1])
    end
    i = i + 2
  end
end
redis.call('INCR', P..'events:version')
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: events in number and age, pictures in number besides."""

    events: int
    age_s: float
    pictures: int = 200


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be written: its picture (JPEG) if that is kept, and its targets."""

    event: Event
    picture: bytes | None
    deliveries: Mapping[str, Delivery]


@dataclass(frozen=True, slots=True)
class Due:
    """The first event in the queue of a target whose time has come.

    `failures`: how often in a row this target was tried in vain.
    """

    target: str
    kept: KeptEvent
    delivery: Delivery
    failures: int


class EventBus:
    """The verbs. Safe to share between threads; make a new one after a fork."""

    def __init__(self, url: str, *, prefix: str = _PREFIX) -> None:
        self.address = mask_address(url)
        self._prefix = prefix
        self._redis = connect(url)
        self._commit = self._redis.register_script(_COMMIT)
        self._add = self._redis.register_script(_ADD)
        self._lead = self._redis.register_script(_LEAD)
        self._leave = self._redis.register_script(_LEAVE)
        self._due = self._redis.register_script(_DUE)
        self._settle = self._redis.register_script(_SETTLE)
        self._remove = self._redis.register_script(_REMOVE)
        self._trim = self._redis.register_script(_TRIM)
        self._restore = self._redis.register_script(_RESTORE)

    def close(self) -> None:
        self._redis.close()

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    # Rules

    @verb
    def put_rule(self, rule: Rule) -> None:
        """Add a rule, or replace the one with its id."""
        with self._redis.pipeline() as pipe:
            pipe.hset(self._key("rules"), rule.id, rule.to_json())
            pipe.incr(self._key("rules", "version"))
            pipe.execute()

    @verb
    def remove_rule(self, rule_id: str) -> None:
        """Remove a rule; its events stay. Raises NotFound."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(self._key("rules"), rule_id)
            pipe.incr(self._key("rules", "version"))
            removed = pipe.execute()[0]
        if not removed:
            raise _no_rule(rule_id)

    @verb
    def rules(self) -> list[Rule]:
        """All rules, oldest first."""
        rows = cast("dict[bytes, bytes]", self._redis.hgetall(self._key("rules")))
        return sorted(map(Rule.from_json, rows.values()), key=lambda r: (r.created_at, r.id))

    @verb
    def rule(self, rule_id: str) -> Rule:
        """One rule; raises NotFound."""
        row = cast("bytes | None", self._redis.hget(self._key("rules"), rule_id))
        if row is None:
            raise _no_rule(rule_id)
        return Rule.from_json(row)

    @verb
    def versions(self) -> tuple[int | None, int]:
        """Numbers that rise with each change of the rules and of the events.

        None for the rules: Redis is new, nothing is restored yet.
        """
        restored, rules, events = cast(
            "list[bytes | None]",
            self._redis.mget(
                self._key("rules", "restored"),
                self._key("rules", "version"),
                self._key("events", "version"),
            ),
        )
        return None if restored is None else int(rules or 0), int(events or 0)

    @verb
    def restore(self, rules: Sequence[Rule], events: Sequence[KeptEvent]) -> bool:
        """Fill a new Redis once, keeping what was added meanwhile; False if it was not new.

        Events are restored without pictures, oldest first, and only where there are none yet; what
        was on its way to its targets is on its way again.
        """
        args: list[str | int] = [len(rules)]
        args += [part for rule in rules for part in (rule.id, rule.to_json())]
        for kept in events:
            args += [kept.event.id, kept.event.to_json(), len(kept.deliveries)]
            args += [part for t, row in kept.deliveries.items() for part in (t, row.to_json())]
        return bool(self._restore(keys=[self._prefix], args=args))

    # The leader

    @verb
    def lead(self, name: str, *, mqtt: str = "") -> bool:
        """Take or keep the lead for `LEASE_S`; False: another process has it.

        `mqtt` names the broker, as it may be shown, that this leader publishes to.
        """
        return bool(self._lead(keys=[self._prefix], args=[name, int(LEASE_S * 1000), mqtt]))

    @verb
    def leave(self, name: str) -> None:
        """Give up the lead, if this process has it."""
        self._leave(keys=[self._prefix], args=[name])

    @verb
    def led(self) -> tuple[bool, str]:
        """Whether a process leads, and the MQTT broker that it publishes to (empty: none)."""
        leader, mqtt = cast(
            "list[bytes | None]",
            self._redis.mget(self._key("events", "leader"), self._key("events", "mqtt")),
        )
        return leader is not None, (mqtt or b"").decode()

    @verb
    def progress(self) -> dict[str, tuple[str, str]]:
        """Of each feed, the last result that was looked at, and what the rules know of it."""
        with self._redis.pipeline() as pipe:
            pipe.hgetall(self._key("events", "cursors"))
            pipe.hgetall(self._key("events", "states"))
            cursors, states = pipe.execute()
        return {
            feed.decode(): (cursor.decode(), states[feed].decode())
            for feed, cursor in cursors.items()
            if feed in states
        }

    @verb
    def commit(
        self,
        name: str,
        feed: str,
        *,
        was_at: str,
        cursor: str,
        state: str,
        events: Sequence[NewEvent],
        bounds: Bounds,
    ) -> bool:
        """Write how far a feed was looked at and what happened, all of it or nothing.

        False: this process does not lead (any more), or the feed is no longer at `was_at`.
        """
        args: list[str | int | bytes] = [
            name,
            bounds.events,
            int(bounds.age_s * 1000),
            bounds.pictures,
            *(feed, was_at, cursor, state),
        ]
        for new in events:
            args += [new.event.to_json(), new.picture or b"", len(new.deliveries)]
            args += [part for t, row in new.deliveries.items() for part in (t, row.to_json())]
        return bool(self._commit(keys=[self._prefix], args=args))

    @verb
    def forget_feeds(self, feeds: Sequence[str]) -> None:
        """Forget what the rules know of feeds that are gone, or that no rule watches."""
        if feeds:
            self._redis.hdel(self._key("events", "cursors"), *feeds)
            self._redis.hdel(self._key("events", "states"), *feeds)

    @verb
    def trim(self, bounds: Bounds) -> None:
        """Drop the events that are too old or too many."""
        args = [bounds.events, int(bounds.age_s * 1000)]
        self._trim(keys=[self._prefix], args=args)

    # Deliveries

    @verb
    def due(self) -> list[Due]:
        """Of each target whose time has come, the event that is first in its queue."""
        return [
            Due(
                target.decode(),
                KeptEvent(Event.from_json(event, id_.decode()), bool(picture), {}),
                Delivery.from_json(row),
                int(failures),
            )
            for target, id_, event, row, failures, picture in self._due(keys=[self._prefix])
        ]

    @verb
    def noticed(self) -> int:
        """How many events rules have led to since Redis began, those included that are gone."""
        return int(cast("bytes | None", self._redis.get(self._key("events", "noticed"))) or 0)

    @verb
    def undelivered(self) -> int:
        """How many deliveries wait, all targets together."""
        targets = cast("list[bytes]", self._redis.zrange(self._key("events", "targets"), 0, -1))
        with self._redis.pipeline(transaction=False) as pipe:
            for target in targets:
                pipe.llen(self._key("events", "queue", target.decode()))
            return sum(pipe.execute())

    @verb
    def settle(self, name: str, due: Due, delivery: Delivery, again_s: float | None) -> bool:
        """Say how an attempt went; `again_s`: try again after so long. Else the next one's turn.

        False: this process does not lead any more, or the event was deleted.
        """
        args: list[str | int] = [
            *(name, due.target, due.kept.event.id, delivery.to_json()),
            -1 if again_s is None else int(again_s * 1000),
        ]
        return bool(self._settle(keys=[self._prefix], args=args))

    # What has happened

    @verb
    def add_test(self, event: Event, deliveries: Mapping[str, Delivery]) -> Event:
        """Write an event that is only a test, and return it with its id."""
        rows = [part for t, row in deliveries.items() for part in (t, row.to_json())]
        id_ = self._add(keys=[self._prefix], args=[event.to_json(), *rows])
        return Event.from_json(event.to_json(), id_.decode())

    @verb
    def events(
        self, *, feed: str | None = None, since: float = 0.0, limit: int | None = None
    ) -> list[KeptEvent]:
        """Events of one feed or all that happened at or after `since`, newest first."""
        found: list[KeptEvent] = []
        newest = "+"
        # Entry ids are Redis's time of writing, `at` is the camera machine's: some slack.
        oldest = str(max(0, int((since - 2.0) * 1000)))
        while rows := cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            self._redis.xrevrange(self._key("events"), newest, oldest, count=_AT_ONCE),
        ):
            for kept in self._with_deliveries(rows):
                if kept.event.at >= since and feed in (None, kept.event.feed):
                    found.append(kept)
                    if len(found) == limit:
                        return found
            newest = f"({rows[-1][0].decode()}"
        return found

    @verb
    def events_after(self, cursor: str, block_s: float) -> list[KeptEvent]:
        """Events written after that one (``$``: from now on), oldest first.

        Waits `block_s` at most for the first one.
        """
        streams = cast("Any", {self._key("events"): cursor})
        found: Any = self._redis.xread(streams, block=max(1, int(block_s * 1000))) or []
        if isinstance(found, dict):
            found = [(key, entries) for key, groups in found.items() for entries in groups]
        return self._with_deliveries([row for _, rows in found for row in rows])

    @verb
    def event(self, event_id: str) -> KeptEvent:
        """One event; raises NotFound."""
        rows = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            self._redis.xrange(self._key("events"), event_id, event_id),
        )
        if not rows:
            raise _no_event(event_id)
        return self._with_deliveries(rows)[0]

    @verb
    def newest_event(self) -> str:
        """The id of the event that was written last, to go on from; ``0`` where there is none."""
        rows = cast("list[Any]", self._redis.xrevrange(self._key("events"), count=1))
        return rows[0][0].decode() if rows else "0"

    @verb
    def picture(self, event_id: str) -> bytes:
        """The picture that was kept with an event; raises NotFound."""
        jpeg = cast("bytes | None", self._redis.get(self._key("event", event_id, "picture")))
        if jpeg is None:
            raise NotFound(
                "No picture of this event is kept: its rule keeps none, or it is gone by now."
            )
        return jpeg

    @verb
    def remove_event(self, event_id: str) -> None:
        """Delete an event, its picture, and what was to be delivered of it; raises NotFound."""
        if not self._remove(keys=[self._prefix], args=[event_id]):
            raise _no_event(event_id)

    @verb
    def remove_events(self) -> None:
        """Delete all events."""
        self._remove(keys=[self._prefix], args=[])

    def _with_deliveries(self, rows: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[KeptEvent]:
        with self._redis.pipeline(transaction=False) as pipe:
            for id_, _ in rows:
                key = self._key("event", id_.decode())
                pipe.exists(f"{key}:picture")
                pipe.hgetall(f"{key}:deliveries")
            more = pipe.execute()
        return [
            KeptEvent(
                Event.from_json(values[b"event"], id_.decode()),
                bool(more[2 * i]),
                {
                    t.decode(): Delivery.from_json(row)
                    for t, row in sorted(
                        more[2 * i + 1].items(),
                        key=lambda each: (each[0] == MQTT.encode(), each[0]),
                    )
                },
            )
            for i, (id_, values) in enumerate(rows)
        ]


def targets_of(rule: Rule, mqtt: str) -> dict[str, Delivery]:
    """Where the events of a rule go, and how the targets may be called; `mqtt`: see `lead`."""
    targets = {f"{rule.id}.{hook.id}": Delivery(hook.masked) for hook in rule.webhooks}
    if mqtt:
        targets[MQTT] = Delivery(mqtt)
    return targets


def _no_rule(rule_id: str) -> NotFound:
    return NotFound(f"There is no rule {rule_id[:40]!r}: GET /api/rules lists all.")


def _no_event(event_id: str) -> NotFound:
    return NotFound(f"There is no event {event_id[:40]!r} (any more): GET /api/events lists all.")
