"""The role `moodline events`: looks at results as they come, writes what rules watch for, delivers.

One process leads, by a lease; others wait and take over within `LEASE_S` and a turn. Needs no
model and no pictures: it follows the streams of results of those feeds that rules watch. Where a
leader was killed, its successor goes on from the last commit, at most a second back; as results are
kept for four seconds (at 15 frames/s), nothing is missed, and as an event is written in one
transaction with the cursor, nothing comes twice.

Each of them mirrors rules and events to its data folder, so that what was deleted is deleted there
too; the leader fills an empty Redis from there.

Not here: when a rule is met (`workers.occurrences`), and how events reach their targets
(`workers.deliveries`).
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from types import FrameType

import structlog

from shared.bus import Analysed, Bus
from shared.config import Settings
from shared.errors import BusError, InvalidRecord, MoodlineError
from shared.event_bus import Bounds, EventBus, NewEvent, targets_of
from shared.events import Event, Rule
from shared.schema import Feed
from workers.deliveries import Deliveries
from workers.mirror import Mirror
from workers.occurrences import Occurrence, Occurrences

_log = structlog.get_logger(__name__)

_BLOCK_S = 0.25  # the longest that a new rule waits to be noticed
_PACE_S = 0.05  # the shortest turn: results of many feeds are looked at together
_COMMIT_EVERY_S = 1.0
_TRIM_EVERY_S = 60.0
_SAVE_EVERY_S = 2.0
_FEEDS_EVERY_S = 5.0


class _Followed:
    """One feed that rules watch: how far it was looked at, and what was seen."""

    def __init__(self, committed: str = "", state: str = "") -> None:
        self.committed = committed  # the cursor as Redis has it
        self.cursor = committed or "0"
        self.seen = Occurrences.from_json(state) if state else Occurrences()


class Events:
    """One turn looks at what came, and waits for it `_BLOCK_S` at most."""

    def __init__(
        self, bus: Bus, events: EventBus, deliveries: Deliveries, mirror: Mirror, bounds: Bounds
    ) -> None:
        self._bus = bus
        self._events = events
        self._deliveries = deliveries
        self._mirror = mirror
        self._bounds = bounds
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._leads = False
        self._rules: list[Rule] = []
        self._feeds: dict[str, Feed] = {}
        self._followed: dict[str, _Followed] = {}
        self._rules_version: int | None = None
        self._saved: tuple[int | None, int] = (None, -1)
        self._feeds_version: int | None = None
        self._commit_at = self._trim_at = self._save_at = self._feeds_at = 0.0

    def turn(self) -> bool:
        """Lead for one turn; False if another process does. Raises BusError where Redis is away."""
        try:
            if not self._events.lead(self.name, mqtt=self._deliveries.mqtt):
                self._leads, self._rules = False, []
                self._save_now_and_then()
                return False
            if not self._leads:
                self._take_over()
            self._follow_rules()
            self._look()
            self._keep()
            self._deliveries.turn(self.name)
        except BusError:
            self._leads = False  # whatever was written or not, Redis knows
            raise
        return True

    def stop(self) -> None:
        """Give up the lead, so that another process need not wait."""
        if self._leads:
            self._commit_all()
        self._deliveries.close()
        self._save()
        self._events.leave(self.name)

    def _take_over(self) -> None:
        self._rules_version = self._feeds_version = None
        self._followed = {
            feed: _Followed(cursor, state)
            for feed, (cursor, state) in self._events.progress().items()
        }
        self._leads = True
        _log.info("this process looks for events now", process=self.name)

    def _follow_rules(self) -> None:
        rules, _ = self._events.versions()
        if rules is None:  # a Redis that is new, or that has restarted and forgotten
            known = self._rules or self._mirror.rules()  # what this leader knows is the newest
            if self._events.restore(known, self._mirror.events()):
                _log.info("rules and events are restored")
            self._take_over()
            rules, _ = self._events.versions()
        if rules != self._rules_version:
            self._rules = self._events.rules()
            self._rules_version = rules
        now = time.monotonic()
        version = self._bus.feeds_version()
        if version != self._feeds_version or now >= self._feeds_at:
            feeds = {feed.id: feed for feed in self._bus.feeds()}
            if self._bus.feeds_version() == version:  # else changed, or lost, while being read
                self._feeds, self._feeds_version = feeds, version
                self._feeds_at = now + _FEEDS_EVERY_S
        watched = {id_ for id_ in self._feeds if any(rule.watches(id_) for rule in self._rules)}
        gone = set(self._followed) - watched
        # An empty registry may be one that is about to be restored.
        if gone and self._feeds_version is not None:
            self._events.forget_feeds(sorted(gone))
            for feed_id in gone:
                del self._followed[feed_id]
        for feed_id in watched - set(self._followed):
            self._followed[feed_id] = _Followed()

    def _look(self) -> None:
        if not self._followed:
            time.sleep(_BLOCK_S)
            return
        ends_at = time.monotonic() + _PACE_S
        cursors = {feed: each.cursor for feed, each in self._followed.items()}
        for analysed in self._bus.results_after(cursors, _BLOCK_S, pictures=False):
            feed_id = analysed.result.feed
            followed = self._followed[feed_id]
            followed.cursor = analysed.id
            rules = [rule for rule in self._rules if rule.watches(feed_id)]
            happened = list(followed.seen.observe(analysed.result, rules))
            if happened and not self._commit(feed_id, followed, happened, analysed):
                return
        if time.monotonic() >= self._commit_at:
            self._commit_all()
        time.sleep(max(0.0, ends_at - time.monotonic()))

    def _commit_all(self) -> None:
        self._commit_at = time.monotonic() + _COMMIT_EVERY_S
        for feed_id, followed in self._followed.items():
            if followed.cursor not in (followed.committed, "0") and not self._commit(
                feed_id, followed
            ):
                return

    def _commit(
        self,
        feed_id: str,
        followed: _Followed,
        happened: list[Occurrence] | None = None,
        analysed: Analysed | None = None,
    ) -> bool:
        """Write what is known; False if that is another process's business by now."""
        new = []
        if happened and analysed:
            picture = None
            if any(each.rule.picture for each in happened):
                picture = self._bus.picture(feed_id, analysed.id)
            for each in happened:
                feed = self._feeds.get(feed_id)
                event = Event.of(
                    each.rule,
                    feed=feed_id,
                    feed_name=feed.name if feed else feed_id,
                    at=each.at,
                    track=each.track,
                    value=each.value,
                    box=each.box_xywh,
                )
                targets = targets_of(each.rule, self._deliveries.mqtt)
                new.append(NewEvent(event, picture if each.rule.picture else None, targets))
        written = self._events.commit(
            self.name,
            feed_id,
            was_at=followed.committed,
            cursor=followed.cursor,
            state=followed.seen.to_json(),
            events=new,
            bounds=self._bounds,
        )
        if written:
            followed.committed = followed.cursor
        else:
            self._leads = False  # the next turn starts from what Redis has
        return written

    def _keep(self) -> None:
        """Drop what is too old, and now and then save what changed."""
        now = time.monotonic()
        if now >= self._trim_at:
            self._trim_at = now + _TRIM_EVERY_S
            self._events.trim(self._bounds)
        self._save_now_and_then()

    def _save_now_and_then(self) -> None:
        now = time.monotonic()
        if now >= self._save_at:
            self._save_at = now + _SAVE_EVERY_S
            self._save()

    def _save(self) -> None:
        """Bring the files in step with Redis, unless that has forgotten what they hold."""
        rules, events = self._events.versions()
        if rules is None:
            return
        if rules != self._saved[0]:
            self._mirror.save_rules(self._events.rules())
        if events != self._saved[1]:
            self._mirror.save_events(self._events.events()[::-1])
        self._saved = rules, events


def run(settings: Settings, redis_url: str) -> None:
    """Look for events until SIGTERM or SIGINT. Raises ConfigError at settings that do not fit."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    bus, event_bus = Bus(redis_url), EventBus(redis_url)
    events = Events(
        bus,
        event_bus,
        Deliveries.of(settings, event_bus),
        Mirror(settings.data_dir),
        Bounds(settings.events_kept, settings.events_days * 86400.0),
    )
    trouble = ""
    try:
        while not stopped.is_set():
            try:
                if not events.turn():
                    stopped.wait(_BLOCK_S)
                trouble = ""
            except (BusError, InvalidRecord) as error:
                if str(error) != trouble:
                    _log.warning("no events are looked for at the moment", error=str(error))
                trouble = str(error)
                stopped.wait(_BLOCK_S)
    finally:
        try:
            events.stop()
        except MoodlineError as error:
            _log.info("the lead was not given up in good order", error=str(error))
        bus.close()
        event_bus.close()
