"""Events by real processes on a real Redis: once each, whatever is killed in between."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.errors import BusError
from shared.event_bus import Bounds, EventBus, NewEvent
from shared.events import Delivery, DeliveryState, Event, Rule, RuleKind, Webhook
from shared.outbound import Allowed
from shared.schema import Face, Feed, FrameResult, Outcome
from tests import builders
from tests.workers.receiver import Receiver, Taken
from workers.deliveries import Deliveries
from workers.events import Events
from workers.mirror import Mirror
from workers.occurrences import Occurrences

HAPPY, SAD = (builders.face(happy=0.8),), (builders.face(happy=0.2),)
NOBODY: tuple[Face, ...] = ()
BOUNDS = Bounds(events=50, age_s=3600.0, pictures=3)


class Player:
    """Plays capture and worker: frames with given faces go through the real bus."""

    def __init__(self, bus: Bus, feed: Feed) -> None:
        self._bus = bus
        self._feed = feed
        self.results: list[FrameResult] = []
        bus.restore_feeds([])
        bus.put_feed(feed)

    def show(self, faces: tuple[Face, ...], at: float | None = None, jpeg: bytes = b"jpeg") -> None:
        self._bus.put_frame(self._feed, jpeg, time.time() if at is None else at)
        (claim,) = self._bus.claim("player", max_feeds=1, max_frames=1, staleness_s=60.0)
        result = builders.result(claim.frames[0], *faces)
        lost = self._bus.publish(
            [(claim, {}, [Outcome(claim.frames[0], result)])],
            labels=builders.LABELS,
            unsure_below=0.3,
            timeline_s=60,
        )
        assert lost == []
        self.results.append(result)

    def play(self, faces: tuple[Face, ...], seconds: float, fps: float = 10.0) -> None:
        for _ in range(round(seconds * fps)):
            self.show(faces)
            time.sleep(1 / fps)


@pytest.fixture
def event_bus(bus: Bus) -> Iterator[EventBus]:
    events = EventBus(bus.url)
    yield events
    events.close()


@pytest.fixture
def player(bus: Bus) -> Player:
    return Player(bus, builders.feed())


@pytest.fixture
def start_role(bus: Bus, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts parts of Moodline as processes."""
    running: list[subprocess.Popen[bytes]] = []

    def start(role: str = "events", **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "moodline", role],
            env={
                **os.environ,
                "REDIS_URL": bus.url,
                "MOODLINE_DATA_DIR": str(tmp_path / "data"),
                "MOODLINE_WEBHOOK_ALLOW": "127.0.0.1",
                **environment,
            },
            cwd=PROJECT_DIR,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rule(kind: RuleKind = RuleKind.EMOTION_OVER, **values: object) -> Rule:
    row: dict[str, object] = {"id": "0000000a", "name": "Rule", "kind": kind, "for_s": 0.3}
    if kind is RuleKind.EMOTION_OVER:
        row |= {"emotion": "happy", "share": 0.6}
    return Rule(**{**row, **values})  # type: ignore[arg-type]


