"""What Redis holds of recorded videos: a copy of the list, and who works on what right now.

All of it can be lost: the list is filled again from the storage, and a step that nobody holds is
given out again. What it promises:

- A step of a video (its plan, a segment, the report …) is held by one worker at a time, by a lease
  with a token. A worker that says nothing for `LEASE_S` has lost it; one whose Redis was restarted
  takes its step again with the next `hold`, as long as nobody else has.
- Each start of a step is counted as an attempt until the step is done, also that of a worker that
  was killed. A step that failed pauses before the next.
- A deleted video stays deleted for `TOMBSTONE_S`, whatever late workers say.

Not here: files, and what is to be done next (`shared.videos`). Every verb raises BusError where
Redis cannot be reached.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

import redis

from shared.connection import connect, speaking, verb
from shared.errors import BusError, NotFound
from shared.source import mask_address
from shared.video import Export, ExportKind, ExportState, Video

LEASE_S = 5.0
TOMBSTONE_S = 3600.0
LEADER_S = 5.0
_PAUSES_MS = (2_000, 20_000)  # after the first and second failure: storage may come back
_EXPORT_FAILURE_S = 60.0  # after that, asking for the file tries it again
_LOCK_S = 15.0  # a change of one video's record takes a few accesses to the storage
_RATE_SAMPLES = 16

_PREFIX = "moodline:"

_NOW = """
local P, video = KEYS[1], ARGV[1]
local key = P..'video:'..video
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function holder(step)
  local row = redis.call('HGET', key..':leases', step)
  if not row then return nil end
  local token, ends = string.match(row, '^(%S+) (%d+)$')
  if tonumber(ends) <= now then return nil end
  return token
end
local function gone()
  return redis.call('EXISTS', key..':deleted') == 1
    or (redis.call('EXISTS', P..'videos:restored') == 1
      and redis.call('HEXISTS', P..'videos', video) == 0)
end
"""

_BEGIN = (
    _NOW
    + """
local step, token, lease_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
if gone() or holder(step) then return 0 end
redis.call('HSET', key..':leases', step, token..' '..(now + lease_ms))
redis.call('HSETNX', key..':marks', 'started_at', now)
return redis.call('HINCRBY', key..':attempts', step, 1)
"""
)

_HOLD = (
    _NOW
    + """
local step, token, lease_ms, field, frames = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
if gone() then return 'deleted' end
local other = holder(step)
if other and other ~= token then return 'lost' end
redis.call('HSET', key..':leases', step, token..' '..(now + lease_ms))
if field ~= '' then redis.call('HSET', key..':frames', field, frames) end
if ARGV[7] == '1' then
  local row = redis.call('HGET', P..'videos', video)
  if row and cjson.decode(row).status == 'cancelled' then return 'cancelled' end
end
return 'held'
"""
)

_END = (
    _NOW
    + """
local step, token, outcome, reason = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if gone() then return 0 end
local mine = holder(step) == token
if mine then redis.call('HDEL', key..':leases', step) end
if outcome == 'done' then
  redis.call('HDEL', key..':attempts', step)
  redis.call('HDEL', key..':reasons', step)
elseif outcome == 'given back' then
  if mine and redis.call('HINCRBY', key..':attempts', step, -1) <= 0 then
    redis.call('HDEL', key..':attempts', step)
  end
else
  redis.call('HSET', key..':reasons', step, reason)
  local pause_ms = ARGV[5 + tonumber(redis.call('HGET', key..':attempts', step) or '1')]
  if mine and pause_ms then
    redis.call('HSET', key..':leases', step, 'pause '..(now + pause_ms))
  end
