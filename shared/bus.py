"""The one door to Redis: every key, cap, expiry and encoding, behind some two dozen verbs.

What it promises:

- A feed's frames live in a capped stream, so memory cannot grow; nothing here touches a disk.
- A feed is served by one worker at a time. A claim is a lease with a fencing number: a worker
  whose lease ran out cannot publish, and the feed goes to somebody else.
- A frame is published once: its result carries the frame's own id, and the claim's cursor moves
  in the same transaction that writes the results.
- No wake-up is lost: publishing looks again for newer frames in that same transaction, and every
  new frame makes its feed ready unless a live lease holds it.
- Leases and staleness are measured by Redis's clock, so workers' clocks do not matter. The list of
  workers, delays and the timeline compare clocks of machines: keep those within a second.

What it leaves out: what the jobs are (`shared.jobs`) and what is in a picture. Needs Redis 6.2.
Every verb raises BusError where Redis cannot be reached.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import redis
import redis.client

from shared.connection import connect, speaking
from shared.errors import InvalidRecord, LeaseLost, NotFound
from shared.schema import (
    GLIMPSES,
    CaptureReport,
    Claim,
    Degraded,
    Drop,
    Feed,
    FeedState,
    FeedStatus,
    FirstPicture,
    Frame,
    FrameResult,
    Outcome,
    Timeline,
    TimelinePoint,
    Trial,
    Trouble,
    WorkerReport,
)
from shared.source import Source, mask_address

LEASE_S = 1.2  # a killed worker's feeds wait this long; renewed at every third of it
MAX_RESULTS = 64  # results a feed keeps for the page: some four seconds at 15 frames/s
PICTURES_TTL_S = 10.0  # of a feed whose camera sends nothing more, pictures go after this
FRAMES_KEPT_S = 2.0  # frames a feed keeps: four times the default staleness budget
EVERY_FRAME_S = 120.0  # so far back a timeline has each frame; further back, a mean a second
CAPTURE_TTL_S = 5.0  # a feed whose capture process said nothing for so long has none
WORKER_TTL_S = 8.0
VIEWERS_TTL_S = 8.0
_DEGRADED_TTL_S = 3.0  # of a feed without frames nothing is left out
TRIAL_TTL_S = 6.0  # of a source that is tried, question and answer are forgotten after this
OWNER_TTL_S = 2.5  # after a capture process was killed, its feeds wait this long
_RECENT = 240  # latencies kept a feed, for percentiles and frames/s
_ASIDE = 20  # reasons kept a feed for frames that could not be analysed
_TRIALS_WAITING = 4  # sources that wait to be tried, at most
_DRAIN_WAIT_MS = 40  # a feed that waits longer asks for one more worker
_DRAIN_QUEUED_MS = 1500  # how long a queued drain job counts as on its way

_PREFIX = "moodline:"

# Each script gets the prefix as KEYS[1] and builds its keys from it: one feed's keys are many, and
# a feed is never spread over several Redis servers.
_TIME = """
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function ready(feed)
  if redis.call('ZADD', P..'ready', 'NX', now, feed) == 1
      and redis.call('LLEN', P..'wake') < 64 then
    redis.call('RPUSH', P..'wake', '1')
  end
end
"""

_PUT_FRAME = (
    _TIME
    + """
-- The picture comes last: Redis reads a large argument by itself, and what follows it once more.
local feed, after_seq, cap = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if redis.call('HEXISTS', P..'feeds', feed) == 0 then return {0, 0} end
local key = P..'feed:'..feed
local seq = redis.call('HINCRBY', key..':counters', 'seq', 1)
if seq <= after_seq then
  seq = after_seq + 1
  redis.call('HSET', key..':counters', 'seq', seq)
end
local id = redis.call('XADD', key..':frames', 'MAXLEN', cap, '*',
  'seq', seq, 'at', ARGV[4], 'jpeg', ARGV[9])
redis.call('PEXPIRE', key..':frames', ARGV[8])
redis.call('HSET', key..':counters', 'newest', id)
redis.call('HINCRBY', key..':counters', 'captured', 1)
if redis.call('EXISTS', key..':lease') == 0 then ready(feed) end
redis.call('ZREMRANGEBYSCORE', P..'drains', '-inf', now - tonumber(ARGV[5]))
local alive = redis.call('ZCARD', P..'drains')
local oldest = redis.call('ZRANGE', P..'ready', 0, 0, 'WITHSCORES')
local wanted = alive == 0 or (oldest[2] and now - tonumber(oldest[2]) > tonumber(ARGV[6]))
if wanted and redis.call('SET', P..'drain', '1', 'NX', 'PX', ARGV[7]) then return {seq, 1} end
return {seq, 0}
"""
)

_CLAIM = (
    _TIME
    + """
