"""Rules and events over HTTP and Socket.IO."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from bench.live import ordered_client
from shared.bus import Bus
from shared.event_bus import Bounds, EventBus, NewEvent
from shared.events import Delivery, DeliveryState, Event, Rule
from tests import builders
from tests.web.conftest import Server, settings, wait_until
from tests.web.studio import Studio
from web import close_app, create_app

SMILES: dict[str, Any] = {
    "name": "Smiles",
    "kind": "emotion_over",
    "emotion": "happy",
    "share": 0.6,
    "for_s": 3,
}
BOUNDS = Bounds(events=100, age_s=3600.0)


@pytest.fixture
def events(bus: Bus) -> Iterator[EventBus]:
    kept = EventBus(bus.url)
    yield kept
    kept.close()


@pytest.fixture
def local(bus: Bus, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of an application whose webhooks may go to this machine."""
    app = create_app(settings(tmp_path, webhook_allow=("127.0.0.1",)), bus)
    yield app.test_client()
    close_app(app)


def add(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/rules", json={**SMILES, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json or {})


def happen(
    events: EventBus,
    rule: Rule,
    feed: str = "cam",
    at: float | None = None,
    picture: bytes | None = None,
    deliveries: dict[str, Delivery] | None = None,
) -> str:
    """Write an event as the process that leads does; return its id."""
    at = time.time() if at is None else at
    event = Event.of(
        rule, feed=feed, feed_name=feed, at=at, track=4, value=0.81234, box=(10, 20, 30, 40)
    )
    assert events.lead("test")
    was_at = events.progress().get(feed, ("", ""))[0]
    new = NewEvent(event, picture, deliveries or {})
    assert events.commit(
        "test",
        feed,
        was_at=was_at,
        cursor=f"{int(at * 1000)}-0",
        state="{}",
        events=[new],
        bounds=BOUNDS,
    )
    return events.newest_event()


def test_a_rule_is_added_listed_changed_and_removed(client: FlaskClient) -> None:
    rule = add(client)
    assert rule["feeds"] is None
    assert (rule["picture"], rule["enabled"], rule["cooldown_s"]) == (False, True, 0)
    (listed,) = (client.get("/api/rules").json or {})["rules"]
    assert listed == rule == client.get(f"/api/rules/{rule['id']}").json
    where = f"/api/rules/{rule['id']}"
    changed = client.put(where, json={**SMILES, "name": "Grins", "share": 0.7}).json or {}
    assert (changed["name"], changed["share"]) == ("Grins", 0.7)
    assert (changed["id"], changed["created_at"]) == (rule["id"], rule["created_at"])
    assert client.delete(where).status_code == 204
    for gone in (client.get(where), client.put(where, json=SMILES), client.delete(where)):
        assert gone.status_code == 404


def test_a_rule_gets_a_name_and_times_where_none_are_given(client: FlaskClient) -> None:
    rule = add(client, name=None, for_s=None)
    assert (rule["name"], rule["for_s"]) == ("happy over 60% for 3 s", 3)
    nobody = client.post("/api/rules", json={"kind": "nobody_for"}).json or {}
    assert (nobody["name"], nobody["emotion"], nobody["share"]) == ("nobody for 60 s", None, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "lunch"}, "kind"),
        ({"kind": "new_person"}, "emotion"),
        ({"emotion": None}, "emotion"),
        ({"emotion": "Happy!"}, "emotion"),
        ({"share": 60}, "share"),
        ({"share": True}, "share"),
        ({"for_s": -1}, "for_s"),
        ({"for_s": float("nan")}, "for_s"),
        ({"cooldown_s": 1e9}, "cooldown_s"),
        ({"name": "x" * 81}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"feeds": "cam"}, "feeds"),
        ({"feeds": ["nowhere"]}, "feeds"),
        ({"picture": "yes"}, "picture"),
        ({"lunch": 1}, "lunch"),
        ({"webhooks": "https://example.org"}, "webhooks"),
        ({"webhooks": [{"url": "ftp://example.org"}]}, "webhooks"),
        ({"webhooks": [{"id": "00000000"}]}, "webhooks"),
        ({"webhooks": [{"url": "https://example.org", "secret": 5}]}, "webhooks"),
        ({"webhooks": [{"url": "http://127.0.0.1/"}]}, "webhooks"),
        ({"webhooks": [{"url": "http://169.254.169.254/"}]}, "webhooks"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    client: FlaskClient, fields: dict[str, Any], field: str
) -> None:
    answer = client.post("/api/rules", json={**SMILES, **fields})
    assert answer.status_code == 400
    assert (answer.json or {})["field"] == field
    assert (client.get("/api/rules").json or {})["rules"] == []


def test_an_emotion_has_to_be_one_that_the_running_model_tells_apart(
    client: FlaskClient, bus: Bus
) -> None:
    Studio(bus, [builders.feed()]).turn()
    answer = client.post("/api/rules", json=SMILES)
    assert answer.status_code == 400
    assert "happiness" in (answer.json or {})["detail"]
    assert "happiness" in (client.get("/api/rules").json or {})["labels"]
    add(client, emotion="happiness")


