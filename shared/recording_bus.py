"""What Redis holds of recordings: which feeds are to be recorded, who does it, and how it goes.

What it promises:

- A feed is recorded once at a time, by one process: a lease that runs out with its holder.
- A recording goes on as long as it is held. `GIVEN_UP_S` after the last word of whoever records it
  is forgotten: nothing is shown as recording that is not, and nothing begins unasked much later.
- Whoever stops a recording says until when frames belong to it, by the clock that stamps them.

Nothing here is a picture. Every verb raises BusError where Redis cannot be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.connection import connect, verb
from shared.errors import Conflict, LeaseLost, NotFound
from shared.recordings import Ending, Recording, RecordingState, Saved
from shared.source import mask_address

LEASE_S = 5.0  # after a recorder was killed, one on another machine takes over after so long
GIVEN_UP_S = 60.0
_SAVING_S = 3600.0  # a long recording takes its time on its way into a far storage
_SAVED_S = 600.0  # so long a page can lead to the last recording's report
_PREFIX = "moodline:"

_COMMON = """
local row, holder = KEYS[1]..'recording:'..ARGV[1], KEYS[1]..'recorder:'..ARGV[1]
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
"""

_START = (
    _COMMON
    + """
if redis.call('EXISTS', row) == 1 and redis.call('HEXISTS', row, 'ending') == 0 then return 0 end
redis.call('DEL', row, holder, KEYS[1]..'recorded:'..ARGV[1])
redis.call('HSET', row, 'id', ARGV[2], 'name', ARGV[3], 'asked_at', now)
redis.call('PEXPIRE', row, ARGV[4])
return 1
"""
)

_STOP = (
    _COMMON
    + """
local id = redis.call('HGET', row, 'id')
if not id or (ARGV[4] ~= '' and ARGV[4] ~= id) then return 0 end
if redis.call('HEXISTS', row, 'ending') == 0 then
  redis.call('HSET', row, 'ending', ARGV[2], 'ended_at', now)
  redis.call('PEXPIRE', row, ARGV[3])
end
return 1
"""
)

_OWN = (
    _COMMON
    + """
if redis.call('HGET', row, 'id') ~= ARGV[2] or redis.call('HEXISTS', row, 'ending') == 1 then
  return 0
end
local other = redis.call('GET', holder)
if other and other ~= ARGV[3] then return 0 end
redis.call('SET', holder, ARGV[3], 'PX', ARGV[4])
return 1
"""
)

_HOLD = (
    _COMMON
    + """
local id = redis.call('HGET', row, 'id')
if id and id ~= ARGV[2] then return 0 end
local other = redis.call('GET', holder)
if other and other ~= ARGV[3] then return 0 end
redis.call('SET', holder, ARGV[3], 'PX', ARGV[4])
redis.call('HSET', row, 'id', ARGV[2], 'name', ARGV[6], 'asked_at', ARGV[7], 'frames', ARGV[8],
  'missed', ARGV[9])
if ARGV[10] ~= '' then redis.call('HSET', row, 'since', ARGV[10]) end
if redis.call('HEXISTS', row, 'ending') == 0 then redis.call('PEXPIRE', row, ARGV[5]) end
return redis.call('HGETALL', row)
"""
)

_END = (
    _COMMON
    + """
local other = redis.call('GET', holder)
local anothers = other and other ~= ARGV[5] and redis.call('HEXISTS', row, 'ending') == 0
if redis.call('HGET', row, 'id') == ARGV[2] and not anothers then redis.call('DEL', row, holder) end
if redis.call('EXISTS', row) == 0 then
  redis.call('SET', KEYS[1]..'recorded:'..ARGV[1], ARGV[3], 'PX', ARGV[4])
