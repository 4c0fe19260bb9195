"""Deliveries to a real web server and a real broker."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared.bus import Bus
from shared.errors import ConfigError
from shared.event_bus import EventBus, targets_of
from shared.events import Delivery, DeliveryState, Event, Rule, RuleKind, Webhook
from shared.outbound import Allowed
from tests.workers.receiver import Receiver, Taken
from workers import deliveries as module
from workers.deliveries import Broker, Deliveries, sign

LOCAL = Allowed.parse(["127.0.0.1"])
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


@pytest.fixture
def event_bus(bus: Bus) -> Iterator[EventBus]:
    events = EventBus(bus.url)
    assert events.lead("me")
    yield events
    events.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.05)


class Post:
    """Rules with webhooks, and the deliveries of their events, turned by hand."""

    def __init__(
        self, bus: EventBus, allowed: Allowed = LOCAL, broker: Broker | None = None
    ) -> None:
        self.bus = bus
        self.deliveries = Deliveries(bus, allowed, broker)
        self._count = 0

    def rule(self, *hooks: Webhook) -> Rule:
        self._count += 1
        rule = Rule(f"{self._count:08x}", "R", RuleKind.NEW_PERSON, 1.0, webhooks=hooks)
        self.bus.put_rule(rule)
        return rule

    def happen(self, rule: Rule, track: int = 1) -> str:
        # Not marked as a test: it goes where one that happened goes.
        event = Event.of(rule, feed="cam", feed_name="Cam", at=1000.5, track=track)
        return self.bus.add_test(event, targets_of(rule, self.deliveries.mqtt)).id

    def turn_until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.states()
            self.bus.lead("me", mqtt=self.deliveries.mqtt)
            self.deliveries.turn("me")
            time.sleep(0.01)

    def states(self) -> list[Delivery]:
        """Of all events, oldest first."""
        return [each for kept in self.bus.events()[::-1] for each in kept.deliveries.values()]

    def all_are(self, state: DeliveryState) -> bool:
        return all(each.state is state for each in self.states())


def test_an_event_that_fails_is_sent_again_until_it_is_taken(event_bus: EventBus) -> None:
    answers = iter([503, 429, 500, 201])
    with Receiver(lambda _: next(answers)) as receiver:
        post = Post(event_bus)
        id_ = post.happen(post.rule(Webhook.new(f"{receiver.url}/a?b=c", secret="s3cret")))
        post.turn_until(lambda: post.all_are(DeliveryState.RETRYING))
        assert "503" in post.states()[0].reason
        post.turn_until(lambda: post.all_are(DeliveryState.DELIVERED))
    (delivery,) = post.states()
    assert (delivery.attempts, delivery.reason) == (4, "")
    taken = receiver.taken[-1]
    assert taken.path == "/a?b=c"
    assert taken.headers["Idempotency-Key"] == id_ == taken.event["id"]
    assert taken.headers["X-Moodline-Signature"] == sign("s3cret", taken.body)
    assert taken.headers["Content-Type"] == "application/json"
    assert taken.event["track"] == 1


@pytest.mark.parametrize(("status", "said"), [(400, "400"), (410, "410"), (302, "redirect")])
def test_a_refusal_is_final_and_a_redirect_is_not_followed(
    event_bus: EventBus, status: int, said: str
) -> None:
    with Receiver(lambda _: status) as receiver:
        post = Post(event_bus)
        post.happen(post.rule(Webhook.new(receiver.url)))
        post.turn_until(lambda: post.all_are(DeliveryState.GIVEN_UP))
        assert len(receiver.taken) == 1
    assert said in post.states()[0].reason


def test_a_target_gets_its_events_in_order_and_waits_for_no_other(event_bus: EventBus) -> None:
    release = threading.Event()
    tries: list[int] = []

    def slow(taken: Taken) -> int:
        release.wait(10)
        return 204

    def broken_twice(taken: Taken) -> int:
        tries.append(taken.event["track"])
        return 500 if len(tries) < 3 else 204

    with Receiver(slow) as hanging, Receiver(broken_twice) as other:
        post = Post(event_bus)
        hanging_rule = post.rule(Webhook.new(hanging.url))
        other_rule = post.rule(Webhook.new(other.url))
        for track in (1, 2, 3):
            post.happen(hanging_rule, track)
            post.happen(other_rule, track)
        post.turn_until(lambda: len(tries) == 5)
        assert tries == [1, 1, 1, 2, 3]
        assert len(hanging.taken) == 1
        release.set()
        post.turn_until(lambda: post.all_are(DeliveryState.DELIVERED))


def test_what_is_in_the_queue_outlives_the_process_that_delivers(event_bus: EventBus) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        post = Post(event_bus)
        post.happen(post.rule(Webhook.new(f"http://127.0.0.1:{port}/")))
        post.turn_until(lambda: post.all_are(DeliveryState.RETRYING))
        post.deliveries.close()
    since = post.states()[0].at
    again = Post(event_bus)
    again.turn_until(lambda: again.states()[0].attempts > 2)
    (delivery,) = again.states()
    assert delivery.state is DeliveryState.RETRYING
    assert delivery.at == since
    assert "refused" in delivery.reason.lower()


def test_after_hours_a_delivery_is_given_up_with_its_reason(
    event_bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.GIVE_UP_S >= 3600
    monkeypatch.setattr(module, "GIVE_UP_S", 0.3)
    with Receiver(lambda _: 500):
        post = Post(event_bus)
        post.happen(post.rule(Webhook.new("http://127.0.0.1:9/")))
        post.turn_until(lambda: post.all_are(DeliveryState.GIVEN_UP))
    assert event_bus.due() == []


def test_where_a_webhook_leads_is_checked_at_each_delivery_and_held_to(
    event_bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that was public when the rule was made and is this machine now."""
    with Receiver() as receiver:
        port = receiver.url.rpartition(":")[2]
        post = Post(event_bus, Allowed())
        real = socket.getaddrinfo

        def rebound(host: str, *args: Any, **more: Any) -> Any:
            return real("127.0.0.1" if host == "rebound.example" else host, *args, **more)

        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        post.happen(post.rule(Webhook.new(f"http://rebound.example:{port}/")))
        post.turn_until(lambda: post.all_are(DeliveryState.GIVEN_UP))
        assert receiver.taken == []
    assert "MOODLINE_WEBHOOK_ALLOW" in post.states()[0].reason