end
return 1
"""
)

_PUT = """
local P, id = KEYS[1], ARGV[1]
if redis.call('EXISTS', P..'video:'..id..':deleted') == 1 then return 0 end
redis.call('HSET', P..'videos', id, ARGV[2])
return 1
"""

_RESTORE = """
local P = KEYS[1]
if redis.call('SET', P..'videos:restored', '1', 'NX') == false then return 0 end
for i = 1, #ARGV, 2 do
  if redis.call('EXISTS', P..'video:'..ARGV[i]..':deleted') == 0 then
    redis.call('HSETNX', P..'videos', ARGV[i], ARGV[i + 1])
  end
end
return 1
"""

_LEAD = """
local key = KEYS[1]..'videos:leader'
local leader = redis.call('GET', key)
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
return 1
"""

# Every key of one video beside its row in the list and its tombstone.
_WORK_KEYS = ("leases", "attempts", "reasons", "frames", "marks", "exports")
_VIDEO_KEYS = (*_WORK_KEYS, "rate")


class Hold(StrEnum):
    """What `hold` says to the worker that holds a step."""

    HELD = "held"
    LOST = "lost"  # somebody else has it: what this worker makes is void
    CANCELLED = "cancelled"
    DELETED = "deleted"


class Ended(StrEnum):
    """How a worker's hold on a step ends."""

    DONE = "done"
    FAILED = "failed"  # counts as an attempt
    GIVEN_BACK = "given back"  # does not: the worker was told to stop


@dataclass(frozen=True, slots=True)
class Work:
    """What is going on with one video.

    `held`: steps that a worker holds, or that pause. `attempts` and `reasons` a step, until it is
    done. `frames` done a segment. `marks`: numbers that are expensive to find in the storage; empty
    when Redis has forgotten them.
    """

    held: frozenset[str]
    attempts: Mapping[str, int]
    reasons: Mapping[str, str]
    frames: Mapping[int, int]
    marks: Mapping[str, int]
    exports: Mapping[ExportKind, Export]