end
return 1
"""
)


class RecordingBus:
    """The verbs. Safe to share between threads; make a new one after a fork."""

    def __init__(self, url: str, *, prefix: str = _PREFIX) -> None:
        self.address = mask_address(url)
        self._prefix = prefix
        self._redis = connect(url)
        self._start = self._redis.register_script(_START)
        self._stop = self._redis.register_script(_STOP)
        self._own = self._redis.register_script(_OWN)
        self._hold = self._redis.register_script(_HOLD)
        self._end = self._redis.register_script(_END)

    def close(self) -> None:
        self._redis.close()

    # For the web

    @verb
    def start(self, feed_id: str, recording_id: str, name: str) -> None:
        """Ask for a feed to be recorded from now on.

        `name` is the video's, "" for one made of the feed's and the time. Raises Conflict where it
        is being recorded already.
        """
        args: list[Any] = [feed_id, recording_id, name, _ms(GIVEN_UP_S)]
        if not self._start(keys=[self._prefix], args=args):
            raise Conflict("This feed is being recorded already: stop that recording first.")

    @verb
    def stop(
        self, feed_id: str, ending: Ending = Ending.STOPPED, *, recording_id: str = ""
    ) -> None:
        """End the recording of a feed, or this one of it; raises NotFound where there is none.

        One that has ended already, and is being saved, is fine: the first reason stands.
        """
        args: list[Any] = [feed_id, ending, _ms(_SAVING_S), recording_id]
        if not self._stop(keys=[self._prefix], args=args):
            raise NotFound("This feed is not being recorded: POST here to start.")

    @verb
    def seen(self, feed_ids: Sequence[str]) -> dict[str, tuple[Recording | None, Saved | None]]:
        """The recording of each of these feeds, and what became of the last one."""
        with self._redis.pipeline(transaction=False) as pipe:
            for feed_id in feed_ids:
                pipe.hgetall(f"{self._prefix}recording:{feed_id}")
                pipe.exists(f"{self._prefix}recorder:{feed_id}")
                pipe.get(f"{self._prefix}recorded:{feed_id}")
            rows = pipe.execute()
        return {
            feed_id: (
                _recording(rows[3 * i], held=bool(rows[3 * i + 1])) if rows[3 * i] else None,
                Saved.from_json(rows[3 * i + 2]) if rows[3 * i + 2] else None,
            )
            for i, feed_id in enumerate(feed_ids)
        }

    # For recorders

    @verb
    def own(self, feed_id: str, recording_id: str, owner: str) -> bool:
        """Take the right to record for `LEASE_S`; False where it is another's, or not wanted."""
        args: list[Any] = [feed_id, recording_id, owner, _ms(LEASE_S)]
        return bool(self._own(keys=[self._prefix], args=args))

    @verb
    def hold(self, feed_id: str, recording: Recording, owner: str) -> Recording:
        """Say how a recording goes, and hold it; returns it with what others said of it.

        A Redis that has lost its memory is told again. Raises LeaseLost where somebody else
        records this feed now.
        """
        since = "" if recording.since is None else repr(recording.since)
        args: list[Any] = [feed_id, recording.id, owner, _ms(LEASE_S), _ms(GIVEN_UP_S)]
        args += [recording.name, repr(recording.asked_at), recording.frames, recording.missed]
        found = self._hold(keys=[self._prefix], args=[*args, since])
        if not found:
            raise LeaseLost(f"The recording {recording.id} is no longer held by {owner}.")
        return _recording(dict(zip(found[::2], found[1::2], strict=True)), held=True)

    @verb
    def end(self, feed_id: str, recording_id: str, saved: Saved, owner: str) -> None:
        """A recording is saved; pages can lead to it for a while.

        Where somebody else goes on with it, it is not over, and only a part is saved.
        """
        args: list[Any] = [feed_id, recording_id, saved.to_json(), _ms(_SAVED_S), owner]
        self._end(keys=[self._prefix], args=args)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _recording(row: dict[bytes, bytes], *, held: bool) -> Recording:
    since, ending, ended_at = (row.get(name) for name in (b"since", b"ending", b"ended_at"))
    if ending is not None:
        state = RecordingState.SAVING
    elif since is None:
        state = RecordingState.STARTING
    else:
        state = RecordingState.RECORDING if held else RecordingState.WAITING
    return Recording(
        id=row[b"id"].decode(),
        name=row[b"name"].decode(),
        asked_at=float(row[b"asked_at"]),
        state=state,
        since=None if since is None else float(since),
        frames=int(row.get(b"frames", 0)),
        missed=int(row.get(b"missed", 0)),
        ending=None if ending is None else Ending(ending.decode()),
        ended_at=None if ended_at is None else float(ended_at),
    )