local drain, max_feeds, max_frames = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local max_age, lease_ms = tonumber(ARGV[4]), ARGV[5]
redis.call('ZADD', P..'drains', now, drain)
redis.call('ZREMRANGEBYSCORE', P..'drains', '-inf', now - tonumber(lease_ms))
local waiting = redis.call('ZCARD', P..'ready')
if waiting == 0 then redis.call('DEL', P..'wake') return {} end
local share = math.ceil(waiting / redis.call('ZCARD', P..'drains'))
local claims = {}
for _, feed in ipairs(redis.call('ZRANGE', P..'ready', 0, math.min(share, max_feeds) - 1)) do
  local key = P..'feed:'..feed
  redis.call('ZREM', P..'ready', feed)
  local fence = redis.call('INCR', P..'fence')
  if redis.call('HEXISTS', P..'feeds', feed) == 1
      and redis.call('SET', key..':lease', fence, 'NX', 'PX', lease_ms) then
    local old = redis.call('HMGET', key..':counters', 'cursor', 'cursor_seq')
    local cursor, cursor_seq = old[1] or '0', tonumber(old[2] or '0')
    local found = redis.call('XREVRANGE', key..':frames', '+', '('..cursor, 'COUNT', max_frames)
    local frames, stale = {}, 0
    for i = #found, 1, -1 do
      local id, values = found[i][1], found[i][2]
      local seq = tonumber(values[2])
      if seq > cursor_seq then
        if cursor_seq > 0 and seq > cursor_seq + 1 then
          redis.call('HINCRBY', key..':counters', 'drop:overrun', seq - cursor_seq - 1)
        end
        cursor, cursor_seq = id, seq
        if now - tonumber(string.match(id, '^%d+')) > max_age then
          stale = stale + 1
        else
          frames[#frames + 1] = {id, values[2], values[4], values[6]}
        end
      end
    end
    if stale > 0 then redis.call('HINCRBY', key..':counters', 'drop:stale', stale) end
    -- What was dropped is counted once, also if this claim comes to nothing and others take over.
    if frames[1] then
      redis.call('HSET', key..':counters', 'cursor_seq', tonumber(frames[1][2]) - 1)
    else
      redis.call('HSET', key..':counters', 'cursor', cursor, 'cursor_seq', cursor_seq)
    end
    if #frames == 0 then
      redis.call('DEL', key..':lease')
    else
      local waited = now - tonumber(string.match(frames[1][1], '^%d+'))
      local state = redis.call('GET', key..':state') or ''
      local glimpses = redis.call('GET', key..':glimpses') or ''
      claims[#claims + 1] = {feed, fence, state, glimpses, frames, waited}
    end
  end
end
return claims
"""
)

_RENEW = """
local P = KEYS[1]
local clock = redis.call('TIME')
redis.call('ZADD', P..'drains', clock[1] * 1000 + math.floor(clock[2] / 1000), ARGV[1])
for i = 3, #ARGV, 2 do
  local key = P..'feed:'..ARGV[i]..':lease'
  if redis.call('GET', key) == ARGV[i + 1] then redis.call('PEXPIRE', key, ARGV[2]) end
end
return 1
"""

_PUBLISH = (
    _TIME
    + """
local i, taken = 11, {}
local max_results, timeline_ms, recent = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local aside, model, pictures_ms = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local every_frame_ms, unsure_below = tonumber(ARGV[7]), tonumber(ARGV[8])
local degraded, degraded_ms = ARGV[9], ARGV[10]

-- Adds a frame's points to the sums of its second; what came of the second before becomes means.
-- Rows are {track, frames, of them unsure, score, ...}.
local function condense(key, points)
  local frame = cjson.decode(points)
  local second, rows = math.floor(frame[1]), frame[2]
  local kept = redis.call('GET', key..':second')
  kept = kept and cjson.decode(kept)
  if kept and (kept[1] ~= second or #kept[2][1] ~= #rows[1] + 2) then
    local means = {}
    for m, sums in ipairs(kept[2]) do
      for k = 4, #sums do sums[k] = string.format('%.3f', sums[k] / sums[2]) end
      means[m] = '['..table.concat(sums, ',')..']'
    end
    redis.call('XADD', key..':past', 'MINID', now - timeline_ms, '*',
      's', '['..kept[1]..',['..table.concat(means, ',')..']]')
    redis.call('PEXPIRE', key..':past', timeline_ms)
    kept = nil
  end
  kept = kept or {second, {}}
  for _, row in ipairs(rows) do
    local sums
    for _, each in ipairs(kept[2]) do
      if each[1] == row[1] then sums = each break end
    end
    if not sums then
      sums = {row[1], 0, 0}
      for k = 2, #row do sums[k + 2] = 0 end
      kept[2][#kept[2] + 1] = sums
    end
    local largest = 0
    for k = 2, #row do
      sums[k + 2] = sums[k + 2] + row[k]
      largest = math.max(largest, row[k])
    end
    sums[2] = sums[2] + 1
    if largest < unsure_below then sums[3] = sums[3] + 1 end
  end
  redis.call('SET', key..':second', cjson.encode(kept), 'PX', timeline_ms)
end

while i <= #ARGV do
  local feed, fence, state, glimpses = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local count = tonumber(ARGV[i + 4])
  i = i + 5
  local key = P..'feed:'..feed
  local held = redis.call('GET', key..':lease') == fence
  local removed = redis.call('HEXISTS', P..'feeds', feed) == 0
  taken[#taken + 1] = (held or removed) and 1 or 0
  for _ = 1, count do
    local id, seq, result, points, latency, reason =
      ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    i = i + 6
    if held then
      if reason ~= '' then
        redis.call('HINCRBY', key..':counters', 'drop:corrupt', 1)
        redis.call('LPUSH', key..':aside', id..' '..reason)
        redis.call('LTRIM', key..':aside', 0, aside - 1)
      else
        redis.call('XADD', key..':results', 'MAXLEN', max_results, id, 'r', result)
        redis.call('PEXPIRE', key..':results', pictures_ms)
        if points ~= '' then
          redis.call('XADD', key..':timeline', 'MINID', now - every_frame_ms, id, 'p', points)
          redis.call('PEXPIRE', key..':timeline', every_frame_ms)
          condense(key, points)
        end
        redis.call('HINCRBY', key..':counters', 'analysed', 1)
        redis.call('LPUSH', key..':recent', now..' '..latency)
      end
      redis.call('HSET', key..':counters', 'cursor', id, 'cursor_seq', seq)
    end
  end
  if held then
    redis.call('LTRIM', key..':recent', 0, recent - 1)
    redis.call('SET', key..':state', state)
    if glimpses == '' then redis.call('DEL', key..':glimpses')
    else redis.call('SET', key..':glimpses', glimpses, 'PX', pictures_ms) end
    redis.call('SET', key..':model', model)
    if degraded == '' then redis.call('DEL', key..':degraded')
    else redis.call('SET', key..':degraded', degraded, 'PX', degraded_ms) end
    redis.call('DEL', key..':lease')
    local marks = redis.call('HMGET', key..':counters', 'newest', 'cursor')
    if marks[1] ~= marks[2] then ready(feed) end
  end
end
return taken
"""
)

_TICK = (
    _TIME
    + """
local feeds = redis.call('HKEYS', P..'feeds')
for _, feed in ipairs(feeds) do
  local key = P..'feed:'..feed
  local marks = redis.call('HMGET', key..':counters', 'newest', 'cursor')
  if marks[1] and marks[1] ~= marks[2] and redis.call('EXISTS', key..':lease') == 0 then
    ready(feed)
  end
end
redis.call('ZREMRANGEBYSCORE', P..'drains', '-inf', now - tonumber(ARGV[1]))
if redis.call('ZCARD', P..'ready') > 0 and redis.call('ZCARD', P..'drains') == 0
    and redis.call('SET', P..'drain', '1', 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
"""
)

# The latencies come as one text a feed: read one by one they were most of what this took.
_STATUSES = """
local P = KEYS[1]
local rows = {redis.call('HGETALL', P..'viewers'), redis.call('EXISTS', P..'capturing')}
for _, feed in ipairs(ARGV) do
  local key = P..'feed:'..feed
  rows[#rows + 1] = {
    redis.call('HGET', P..'feeds', feed),
    redis.call('HGETALL', key..':capture'),
    redis.call('HGETALL', key..':counters'),
    table.concat(redis.call('LRANGE', key..':recent', 0, -1), ' '),
    redis.call('LINDEX', key..':aside', 0),
    redis.call('GET', key..':degraded')
  }
end
return rows
"""

_OWN = """
local key = KEYS[1]..'feed:'..ARGV[1]..':owner'
local owner = redis.call('GET', key)
if owner and owner ~= ARGV[2] then return 0 end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return 1
"""

_RESTORE = """
local P = KEYS[1]
if redis.call('SET', P..'feeds:restored', '1', 'NX') == false then return 0 end
for i = 1, #ARGV, 2 do redis.call('HSETNX', P..'feeds', ARGV[i], ARGV[i + 1]) end
redis.call('INCR', P..'feeds:version')
return 1
"""

# Every key of one feed beside its row in the registry: removing a feed removes them all.
_FEED_KEYS = (
    "frames",
    "results",
    "timeline",
    "past",
    "second",
    "counters",
    "recent",
    "aside",
    "degraded",
    "state",
    "glimpses",
    "model",
    "lease",
    "capture",
    "owner",
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _verb(
    method: Callable[Concatenate[Bus, _P], _R],
) -> Callable[Concatenate[Bus, _P], _R]:
    """Turn Redis's errors into BusError, with the address and without its password."""

    def speak(self: Bus, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with speaking(self.address, UnicodeError, TypeError):
            return method(self, *args, **kwargs)

    return functools.update_wrapper(cast("Callable[Concatenate[Bus, _P], _R]", speak), method)


@dataclass(frozen=True, slots=True)
class PutResult:
    """`seq` of the stored frame, 0 if the feed was removed; `wake`: enqueue a drain job."""

    seq: int
    wake: bool


@dataclass(frozen=True, slots=True)
class Analysed:
    """A result with the very picture it belongs to (None once the picture has been trimmed)."""

    id: str
    result: FrameResult
    jpeg: bytes | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Feeds that wait for a worker: how many, for how long the first of them, and who serves."""

    ready: int
    oldest_s: float
    drains: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What Redis holds, in bytes; `limit_bytes` 0: as much as the machine has."""

    used_bytes: int
    limit_bytes: int


class Bus:
    """The verbs. Safe to share between threads; make a new one after a fork."""

    def __init__(self, url: str, *, prefix: str = _PREFIX) -> None:
        self.url = url
        self.address = mask_address(url)
        self._prefix = prefix
        self._redis = connect(url)
        self._held: list[redis.Redis] = []
        self._put_frame = self._redis.register_script(_PUT_FRAME)
        self._claim = self._redis.register_script(_CLAIM)
        self._renew = self._redis.register_script(_RENEW)
        self._publish = self._redis.register_script(_PUBLISH)
        self._tick = self._redis.register_script(_TICK)
        self._statuses = self._redis.register_script(_STATUSES)
        self._own = self._redis.register_script(_OWN)
        self._restore = self._redis.register_script(_RESTORE)

    def close(self) -> None:
        self._held.clear()
        self._redis.close()

    @contextlib.contextmanager
    def _line(self) -> Iterator[redis.Redis]:
        """A connection that nobody else uses meanwhile, for what is asked with every frame.

        Before redis-py's pool hands out a connection it reads from it, for which three calls of the
        system and an exception take as long as the rest of a short command does. Here a connection
        that broke is found out by the command, and made anew.
        """
        try:
            line = self._held.pop()
        except IndexError:
            line = cast("redis.Redis", self._redis.client())  # type: ignore[no-untyped-call]
        try:
            yield line
        except BaseException:  # an answer may still be on its way, which nobody else is to get
            if line.connection is not None:
                line.connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            self._held.append(line)

    def _call(self, script: redis.commands.core.Script, args: Sequence[Any]) -> Any:
        with self._line() as line:
            return script(keys=[self._prefix], args=args, client=line)

    @_verb
    def ping(self) -> None:
        """Return if Redis answers."""
        self._redis.ping()

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _feed_key(self, feed_id: str, what: str) -> str:
        return self._key("feed", feed_id, what)

    # Feeds: the registry

    @_verb
    def put_feed(self, feed: Feed) -> None:
        """Add a feed, or replace the one with its id."""
        with self._redis.pipeline() as pipe:
            pipe.hset(self._key("feeds"), feed.id, feed.to_json())
            pipe.incr(self._key("feeds", "version"))
            pipe.execute()

    @_verb
    def change_feed(self, feed_id: str, change: Callable[[Feed], Feed]) -> Feed:
        """Replace a feed by what `change` makes of it; returns that.

        Others' changes meanwhile are not lost (`change` is called again), and a feed that was
        removed stays so: raises NotFound. What `change` raises comes through.
        """
        return self._change_feeds(lambda rows: [change(_named(rows, feed_id))])[0]

    @_verb
    def order_feeds(self, feed_ids: Sequence[str]) -> list[Feed]:
        """List these feeds first, in this order, and all others behind them; returns all.

        Raises NotFound where one of them is no feed.
        """

        def place(rows: dict[str, Feed]) -> list[Feed]:
            others = [feed.id for feed in _in_order(rows.values()) if feed.id not in feed_ids]
            wanted = [*feed_ids, *others]
            return [replace(_named(rows, id_), place=float(i)) for i, id_ in enumerate(wanted)]

        return self._change_feeds(place)

    def _change_feeds(self, change: Callable[[dict[str, Feed]], list[Feed]]) -> list[Feed]:
        key = self._key("feeds")

        def attempt(pipe: redis.client.Pipeline) -> list[Feed]:
            found = cast("dict[bytes, bytes]", pipe.hgetall(key))
            rows = {id_.decode(): Feed.from_json(row) for id_, row in found.items()}
            feeds = change(rows)
            pipe.multi()
            for feed in feeds:
                if feed != rows[feed.id]:
                    pipe.hset(key, feed.id, feed.to_json())
            pipe.incr(self._key("feeds", "version"))
            return feeds

        return cast(
            "list[Feed]",
            self._redis.transaction(cast("Any", attempt), key, value_from_callable=True),
        )

    @_verb
    def remove_feed(self, feed_id: str) -> None:
        """Remove a feed and all that is kept of it; raises NotFound."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(self._key("feeds"), feed_id)
            pipe.incr(self._key("feeds", "version"))
            pipe.zrem(self._key("ready"), feed_id)
            pipe.delete(*(self._feed_key(feed_id, what) for what in _FEED_KEYS))
            removed = pipe.execute()[0]
        if not removed:
            raise _no_feed(feed_id)

    @_verb
    def feeds(self) -> list[Feed]:
        """All feeds, in the order that people have given them; new ones come last."""
        rows = cast("dict[bytes, bytes]", self._redis.hgetall(self._key("feeds")))
        return _in_order(map(Feed.from_json, rows.values()))

    @_verb
    def feed(self, feed_id: str) -> Feed:
        """One feed; raises NotFound."""
        row = cast("bytes | None", self._redis.hget(self._key("feeds"), feed_id))
        if row is None:
            raise _no_feed(feed_id)
        return Feed.from_json(row)

    @_verb
    def feeds_version(self) -> int | None:
        """A number that rises with each change; None: the registry is new, nothing restored yet."""
        restored, version = cast(
            "list[bytes | None]",
            self._redis.mget(self._key("feeds", "restored"), self._key("feeds", "version")),
        )
        return None if restored is None else int(version or 0)

    @_verb
    def registry_id(self) -> str:
        """A name for this registry; another one once Redis has forgotten it and begun anew."""
        with self._redis.pipeline() as pipe:
            pipe.set(self._key("feeds", "id"), secrets.token_hex(8), nx=True)
            pipe.get(self._key("feeds", "id"))
            return bytes(pipe.execute()[1]).decode()

    @_verb
    def restore_feeds(self, feeds: Sequence[Feed]) -> bool:
        """Fill a new registry once, keeping what was added meanwhile; False if it was not new."""
        rows = [part for feed in feeds for part in (feed.id, feed.to_json())]
        return bool(self._restore(keys=[self._prefix], args=rows))

    # Capture

    @_verb
    def own_feed(self, feed_id: str, owner: str) -> bool:
        """Take or renew the right to capture a feed, for `OWNER_TTL_S`; False: it is another's."""
        return bool(self._own(keys=[self._prefix], args=[feed_id, owner, int(OWNER_TTL_S * 1000)]))

    @_verb
    def capture_runs(self) -> None:
        """Say that a capture process follows the registry; counts for `CAPTURE_TTL_S`."""
        self._redis.set(self._key("capturing"), "1", px=int(CAPTURE_TTL_S * 1000))

    @_verb
    def capture_is_running(self) -> bool:
        """Whether a capture process has followed the registry lately."""
        return bool(self._redis.exists(self._key("capturing")))

    @_verb
    def ask_trial(self, source: Source) -> Trial | None:
        """Ask for a source's first picture whichever capture process takes it; None: too many wait.

        The question holds the source's password, and is forgotten after `TRIAL_TTL_S`.
        """
        if self._redis.llen(self._key("trials")) >= _TRIALS_WAITING:
            return None
        trial, ttl_ms = Trial(secrets.token_hex(8), source), int(TRIAL_TTL_S * 1000)
        with self._redis.pipeline() as pipe:
            pipe.set(self._key("trial", trial.id), source.text, px=ttl_ms)
            pipe.lpush(self._key("trials"), trial.id)
            pipe.pexpire(self._key("trials"), ttl_ms)
            pipe.execute()
        return trial

    @_verb
    def take_trial(self) -> Trial | None:
        """The trial that has waited longest, for the caller to answer; None: there is none."""
        while (taken := cast("bytes | None", self._redis.rpop(self._key("trials")))) is not None:
            id_ = taken.decode()
            text = cast("bytes | None", self._redis.getdel(self._key("trial", id_)))
            if text is not None:  # else nobody waits for it any more
                return Trial(id_, Source.parse(text.decode()))
        return None

    @_verb
    def withdraw_trial(self, trial_id: str) -> bool:
        """Take a question back; False: it was taken already, so an answer is on its way."""
        return bool(self._redis.delete(self._key("trial", trial_id)))

    @_verb
    def answer_trial(self, trial_id: str, answer: FirstPicture) -> None:
        """Say what a trial gave; forgotten after `TRIAL_TTL_S` if nobody asks."""
        head = json.dumps(
            {"problem": answer.problem, "feed": answer.feed, "trouble": answer.trouble}
        ).encode()
        with self._redis.pipeline() as pipe:
            pipe.rpush(self._key("trial", trial_id, "answer"), head + b"\n" + answer.jpeg)
            pipe.pexpire(self._key("trial", trial_id, "answer"), int(TRIAL_TTL_S * 1000))
            pipe.execute()

    @_verb
    def first_picture(self, trial_id: str, timeout_s: float) -> FirstPicture | None:
        """Wait for what a trial gave, `timeout_s` at most (2 s and no more); None: not yet."""
        found = cast(
            "tuple[bytes, bytes] | None",
            self._redis.blpop([self._key("trial", trial_id, "answer")], timeout=timeout_s),
        )
        if found is None:
            return None
        head, _, jpeg = found[1].partition(b"\n")
        return FirstPicture(jpeg, **json.loads(head))

    @_verb
    def newest_frame(self, feed_id: str) -> bytes | None:
        """The JPEG captured last, analysed or not; None once it is too old."""
        rows = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            self._redis.xrevrange(self._feed_key(feed_id, "frames"), count=1),
        )
        return rows[0][1][b"jpeg"] if rows else None

    @_verb
    def put_frame(
        self, feed: Feed, jpeg: bytes, captured_at: float, *, after_seq: int = 0
    ) -> PutResult:
        """Store a captured picture and make its feed ready.

        `after_seq` is the last `seq` this capture process was given, so that numbers go on rising
        when Redis has lost its memory.
        """
        cap = max(8, round(feed.fps * FRAMES_KEPT_S))
        args = [
            feed.id,
            after_seq,
            cap,
            repr(captured_at),
            int(LEASE_S * 1000),
            _DRAIN_WAIT_MS,
            _DRAIN_QUEUED_MS,
            int(PICTURES_TTL_S * 1000),
            jpeg,
        ]
        seq, wake = self._call(self._put_frame, args)
        return PutResult(int(seq), bool(wake))

    @_verb
    def report_capture(self, feed_id: str, report: CaptureReport) -> None:
        """Say how the capture of a feed goes; counts for `CAPTURE_TTL_S`."""
        key = self._feed_key(feed_id, "capture")
        with self._redis.pipeline() as pipe:
            pipe.hset(
                key,
                mapping={
                    "state": report.state,
                    "error": report.error,
                    "fps_in": report.fps_in,
                    "reconnects": report.reconnects,
                    "too_fast": report.too_fast,
                    "trouble": report.trouble,
                },
            )
            pipe.pexpire(key, int(CAPTURE_TTL_S * 1000))
            pipe.execute()

    @_verb
    def tick(self) -> bool:
        """Make every forgotten feed ready again; True: enqueue a drain job. The safety net."""
        return bool(self._tick(keys=[self._prefix], args=[int(LEASE_S * 1000), _DRAIN_QUEUED_MS]))

    # Workers

    @_verb
    def drain_started(self) -> None:
        """A queued drain job has begun: the next one may be queued."""
        self._redis.delete(self._key("drain"))

    @_verb
    def drain_ended(self, drain: str) -> bool:
        """A drain gives up its share; True if feeds are waiting and none is queued: enqueue one."""
        with self._redis.pipeline() as pipe:
            pipe.zrem(self._key("drains"), drain)
            pipe.zcard(self._key("ready"))
            waiting = int(pipe.execute()[1])
        return waiting > 0 and bool(
            self._redis.set(self._key("drain"), "1", nx=True, px=_DRAIN_QUEUED_MS)
        )

    @_verb
    def claim(
        self, drain: str, *, max_feeds: int, max_frames: int, staleness_s: float
    ) -> list[Claim]:
        """Take ready feeds, longest waiting first, with their newest pending frames.

        Each drain takes its even share of the ready feeds, `max_feeds` at most, and of a feed the
        newest `max_frames`. Older ones, and those past `staleness_s`, are dropped and counted.
        """
        rows = self._call(
            self._claim,
            [drain, max_feeds, max_frames, int(staleness_s * 1000), int(LEASE_S * 1000)],
        )
        claims = []
        for feed, fence, state, glimpses, frames, waited_ms in rows:
            name = feed.decode()
            known = json.loads(state) if state else None
            if known is not None and glimpses:
                known[GLIMPSES] = json.loads(glimpses)
            claims.append(
                Claim(
                    name,
                    int(fence),
                    known,
                    tuple(
                        Frame(name, id_.decode(), int(seq), float(at), jpeg)
                        for id_, seq, at, jpeg in frames
                    ),
                    waited_ms / 1000,
                )
            )
        return claims

    @_verb
    def wait_ready(self, timeout_s: float) -> None:
        """Sleep until a feed becomes ready, `timeout_s` at most."""
        self._redis.blpop([self._key("wake")], timeout=timeout_s)

    @_verb
    def renew(self, drain: str, claims: Sequence[Claim]) -> None:
        """Hold on to claims that are still being worked on."""
        held = [part for claim in claims for part in (claim.feed, claim.fence)]
        self._call(self._renew, [drain, int(LEASE_S * 1000), *held])

    @_verb
    def publish(
        self,
        outcomes: Sequence[tuple[Claim, Mapping[str, Any], Sequence[Outcome]]],
        *,
        labels: Sequence[str],
        unsure_below: float,
        timeline_s: float,
        degraded: Degraded = Degraded.NO,
    ) -> list[LeaseLost]:
        """Write results, the tracker's state and the cursor of several claims, and release them.

        `labels` and `unsure_below` are the model's, for whoever reads the timeline. `degraded` is
        what was left out of these frames; it counts for `_DEGRADED_TTL_S`. What a state holds of
        pictures (`GLIMPSES`) goes when they do, after `PICTURES_TTL_S`.
        All of one claim or nothing of it: those whose lease ran out come back as LeaseLost. What
        is left of a feed that was removed meanwhile goes nowhere, and nobody is told.
        """
        args: list[str | int | float] = [
            MAX_RESULTS,
            int(timeline_s * 1000),
            _RECENT,
            _ASIDE,
            json.dumps({"labels": list(labels), "unsure_below": unsure_below}),
            int(PICTURES_TTL_S * 1000),
            int(min(timeline_s, EVERY_FRAME_S) * 1000),
            unsure_below,
            degraded.value,
            int(_DEGRADED_TTL_S * 1000),
        ]
        for claim, state, rows in outcomes:
            kept = {part: value for part, value in state.items() if part != GLIMPSES}
            state_json = json.dumps(kept, separators=(",", ":"))
            glimpses = state.get(GLIMPSES)
            glimpses_json = json.dumps(glimpses, separators=(",", ":")) if glimpses else ""
            args += [claim.feed, claim.fence, state_json, glimpses_json, len(rows)]
            for row in rows:
                args += [row.frame.id, row.frame.seq, *_result_fields(row, labels)]
        taken = self._call(self._publish, args)
        return [
            LeaseLost(f"The claim {claim.fence} on feed {claim.feed} ran out before publishing.")
            for (claim, _, _), held in zip(outcomes, taken, strict=True)
            if not held
        ]

    @_verb
    def report_worker(self, report: WorkerReport) -> None:
        """Say that a worker is there and what it has done; counts for `WORKER_TTL_S`."""
        row = json.dumps({"seen_at": time.time(), "report": report.to_json()})
        self._redis.hset(self._key("workers"), report.name, row)

    @_verb
    def remove_worker(self, name: str) -> None:
        """A worker has ended in good order."""
        self._redis.hdel(self._key("workers"), name)

    @_verb
    def workers(self) -> list[WorkerReport]:
        """The workers that reported lately; forgets the others."""
        rows = cast("dict[bytes, bytes]", self._redis.hgetall(self._key("workers")))
        alive, gone = [], []
        for name, row in rows.items():
            entry = json.loads(row)
            if time.time() - entry["seen_at"] > WORKER_TTL_S:
                gone.append(name.decode())
            else:
                alive.append(WorkerReport.from_json(entry["report"]))
        if gone:
            self._redis.hdel(self._key("workers"), *gone)
        return sorted(alive, key=lambda report: report.name)

    @_verb
    def backlog(self) -> Backlog:
        """What waits for workers now, by Redis's clock: what tells whether there are enough."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zcard(self._key("ready"))
            pipe.zrange(self._key("ready"), 0, 0, withscores=True)
            pipe.zcard(self._key("drains"))
            (seconds, micros), ready, oldest, drains = pipe.execute()
        now_ms = seconds * 1000 + micros / 1000
        oldest_s = (now_ms - oldest[0][1]) / 1000 if oldest else 0.0
        return Backlog(ready, max(0.0, oldest_s), drains)

    @_verb
    def memory(self) -> Memory:
        """How much memory Redis uses, and may use."""
        info = self._redis.info("memory")
        return Memory(info["used_memory"], info["maxmemory"])

    # Web

    @_verb
    def latest(self, feed_id: str) -> Analysed | None:
        """The newest result of a feed with its picture."""
        rows = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            self._redis.xrevrange(self._feed_key(feed_id, "results"), count=1),
        )
        return self._with_pictures([(feed_id, *rows[0])])[0] if rows else None

    @_verb
    def results_after(
        self, cursors: Mapping[str, str], block_s: float, *, pictures: bool = True
    ) -> list[Analysed]:
        """Results newer than the given id of each feed (``0``: all kept), oldest first a feed.

        Waits `block_s` at most for the first one. Without `pictures` none is fetched.
        """
        streams = {self._feed_key(feed, "results"): id_ for feed, id_ in cursors.items()}
        with self._line() as line:
            found = cast(
                "list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]",
                line.xread(cast("Any", streams), block=max(1, int(block_s * 1000))) or [],
            )
        if isinstance(found, dict):
            found = [(key, entries) for key, groups in found.items() for entries in groups]
        feeds = {self._feed_key(feed, "results").encode(): feed for feed in cursors}
        rows = [(feeds[key], id_, values) for key, entries in found for id_, values in entries]
        if pictures:
            return self._with_pictures(rows)
        return [Analysed(id_.decode(), FrameResult.from_json(v[b"r"]), None) for _, id_, v in rows]

    @_verb
    def picture(self, feed_id: str, result_id: str) -> bytes | None:
        """The very picture that a result belongs to; None once it has been trimmed."""
        rows = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            self._redis.xrange(self._feed_key(feed_id, "frames"), result_id, result_id),
        )
        return rows[0][1][b"jpeg"] if rows else None

    @_verb
    def frames_after(self, feed_id: str, id_: str, *, block_s: float, count: int) -> list[Frame]:
        """The captured frames of a feed after the one with this id, oldest first, `count` at most.

        Waits `block_s` at most for the first one. An id is Redis's time of storing, in milliseconds
        and a number: ``1700000000000-0``.
        """
        found = cast(
            "list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]",
            self._redis.xread(
                {self._feed_key(feed_id, "frames"): id_},
                count=count,
                block=max(1, int(block_s * 1000)),
            )
            or [],
        )
        return [
            Frame(feed_id, entry.decode(), int(row[b"seq"]), float(row[b"at"]), row[b"jpeg"])
            for _, entries in found
            for entry, row in entries
        ]

    def _with_pictures(
        self, rows: Sequence[tuple[str, bytes, dict[bytes, bytes]]]
    ) -> list[Analysed]:
        with self._redis.pipeline(transaction=False) as pipe:
            for feed, id_, _ in rows:
                pipe.xrange(self._feed_key(feed, "frames"), id_, id_)
            pictures = pipe.execute()
        return [
            Analysed(
                id_.decode(),
                FrameResult.from_json(values[b"r"]),
                picture[0][1][b"jpeg"] if picture else None,
            )
            for (_, id_, values), picture in zip(rows, pictures, strict=True)
        ]

    @_verb
    def timeline(self, feed_id: str, since: float) -> Timeline:
        """The points of a feed captured at or after `since` (epoch seconds), oldest first.

        One a frame where `since` is within the last `EVERY_FRAME_S`, else means, one a second.
        """
        # Entry ids are Redis's time of storing, captured_at is the camera machine's: some slack.
        start = max(0, int((since - 1.0) * 1000))
        each_frame = since >= time.time() - EVERY_FRAME_S
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._feed_key(feed_id, "model"))
            pipe.get(self._feed_key(feed_id, "second"))
            pipe.xrange(self._feed_key(feed_id, "timeline" if each_frame else "past"), min=start)
            model_json, sums, rows = pipe.execute()
        model: dict[str, Any] = {"labels": [], "unsure_below": 0.0}
        model.update(json.loads(model_json) if model_json else {})
        found = _frames(rows, model["unsure_below"]) if each_frame else _seconds(rows, sums)
        points = [p for p in found if p.t >= since and len(p.scores) == len(model["labels"])]
        return Timeline(tuple(model["labels"]), model["unsure_below"], tuple(points))

    @_verb
    def put_viewers(self, web: str, viewers: Mapping[str, int]) -> None:
        """Say how many viewers each feed has in one web process; counts for `VIEWERS_TTL_S`."""
        row = json.dumps({"seen_at": time.time(), "viewers": dict(viewers)})
        self._redis.hset(self._key("viewers"), web, row)

    @_verb
    def statuses(self, feed_ids: Sequence[str]) -> dict[str, FeedStatus]:
        """How each of these feeds is doing."""
        viewers_rows, capturing, *rows = self._call(self._statuses, feed_ids)
        now = time.time()
        viewers: dict[str, int] = {}
        for web, row in _pairs(viewers_rows).items():
            entry = json.loads(row)
            if now - entry["seen_at"] > VIEWERS_TTL_S:
                self._redis.hdel(self._key("viewers"), web)
                continue
            for feed_id, count in entry["viewers"].items():
                viewers[feed_id] = viewers.get(feed_id, 0) + count
        return {
            feed_id: _status(
                *row,
                capturing=bool(capturing),
                viewers=viewers.get(feed_id, 0),
                now=now,
            )
            for feed_id, row in zip(feed_ids, rows, strict=True)
        }


def _pairs(row: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash as a script gives it: fields and values in turns."""
    return dict(zip(row[::2], row[1::2], strict=True))


def _in_order(feeds: Iterable[Feed]) -> list[Feed]:
    return sorted(feeds, key=lambda feed: (feed.place, feed.created_at, feed.id))


def _named(feeds: Mapping[str, Feed], feed_id: str) -> Feed:
    if feed_id not in feeds:
        raise _no_feed(feed_id)
    return feeds[feed_id]


def _no_feed(feed_id: str) -> NotFound:
    return NotFound(f"There is no feed {feed_id[:40]!r}: list them with `moodline feeds list`.")


def _result_fields(row: Outcome, labels: Sequence[str]) -> tuple[str, str, str, str]:
    """Result, timeline points, latency and reason as the publishing script takes them."""
    if row.result is None:
        return "", "", "", row.reason or "unknown"
    if row.reason:
        raise InvalidRecord(f"expected a result or a reason, got both for frame {row.frame.id}")
    tracks = [
        [face.track, *(round(face.scores[label], 3) for label in labels)]
        for face in row.result.faces
    ]
    points = json.dumps([row.result.captured_at, tracks], separators=(",", ":")) if tracks else ""
    return row.result.to_json(), points, f"{row.result.latency_ms:.1f}", ""


_Rows = Sequence[tuple[bytes, dict[bytes, bytes]]]


def _frames(rows: _Rows, unsure_below: float) -> Iterator[TimelinePoint]:
    """The points of each frame, as the publishing script wrote them."""
    for _, values in rows:
        t, tracks = json.loads(values[b"p"])
        for track, *scores in tracks:
            yield TimelinePoint(t, track, tuple(scores), unsure=float(max(scores) < unsure_below))


def _seconds(rows: _Rows, sums: bytes | None) -> Iterator[TimelinePoint]:
    """The means of each second, in its middle; `sums` are those of the newest one."""
    for _, values in rows:
        second, tracks = json.loads(values[b"s"])
        for track, frames, unsure, *means in tracks:
            yield TimelinePoint(second + 0.5, track, tuple(means), frames, unsure / frames)
    if sums:
        second, tracks = json.loads(sums)
        for track, frames, unsure, *totals in tracks:
            means = [total / frames for total in totals]
            yield TimelinePoint(second + 0.5, track, tuple(means), frames, unsure / frames)


def _status(
    feed: bytes | None,
    capture_row: Sequence[bytes],
    counters_row: Sequence[bytes],
    recent: bytes,
    aside: bytes | None,
    degraded: bytes | None,
    *,
    capturing: bool,
    viewers: int,
    now: float,
) -> FeedStatus:
    """Read one feed's rows. Rates are counts over a span: cameras send in bursts."""
    capture, counters = _pairs(capture_row), _pairs(counters_row)
    drops = {drop: int(counters.get(f"drop:{drop}".encode(), 0)) for drop in Drop}
    drops[Drop.TOO_FAST] = int(capture.get(b"too_fast", 0))
    numbers = list(map(float, recent.split()))  # when, and the latency, in turns
    latencies = sorted(numbers[1::2])
    span_s = 3.0
    since_ms = (now - span_s) * 1000
    state = FeedState(capture[b"state"].decode()) if capture else FeedState.STARTING
    error = capture[b"error"].decode() if capture else "" if capturing else _NO_CAPTURE
    without = "" if capturing else Trouble.NO_CAPTURE
    trouble = capture.get(b"trouble", b"").decode() if capture else without
    if feed is not None and not Feed.from_json(feed).enabled:
        state, error, trouble = FeedState.DISABLED, "", ""  # whatever its capture said last
    return FeedStatus(
        state=state,
        error=error,
        fps_in=0.0 if state is FeedState.DISABLED else float(capture.get(b"fps_in", 0.0)),
        reconnects=int(capture.get(b"reconnects", 0)),
        captured=int(counters.get(b"captured", 0)),
        analysed=int(counters.get(b"analysed", 0)),
        drops=drops,
        fps_analysed=sum(at >= since_ms for at in numbers[::2]) / span_s,
        latency_p50_ms=_percentile(latencies, 0.50),
        latency_p95_ms=_percentile(latencies, 0.95),
        viewers=viewers,
        aside=aside.partition(b" ")[2].decode() if aside else "",
        degraded=Degraded(degraded.decode()) if degraded else Degraded.NO,
        trouble=trouble,
    )


_NO_CAPTURE = "No capture process serves this feed: run `moodline up` or `moodline capture`."


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