class VideoBus:
    """The verbs. Safe to share between threads; make a new one after a fork."""

    def __init__(self, url: str, *, prefix: str = _PREFIX) -> None:
        self.address = mask_address(url)
        self._prefix = prefix
        self._redis = connect(url)
        self._begin = self._redis.register_script(_BEGIN)
        self._hold = self._redis.register_script(_HOLD)
        self._end = self._redis.register_script(_END)
        self._put = self._redis.register_script(_PUT)
        self._restore = self._redis.register_script(_RESTORE)
        self._lead = self._redis.register_script(_LEAD)

    def close(self) -> None:
        self._redis.close()

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _video_key(self, video_id: str, what: str) -> str:
        return self._key("video", video_id, what)

    # The list

    @verb
    def is_restored(self) -> bool:
        """Whether the list holds what the storage does; False in a new Redis."""
        return bool(self._redis.exists(self._key("videos", "restored")))

    @verb
    def restore(self, videos: Sequence[Video]) -> bool:
        """Fill a new list once, keeping what was added meanwhile; False if it was not new."""
        rows = [part for video in videos for part in (video.id, video.to_json())]
        return bool(self._restore(keys=[self._prefix], args=rows))

    @verb
    def put(self, video: Video) -> None:
        """Add a video, or replace the one with its id; a deleted one stays deleted."""
        self._put(keys=[self._prefix], args=[video.id, video.to_json()])

    @verb
    def videos(self) -> list[Video]:
        """All videos, in no order."""
        rows = cast("dict[bytes, bytes]", self._redis.hgetall(self._key("videos")))
        return [Video.from_json(row) for row in rows.values()]

    @verb
    def video(self, video_id: str) -> Video:
        """One video; raises NotFound."""
        row = cast("bytes | None", self._redis.hget(self._key("videos"), video_id))
        if row is None:
            raise NotFound(f"There is no video {video_id[:40]!r}: the list of videos shows all.")
        return Video.from_json(row)

    @verb
    def remove(self, video_id: str) -> None:
        """Forget a video, and know for `TOMBSTONE_S` that it was deleted."""
        with self._redis.pipeline() as pipe:
            pipe.set(self._video_key(video_id, "deleted"), "1", px=int(TOMBSTONE_S * 1000))
            pipe.zadd(self._key("videos", "deleted"), {video_id: time.time()})
            pipe.hdel(self._key("videos"), video_id)
            pipe.delete(*(self._video_key(video_id, what) for what in _VIDEO_KEYS))
            pipe.execute()

    @verb
    def withdraw(self, video_id: str) -> None:
        """Take a video off the list that could not be kept; unlike a deleted one it may return."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(self._key("videos"), video_id)
            pipe.delete(*(self._video_key(video_id, what) for what in _VIDEO_KEYS))
            pipe.execute()

    @verb
    def sweep(self, video_id: str) -> None:
        """Remove what late workers wrote of a deleted video."""
        self._redis.delete(*(self._video_key(video_id, what) for what in _VIDEO_KEYS))

    @verb
    def deleted(self) -> list[str]:
        """The videos that were deleted within `TOMBSTONE_S`."""
        key = self._key("videos", "deleted")
        self._redis.zremrangebyscore(key, "-inf", time.time() - TOMBSTONE_S)
        return [name.decode() for name in cast("list[bytes]", self._redis.zrange(key, 0, -1))]

    @contextlib.contextmanager
    def locked(self, video_id: str) -> Iterator[None]:
        """Be the only one who changes a video's record or gives out its steps."""
        lock = self._redis.lock(
            self._video_key(video_id, "lock"),
            timeout=_LOCK_S,
            blocking_timeout=_LOCK_S,
            sleep=0.01,
        )
        with speaking(self.address):
            if not lock.acquire():
                raise BusError(
                    f"The video {video_id} stays locked by another process: try again in a moment."
                )
        try:
            yield
        finally:
            # Redis may have been restarted meanwhile, or the lock has run out.
            with contextlib.suppress(redis.RedisError):
                lock.release()

    # Steps

    @verb
    def begin(self, video_id: str, step: str, token: str) -> int:
        """Take a step for `LEASE_S`; give the number of this attempt, 0 where it is not free."""
        return int(
            self._begin(keys=[self._prefix], args=[video_id, step, token, int(LEASE_S * 1000)])
        )

    @verb
    def hold(
        self,
        video_id: str,
        step: str,
        token: str,
        *,
        segment: int | None,
        frames: int,
        cancellable: bool,
    ) -> Hold:
        """Keep a step for another `LEASE_S`, with the frames of its segment done so far."""
        answer = self._hold(
            keys=[self._prefix],
            args=[
                video_id,
                step,
                token,
                int(LEASE_S * 1000),
                "" if segment is None else segment,
                frames,
                int(cancellable),
            ],
        )
        return Hold(answer.decode())

    @verb
    def end(self, video_id: str, step: str, token: str, ended: Ended, reason: str = "") -> None:
        """Let go of a step; one that failed is not free before a pause has passed."""
        self._end(
            keys=[self._prefix], args=[video_id, step, token, ended.value, reason, *_PAUSES_MS]
        )

    @verb
    def work(self, video_ids: Sequence[str]) -> dict[str, Work]:
        """What is going on with each of these videos."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for video_id in video_ids:
                for what in _WORK_KEYS:
                    pipe.hgetall(self._video_key(video_id, what))
            (seconds, micros), *rows = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        n = len(_WORK_KEYS)
        return {
            video_id: _work(*rows[n * i : n * i + n], now_ms=now_ms)
            for i, video_id in enumerate(video_ids)
        }

    @verb
    def forget_attempts(self, video_id: str, step: str | None = None) -> None:
        """Let a step, or all steps, be tried anew."""
        for what in ("attempts", "reasons"):
            key = self._video_key(video_id, what)
            if step is None:
                self._redis.delete(key)
            else:
                self._redis.hdel(key, step)

    @verb
    def set_attempts(self, video_id: str, step: str, attempts: int) -> None:
        """Say how often a step was tried."""
        self._redis.hset(self._video_key(video_id, "attempts"), step, attempts)

    @verb
    def mark(self, video_id: str, marks: Mapping[str, int]) -> None:
        """Remember numbers that are expensive to find in the storage."""
        for name, number in marks.items():
            self._redis.hset(self._video_key(video_id, "marks"), name, number)

    @verb
    def put_frames(self, video_id: str, frames: Mapping[int, int]) -> None:
        """Say how many frames are done a segment."""
        if frames:
            self._redis.hset(
                self._video_key(video_id, "frames"),
                mapping={str(segment): n for segment, n in frames.items()},
            )

    # Exports

    @verb
    def put_export(self, video_id: str, kind: ExportKind, export: Export) -> None:
        """Say how far a file is."""
        row = json.dumps({**asdict(export), "at": self._now_s()})
        self._redis.hset(self._video_key(video_id, "exports"), kind, row)

    @verb
    def report_export(self, video_id: str, kind: ExportKind, progress: float) -> None:
        """Say how far the making of a file is, if it is still wanted."""
        key = self._video_key(video_id, "exports")
        if self._redis.hexists(key, kind):
            self.put_export(video_id, kind, Export(ExportState.RUNNING, progress))

    @verb
    def remove_exports(self, video_id: str, kinds: Sequence[ExportKind]) -> None:
        """Forget files that are there no more."""
        if kinds:
            self._redis.hdel(self._video_key(video_id, "exports"), *kinds)

    def _now_s(self) -> float:
        seconds, micros = self._redis.time()
        return seconds + micros / 1e6

    # Time left

    @verb
    def sample_rate(self, video_id: str, frames_done: int) -> None:
        """Remember how many frames are done now."""
        key = self._video_key(video_id, "rate")
        with self._redis.pipeline() as pipe:
            pipe.lpush(key, f"{time.time()} {frames_done}")
            pipe.ltrim(key, 0, _RATE_SAMPLES - 1)
            pipe.pexpire(key, 60_000)
            pipe.execute()

    @verb
    def frames_per_s(self, video_id: str) -> float | None:
        """How fast a video goes on, over the last half minute; None where that is not known."""
        rows = cast("list[bytes]", self._redis.lrange(self._video_key(video_id, "rate"), 0, -1))
        samples = [tuple(map(float, row.split())) for row in rows]
        if len(samples) < 2:
            return None
        (t1, n1), (t0, n0) = samples[0], samples[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 and n1 > n0 else None

    # Keepers

    @verb
    def lead(self, keeper: str) -> bool:
        """Take or renew the right to look after the videos, for `LEADER_S`."""
        return bool(self._lead(keys=[self._prefix], args=[keeper, int(LEADER_S * 1000)]))


def _work(
    leases: Mapping[bytes, bytes],
    attempts: Mapping[bytes, bytes],
    reasons: Mapping[bytes, bytes],
    frames: Mapping[bytes, bytes],
    marks: Mapping[bytes, bytes],
    exports: Mapping[bytes, bytes],
    *,
    now_ms: int,
) -> Work:
    return Work(
        held=frozenset(
            step.decode() for step, row in leases.items() if int(row.split()[1]) > now_ms
        ),
        attempts={step.decode(): int(n) for step, n in attempts.items()},
        reasons={step.decode(): text.decode() for step, text in reasons.items()},
        frames={int(segment): int(n) for segment, n in frames.items()},
        marks={name.decode(): int(n) for name, n in marks.items()},
        exports=_exports(exports, now_ms / 1000),
    )


def _exports(rows: Mapping[bytes, bytes], now_s: float) -> dict[ExportKind, Export]:
    exports = {}
    for kind, text in rows.items():
        row = json.loads(text)
        at = row.pop("at")
        export = Export.from_dict(row)
        if export.state is not ExportState.FAILED or now_s - at < _EXPORT_FAILURE_S:
            exports[ExportKind(kind.decode())] = export
    return exports