def wait_until(condition: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def role(bus: Bus, event_bus: EventBus, folder: Path, allow: Sequence[str] = ()) -> Events:
    """The role within this process, to be turned by hand."""
    deliveries = Deliveries(event_bus, Allowed.parse(allow), None)
    return Events(bus, event_bus, deliveries, Mirror(folder), BOUNDS)


def test_an_event_comes_once_arrives_after_two_failures_and_outlives_a_killed_process(
    event_bus: EventBus, player: Player, start_role: Callable[..., subprocess.Popen[bytes]]
) -> None:
    answers = iter([500, 503])
    with Receiver(lambda _: next(answers, 204)) as receiver:
        hook = Webhook.new(f"{receiver.url}/hook?token=hush", secret="s3cret")
        event_bus.put_rule(rule(picture=True, webhooks=(hook,)))
        first = start_role()
        wait_until(lambda: event_bus.led()[0])
        player.play(SAD, 0.3)
        player.play(HAPPY, 0.8)
        wait_until(lambda: receiver.taken)
        first.kill()
        first.wait()
        start_role()
        player.play(HAPPY, 1.0)
        wait_until(lambda: len(receiver.taken) == 3)
        (kept,) = wait_until(
            lambda: [
                each
                for each in event_bus.events()
                if all(d.state is DeliveryState.DELIVERED for d in each.deliveries.values())
            ]
        )
        player.play(HAPPY, 0.5)
    assert len(event_bus.events()) == 1
    assert event_bus.picture(kept.event.id) == b"jpeg"
    bodies = {taken.body for taken in receiver.taken}
    assert len(bodies) == 1, "an attempt is the same as the one before"
    assert {taken.headers["Idempotency-Key"] for taken in receiver.taken} == {kept.event.id}
    told = receiver.taken[0].event
    assert (told["kind"], told["feed"], told["track"], told["value"]) == (
        "emotion_over",
        "cam",
        1,
        0.8,
    )
    (delivery,) = kept.deliveries.values()
    assert delivery.attempts == 3
    assert "hush" not in delivery.to


def test_whatever_moment_the_process_is_killed_at_each_occurrence_is_one_event(
    event_bus: EventBus, player: Player, start_role: Callable[..., subprocess.Popen[bytes]]
) -> None:
    watched = rule()
    event_bus.put_rule(watched)
    roles = [start_role(), start_role()]
    wait_until(lambda: event_bus.led()[0])
    ended = threading.Event()

    def play() -> None:
        for _ in range(4):
            player.play(HAPPY, 0.8, fps=5)  # results are kept for 13 s: time to start anew
            player.play(SAD, 1.4, fps=5)
        ended.set()

    playing = threading.Thread(target=play)
    playing.start()
    kills = 0
    while not ended.wait(0.37 + 0.21 * (kills % 4)):
        roles[kills % 2].kill()
        roles[kills % 2].wait()
        roles[kills % 2] = start_role()
        kills += 1
    playing.join()
    seen = Occurrences()
    expected = [each.at for result in player.results for each in seen.observe(result, [watched])]
    assert kills > 4
    assert len(expected) == 4
    wait_until(lambda: len(event_bus.events()) >= 4, 30)
    time.sleep(0.5)
    assert [kept.event.at for kept in event_bus.events()][::-1] == expected


@pytest.mark.parametrize("written", [True, False])
def test_an_answer_of_redis_that_was_lost_makes_no_event_twice_and_loses_none(
    bus: Bus,
    event_bus: EventBus,
    player: Player,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: bool,
) -> None:
    event_bus.put_rule(rule(watches_since=0.0))
    events = role(bus, event_bus, tmp_path)
    commit = event_bus.commit
    broken: list[bool] = []

    def break_once(*args: Any, **values: Any) -> bool:
        if values["events"] and not broken:
            broken.append(written and commit(*args, **values))
            raise BusError("the line went dead")
        return commit(*args, **values)

    monkeypatch.setattr(event_bus, "commit", break_once)
    for i in range(10):
        player.show(HAPPY, at=1000.0 + i / 10)
    with pytest.raises(BusError):
        events.turn()
    for i in range(10, 14):
        player.show(HAPPY, at=1000.0 + i / 10)
        events.turn()
    assert broken == [written]
    assert [kept.event.at for kept in event_bus.events()] == [1000.3]


def test_what_redis_is_told_twice_happens_once(event_bus: EventBus) -> None:
    """As a client does that lost the connection before it had the answer."""
    assert event_bus.lead("me")
    event = Event.of(rule(), feed="cam", feed_name="Cam", at=1000.0)
    new = NewEvent(event, None, {})
    told = {"was_at": "", "cursor": "1-0", "state": "{}", "events": [new], "bounds": BOUNDS}
    assert event_bus.commit("me", "cam", **told)  # type: ignore[arg-type]
    assert not event_bus.commit("me", "cam", **told)  # type: ignore[arg-type]
    assert len(event_bus.events()) == 1


def test_one_process_leads_and_when_it_ends_the_other_takes_over_where_it_was(
    bus: Bus, event_bus: EventBus, player: Player, tmp_path: Path
) -> None:
    event_bus.put_rule(rule(watches_since=0.0))
    first, second = (role(bus, event_bus, tmp_path / name) for name in "ab")
    for i in range(3):
        player.show(HAPPY, at=1000.0 + i / 10)
    assert first.turn()
    assert not second.turn()
    first.stop()
    player.show(HAPPY, at=1000.3)
    assert second.turn()
    assert not first.turn()
    assert [kept.event.at for kept in event_bus.events()] == [1000.3]


def test_who_lost_the_lead_without_noticing_writes_nothing(
    bus: Bus, event_bus: EventBus, player: Player, tmp_path: Path
) -> None:
    event_bus.put_rule(rule(watches_since=0.0))
    late = role(bus, event_bus, tmp_path)
    player.show(HAPPY, at=1000.0)
    assert late.turn()
    player.show(HAPPY, at=1000.5)
    lead = event_bus.lead

    def lead_and_lose(name: str, *, mqtt: str = "") -> bool:
        held = lead(name, mqtt=mqtt)
        event_bus.leave(name)
        lead("another")
        return held

    event_bus.lead = lead_and_lose  # type: ignore[method-assign]
    late.turn()
    assert event_bus.events() == []


def test_a_rule_watches_its_feeds_and_keeps_pictures_only_where_it_was_told_to(
    bus: Bus, event_bus: EventBus, tmp_path: Path
) -> None:
    here, there = (Player(bus, builders.feed(name)) for name in ("here", "there"))
    event_bus.put_rule(rule(id="0000000a", feeds=("here",), picture=True, watches_since=0.0))
    event_bus.put_rule(rule(id="0000000b", watches_since=0.0))
    event_bus.put_rule(rule(id="0000000c", enabled=False, watches_since=0.0))
    events = role(bus, event_bus, tmp_path)
    for i in range(6):
        for player in (here, there):
            player.show(HAPPY, at=1000.0 + i / 10)
        events.turn()
    found = {(k.event.rule, k.event.feed, k.has_picture) for k in event_bus.events()}
    assert found == {
        ("0000000a", "here", True),
        ("0000000b", "here", False),
        ("0000000b", "there", False),
    }
    assert len(event_bus.events(feed="there")) == 1


def test_events_are_bounded_in_number_and_pictures_besides(
    bus: Bus, event_bus: EventBus, player: Player, tmp_path: Path
) -> None:
    event_bus.put_rule(rule(for_s=0, picture=True, watches_since=0.0))
    deliveries = Deliveries(event_bus, Allowed(), None)
    bounds = Bounds(events=5, age_s=3600.0, pictures=2)
    events = Events(bus, event_bus, deliveries, Mirror(tmp_path), bounds)
    for i in range(8):
        player.show(HAPPY, at=1000.0 + 10 * i)
        player.show(SAD, at=1003.0 + 10 * i)
        player.show(SAD, at=1006.0 + 10 * i)
        events.turn()
    kept = event_bus.events()
    assert [round(each.event.at) for each in kept] == [1070, 1060, 1050, 1040, 1030]
    assert [each.has_picture for each in kept] == [True, True, False, False, False]
    left = [key for key in bus._redis.keys("*event:*") if b"picture" in key]
    assert len(left) == 2


def test_deleted_is_deleted_with_picture_and_what_was_to_be_delivered(
    bus: Bus,
    event_bus: EventBus,
    player: Player,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = Webhook.new("http://127.0.0.1:9/")
    event_bus.put_rule(rule(picture=True, webhooks=(hook,), watches_since=0.0))
    events = role(bus, event_bus, tmp_path)
    for i in range(6):
        player.show(HAPPY, at=1000.0 + i / 10)
    monkeypatch.setattr(events._deliveries, "turn", lambda _name: None)
    events.turn()
    (kept,) = event_bus.events()
    assert len(event_bus.due()) == 1
    event_bus.remove_event(kept.event.id)
    assert event_bus.events() == []
    assert event_bus.due() == []
    assert bus._redis.keys("moodline:event:*") == []
    assert bus._redis.keys("moodline:events:queue:*") == []


def test_rules_and_events_are_back_after_redis_forgot_everything(
    bus: Bus, event_bus: EventBus, player: Player, tmp_path: Path
) -> None:
    hook = Webhook.new("http://127.0.0.1:9/hush", secret="s3cret")
    event_bus.restore([], [])
    event_bus.put_rule(rule(webhooks=(hook,), watches_since=0.0))
    events = role(bus, event_bus, tmp_path, ["127.0.0.1"])
    for i in range(6):
        player.show(HAPPY, at=1000.0 + i / 10)
    events.turn()
    (before,) = event_bus.events()
    events.stop()
    for name in ("rules.json", "events.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    bus._redis.flushall()
    again = role(bus, event_bus, tmp_path, ["127.0.0.1"])
    again.turn()
    assert [each.webhooks for each in event_bus.rules()] == [(hook,)]
    (after,) = event_bus.events()
    assert after.event == before.event
    (due,) = event_bus.due() or wait_until(event_bus.due)
    assert due.kept.event.id == before.event.id
    again.stop()


def test_what_was_deleted_is_on_no_disk_also_not_of_the_process_that_waits(
    bus: Bus, event_bus: EventBus, player: Player, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.events._SAVE_EVERY_S", 0.0)
    event_bus.put_rule(rule(watches_since=0.0))
    both = [role(bus, event_bus, tmp_path / name) for name in "ab"]
    files = [tmp_path / name / f"{what}.json" for name in "ab" for what in ("rules", "events")]
    for i in range(6):
        player.show(HAPPY, at=1000.0 + i / 10)
        for each in both:
            each.turn()
    assert all("0000000a" in file.read_text() for file in files)
    event_bus.remove_events()
    event_bus.remove_rule("0000000a")
    for each in both:
        each.turn()
    assert not any("0000000a" in file.read_text() for file in files)


def test_a_damaged_file_is_set_aside_and_the_rest_of_it_counts(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    mirror.save_rules([rule(), rule(id="0000000b")])
    rows = json.loads((tmp_path / "rules.json").read_text())
    rows["rules"][0]["kind"] = "lunch"
    (tmp_path / "rules.json").write_text(json.dumps(rows))
    assert [each.id for each in mirror.rules()] == ["0000000b"]
    assert list(tmp_path.glob("rules.json.damaged-*"))


def test_a_test_event_goes_to_the_targets_and_says_so(
    bus: Bus, event_bus: EventBus, tmp_path: Path
) -> None:
    with Receiver() as receiver:
        hook = Webhook.new(receiver.url)
        watched = rule(webhooks=(hook,))
        event_bus.put_rule(watched)
        event = Event.of(watched, feed="", feed_name="", at=1.0, test=True)
        event_bus.add_test(event, {f"{watched.id}.{hook.id}": Delivery(hook.masked)})
        events = role(bus, event_bus, tmp_path, ["127.0.0.1"])
        wait_until(lambda: events.turn() and receiver.taken)
    (taken,) = receiver.taken
    assert taken.event["test"] is True
    assert taken.headers["X-Moodline-Event"] == "test"


def test_health_tells_whether_somebody_looks_for_events(
    bus: Bus, event_bus: EventBus, tmp_path: Path
) -> None:
    def health() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "moodline", "health", "events"],
            env={**os.environ, "REDIS_URL": bus.url, "MOODLINE_DATA_DIR": str(tmp_path)},
            cwd=PROJECT_DIR,
            capture_output=True,
            text=True,
            check=False,
        )

    nobody = health()
    assert nobody.returncode == 1
    assert "moodline events" in nobody.stderr
    ended = threading.Event()

    def lead() -> None:
        while not ended.wait(0.2):
            event_bus.lead("me")

    leading = threading.Thread(target=lead)
    leading.start()
    time.sleep(0.3)
    assert health().returncode == 0
    ended.set()
    leading.join()


def test_a_real_camera_file_and_a_real_worker_make_an_event(
    bus: Bus, event_bus: EventBus, start_role: Callable[..., subprocess.Popen[bytes]]
) -> None:
    def answer(_: Taken) -> int:
        return 204

    with Receiver(answer) as receiver:
        new_person = rule(RuleKind.NEW_PERSON, picture=True, webhooks=(Webhook.new(receiver.url),))
        event_bus.put_rule(new_person)
        bus.restore_feeds([])
        bus.put_feed(builders.feed("demo", str(PROJECT_DIR / "workers/demo/demo.mp4")))
        for name in ("events", "worker", "capture"):
            start_role(name)
        taken = wait_until(lambda: receiver.taken, 40)[0]
        (kept,) = event_bus.events()
        assert taken.event["kind"] == "new_person"
        assert event_bus.picture(kept.event.id).startswith(b"\xff\xd8")