def test_a_webhook_of_a_rule_that_is_gone_gets_nothing(event_bus: EventBus) -> None:
    with Receiver() as receiver:
        post = Post(event_bus)
        rule = post.rule(Webhook.new(receiver.url))
        post.happen(rule)
        event_bus.remove_rule(rule.id)
        post.turn_until(lambda: post.all_are(DeliveryState.GIVEN_UP))
        assert receiver.taken == []


def test_an_answer_that_trickles_in_is_cut(
    event_bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WHOLE_S", 0.4)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def trickle() -> None:
            client, _ = server.accept()
            with client:
                for letter in b"HTTP/1.1 200 OK and so on and on and on and on and on and on":
                    time.sleep(0.1)
                    try:
                        client.sendall(bytes([letter]))
                    except OSError:
                        return

        threading.Thread(target=trickle, daemon=True).start()
        post = Post(event_bus)
        post.happen(post.rule(Webhook.new(f"http://127.0.0.1:{server.getsockname()[1]}/")))
        post.turn_until(lambda: post.all_are(DeliveryState.RETRYING))
    assert "within 0.4 s" in post.states()[0].reason


def test_a_server_that_cannot_prove_its_name_is_told_nothing(
    event_bus: EventBus, tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl: install it (on Debian: apt-get install openssl)")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    with Receiver(certificate=(certificate, key)) as receiver:
        post = Post(event_bus)
        post.happen(post.rule(Webhook.new(receiver.url)))
        post.turn_until(lambda: post.all_are(DeliveryState.RETRYING))
        assert receiver.taken == []
    assert "certificate" in post.states()[0].reason.lower()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    """The port of a broker that lets only `moodline` with the password `p@ss` in."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto: install it (on Debian: apt-get install mosquitto)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "moodline", "p@ss"], check=True)
    passwords.chmod(0o644)
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
    )
    with subprocess.Popen([MOSQUITTO, "-c", str(config)], stderr=subprocess.DEVNULL) as broker:
        deadline = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "no broker"
                time.sleep(0.02)
        yield port
        broker.terminate()


def test_events_are_published_on_a_real_broker(event_bus: EventBus, mosquitto: int) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    listens = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener")
    client.username_pw_set("moodline", "p@ss")
    client.on_message = lambda _c, _d, m: heard.append((m.topic, json.loads(m.payload)))
    client.on_subscribe = lambda *_: listens.set()
    client.connect("127.0.0.1", mosquitto)
    client.loop_start()
    client.subscribe("home/faces/#", qos=1)
    assert listens.wait(5)
    broker = Broker(f"mqtt://moodline:p%40ss@127.0.0.1:{mosquitto}/home/faces")
    post = Post(event_bus, broker=broker)
    post.happen(post.rule())
    post.happen(post.rule())
    post.turn_until(lambda: len(heard) == 2 and post.all_are(DeliveryState.DELIVERED))
    post.deliveries.close()
    client.disconnect()
    client.loop_stop()
    assert heard[0][0] == "home/faces/cam/new_person"
    assert heard[0][1]["feed"] == "cam"
    assert "p%40ss" not in str(post.states())


def test_a_broker_that_refuses_is_asked_again_and_says_why(
    event_bus: EventBus, mosquitto: int
) -> None:
    broker = Broker(f"mqtt://moodline:wrong@127.0.0.1:{mosquitto}")
    post = Post(event_bus, broker=broker)
    post.happen(post.rule())
    post.turn_until(lambda: post.states()[0].attempts >= 2)
    assert "refused" in post.states()[0].reason
    assert "wrong" not in str(post.states())
    post.deliveries.close()


@pytest.mark.parametrize("url", ["http://host", "mqtt://", "mqtt://h/a+b", "mqtt://me:hush@h:x"])
def test_a_brokers_address_that_does_not_fit_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="MOODLINE_MQTT_URL") as raised:
        Broker(url)
    assert "hush" not in str(raised.value)