def test_a_webhooks_address_and_secret_never_come_back_and_stay_when_the_rule_changes(
    local: FlaskClient, events: EventBus
) -> None:
    url = "http://me:hush1@127.0.0.1:9/services/hush2?token=hush3"
    rule = add(local, webhooks=[{"url": url, "secret": "hush4"}])
    where = f"/api/rules/{rule['id']}"
    (hook,) = rule["webhooks"]
    assert hook == {"id": hook["id"], "url": "http://127.0.0.1:9/***", "signed": True}
    changed = local.put(
        where, json={**SMILES, "name": "Other", "webhooks": [{"id": hook["id"]}]}
    ).json
    assert "hush" not in str(changed) + local.get("/api/rules").text
    (kept,) = events.rule(rule["id"]).webhooks
    assert (kept.url, kept.secret) == (url, "hush4")
    unsigned = [{"id": hook["id"], "secret": ""}]
    local.put(where, json={**SMILES, "webhooks": unsigned})
    assert events.rule(rule["id"]).webhooks[0].secret == ""
    local.put(where, json=SMILES)
    assert events.rule(rule["id"]).webhooks == ()


def test_a_rule_keeps_a_feed_that_is_gone_by_now(client: FlaskClient, bus: Bus) -> None:
    bus.put_feed(builders.feed())
    rule = add(client, feeds=["cam"])
    bus.remove_feed("cam")
    answer = client.put(f"/api/rules/{rule['id']}", json={**SMILES, "feeds": ["cam"]})
    assert answer.status_code == 200


def test_events_are_listed_newest_first_by_feed_and_time(
    client: FlaskClient, events: EventBus
) -> None:
    rule = events_rule(client, events)
    now = time.time()
    ids = [happen(events, rule, feed, now + i) for i, feed in enumerate(("cam", "hall", "cam"))]

    def listed(query: str = "") -> list[str]:
        return [row["id"] for row in client.get(f"/api/events{query}").json or []]

    assert listed() == ids[::-1]
    assert listed("?feed=cam") == [ids[2], ids[0]]
    assert listed(f"?since={now + 0.5}") == [ids[2], ids[1]]
    assert listed("?limit=1") == [ids[2]]
    for query in ("?limit=0", "?since=soon", "?limit=nan"):
        assert client.get(f"/api/events{query}").status_code == 400


def test_an_event_tells_what_happened_and_how_its_deliveries_go(
    client: FlaskClient, events: EventBus
) -> None:
    rule = events_rule(client, events)
    sent = Delivery("https://example.org/***", DeliveryState.RETRYING, 3, 5.0, "It answered 500.")
    id_ = happen(events, rule, at=1000.5, picture=b"\xff\xd8jpeg", deliveries={"x": sent})
    found = client.get(f"/api/events/{id_}").json or {}
    assert found == {
        "rule": rule.id,
        "name": "Smiles",
        "kind": "emotion_over",
        "feed": "cam",
        "feed_name": "cam",
        "at": 1000.5,
        "track": 4,
        "emotion": "happy",
        "value": 0.8123,
        "box": [10, 20, 30, 40],
        "test": False,
        "id": id_,
        "picture": f"/api/events/{id_}/picture.jpg",
        "deliveries": [
            {
                "to": "https://example.org/***",
                "state": "retrying",
                "attempts": 3,
                "at": 5.0,
                "reason": "It answered 500.",
            }
        ],
    }
    picture = client.get(found["picture"])
    assert (picture.data, picture.mimetype) == (b"\xff\xd8jpeg", "image/jpeg")
    assert picture.headers["Cache-Control"] == "no-store"


def test_deleted_events_are_gone_with_their_pictures(client: FlaskClient, events: EventBus) -> None:
    rule = events_rule(client, events)
    first, second = (happen(events, rule, picture=b"jpeg") for _ in range(2))
    assert client.delete(f"/api/events/{first}").status_code == 204
    assert client.delete(f"/api/events/{first}").status_code == 404
    assert client.get(f"/api/events/{first}/picture.jpg").status_code == 404
    assert client.get(f"/api/events/{second}/picture.jpg").status_code == 200
    assert client.delete("/api/events").status_code == 204
    assert client.get("/api/events").json == []
    assert client.get(f"/api/events/{second}/picture.jpg").status_code == 404
    for nonsense in ("x", "1", "-", "1-2-3", "%2b"):
        assert client.get(f"/api/events/{nonsense}").status_code == 404


def test_a_test_is_an_event_that_says_so_and_waits_for_its_targets(
    local: FlaskClient, events: EventBus
) -> None:
    rule = add(local, webhooks=[{"url": "http://127.0.0.1:9/x"}])
    events.lead("somebody", mqtt="mqtt://hub:1883/moodline")
    answer = local.post(f"/api/rules/{rule['id']}/test")
    assert answer.status_code == 202
    event = answer.json or {}
    assert (event["test"], event["feed"], event["name"]) == (True, "", "Smiles")
    assert [(each["to"], each["state"]) for each in event["deliveries"]] == [
        ("http://127.0.0.1:9/***", "waiting"),
        ("mqtt://hub:1883/moodline", "waiting"),
    ]
    assert (local.get("/api/rules").json or {})["running"] is True


def test_who_watches_events_gets_each_as_it_happens(
    server: Server, bus: Bus, events: EventBus
) -> None:
    heard: list[dict[str, Any]] = []
    client, other = ordered_client(), ordered_client()
    client.on("event", heard.append)
    other.on("event", lambda _: pytest.fail("nobody asked for this"))
    for each in (client, other):
        each.connect(server.url, transports=["websocket"])
    rule = Rule.from_json(
        '{"id": "0000000a", "name": "R", "kind": "new_person", "for_s": 1, "watches_since": 0}'
    )
    happen(events, rule)
    assert client.call("watch_events", {}) == {"ok": True}
    ids = [happen(events, rule) for _ in range(3)]
    wait_until(lambda: len(heard) == 3)
    for each in (client, other):
        each.disconnect()
    assert [event["id"] for event in heard] == ids
    assert heard[0]["kind"] == "new_person"


def events_rule(client: FlaskClient, events: EventBus) -> Rule:
    return events.rule(add(client)["id"])
