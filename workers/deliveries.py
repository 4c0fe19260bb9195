"""Brings events to their targets: webhooks and an MQTT broker.

What it promises:

- At least once: an event stays in its target's queue until the target has taken it, refused it for
  good, or `GIVE_UP_S` have passed. A process that is killed in between leaves it in the queue; its
  id (``Idempotency-Key``) tells a repetition.
- In order: a target gets the next event only when the one before is settled. Targets do not wait
  for each other: each attempt has a thread of its own.
- Pauses between attempts double from a second to five minutes, with jitter.
- Where a webhook leads is found out and checked anew at each attempt (`shared.outbound`), and
  exactly the checked address is connected to. No redirect is followed, no proxy is asked, nothing
  of the answer is read but its status.

Not here: which targets an event has (`shared.event_bus.targets_of`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import random
import secrets
import socket
import ssl
import threading
import time
from dataclasses import replace
from typing import Self
from urllib.parse import unquote, urlsplit

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared.config import Settings
from shared.errors import AddressRefused, BusError, ConfigError, DeliveryFailed, NotFound
from shared.event_bus import MQTT, Due, EventBus
from shared.events import DeliveryState, KeptEvent, Webhook
from shared.outbound import Allowed, Endpoint, resolve

_log = structlog.get_logger(__name__)

GIVE_UP_S = 6 * 3600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_STEP_S = 5.0  # for connecting, for each answer to what was sent
_WHOLE_S = 15.0  # for all of an attempt, however slowly an answer trickles in
_MOST_AT_ONCE = 32
_STOP_GRACE_S = 1.5
_TRY_AGAIN = (408, 425, 429)
_ADDRESSES_TRIED = 4


class Deliveries:
    """Looks which targets are due, once a turn; attempts go on beside it."""

    def __init__(self, bus: EventBus, allowed: Allowed, broker: Broker | None) -> None:
        self._bus = bus
        self._allowed = allowed
        self._broker = broker
        self._running: dict[str, threading.Thread] = {}
        self.mqtt = broker.masked if broker else ""

    @classmethod
    def of(cls, settings: Settings, bus: EventBus) -> Self:
        """As the settings say; raises ConfigError where they do not fit."""
        url = settings.mqtt_url
        broker = Broker(url.get_secret_value()) if url else None
        return cls(bus, Allowed.parse(settings.webhook_allow), broker)

    def turn(self, name: str) -> None:
        """Start an attempt for each target that is due; `name` is the leader's."""
        self._running = {t: thread for t, thread in self._running.items() if thread.is_alive()}
        for due in self._bus.due():
            if due.target in self._running or len(self._running) >= _MOST_AT_ONCE:
                continue
            thread = threading.Thread(
                target=self._attempt, args=(name, due), name=f"to {due.target}", daemon=True
            )
            self._running[due.target] = thread
            thread.start()

    def close(self) -> None:
        """Wait a moment for what is under way; the rest stays in the queues."""
        ends_at = time.monotonic() + _STOP_GRACE_S
        for thread in self._running.values():
            thread.join(max(0.0, ends_at - time.monotonic()))
        if self._broker is not None:
            self._broker.close()

    def _attempt(self, name: str, due: Due) -> None:
        tried = replace(due.delivery, attempts=due.delivery.attempts + 1)
        again_s = None
        try:
            self._send(due)
            settled = replace(tried, state=DeliveryState.DELIVERED, at=time.time(), reason="")
        except (AddressRefused, DeliveryFailed, NotFound) as error:
            age_s = time.time() - int(due.kept.event.id.partition("-")[0]) / 1000
            for_good = not isinstance(error, DeliveryFailed) or error.for_good
            if for_good or age_s > GIVE_UP_S:
                settled = replace(
                    tried, state=DeliveryState.GIVEN_UP, at=time.time(), reason=str(error)
                )
            else:
                pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(due.failures, 16))
                again_s = pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                settled = replace(
                    tried,
                    state=DeliveryState.RETRYING,
                    at=due.delivery.at or time.time(),
                    reason=str(error),
                )
        except BusError:
            return  # it is still in its queue
        except Exception:  # noqa: BLE001 - the outermost frame of a thread; other targets go on
            _log.exception("a delivery failed by a defect", target=due.target)
            settled = replace(
                tried,
                state=DeliveryState.GIVEN_UP,
                at=time.time(),
                reason="Moodline failed at this delivery; its log says where.",
            )
        with contextlib.suppress(BusError):
            self._bus.settle(name, due, settled, again_s)

    def _send(self, due: Due) -> None:
        """One attempt; raises AddressRefused, DeliveryFailed, or NotFound: the target is gone."""
        if due.target == MQTT:
            if self._broker is None:
                raise NotFound("MOODLINE_MQTT_URL is no longer set.")
            self._broker.publish(due.kept)
            return
        rule_id, _, hook_id = due.target.partition(".")
        for hook in self._bus.rule(rule_id).webhooks:
            if hook.id == hook_id:
                post(resolve(hook.url, self._allowed), hook, due.kept)
                return
        raise NotFound("The rule has lost this webhook.")


def body_of(kept: KeptEvent) -> bytes:
    """What a target is sent: the event as the API describes it, as JSON."""
    return json.dumps(kept.to_dict(), separators=(",", ":")).encode()


def sign(secret: str, body: bytes) -> str:
    """The value of ``X-Moodline-Signature``: HMAC-SHA256 of the body's bytes."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(endpoint: Endpoint, hook: Webhook, kept: KeptEvent) -> None:
    """Post an event; raises DeliveryFailed unless the answer is 2xx."""
    body = body_of(kept)
    headers = {
        "Host": endpoint.host_header,
        "User-Agent": "Moodline",
        "Content-Type": "application/json",
        "Idempotency-Key": kept.event.id,
        "X-Moodline-Event": "test" if kept.event.test else kept.event.kind.value,
        "Connection": "close",
    }
    if hook.secret:
        headers["X-Moodline-Signature"] = sign(hook.secret, body)
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization
    connection = _Pinned(endpoint)
    deadline = threading.Timer(_WHOLE_S, connection.cut)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request("POST", endpoint.target, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = f"no answer within {_WHOLE_S:g} s" if connection.was_cut else _reason(error)
        raise DeliveryFailed(f"{endpoint.host} was not reached: {reason}.") from error
    finally:
        deadline.cancel()
        connection.close()
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise DeliveryFailed(
            f"{endpoint.host} answered {status}, a redirect, which is not followed: "
            "give the address that it leads to.",
            for_good=True,
        )
    for_good = 400 <= status < 500 and status not in _TRY_AGAIN
    raise DeliveryFailed(f"{endpoint.host} answered {status}.", for_good=for_good)


class _Pinned(http.client.HTTPConnection):
    """A connection to one of the checked addresses of an endpoint and to nothing else."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.host, endpoint.port, timeout=_STEP_S)
        self._endpoint = endpoint
        self.was_cut = False

    def connect(self) -> None:
        raw = self._open()
        if self._endpoint.scheme == "http":
            self.sock = raw
            return
        self.sock = raw  # so that `cut` reaches it while the handshake goes on
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(raw, server_hostname=self._endpoint.host)

    def _open(self) -> socket.socket:
        last: OSError | None = None
        for address in self._endpoint.addresses[:_ADDRESSES_TRIED]:
            try:
                return socket.create_connection((address, self._endpoint.port), _STEP_S)
            except OSError as error:
                last = error
        raise last or OSError("it has no address")

    def cut(self) -> None:
        """End it now, from another thread."""
        self.was_cut = True
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class Broker:
    """An MQTT broker: events are published with quality of service 1 below a prefix.

    The topic is ``<prefix>/<feed id>/<kind>``; tests go to ``<prefix>/test``. One thread uses it.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigError where `url` is no broker's address."""
        try:
            parts = urlsplit(url)
            port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        except ValueError as error:
            raise ConfigError(_WRONG_BROKER) from error
        self._prefix = unquote(parts.path).strip("/") or "moodline"
        if (
            parts.scheme not in ("mqtt", "mqtts")
            or not parts.hostname
            or set(self._prefix) & {*"+#"}
        ):
            raise ConfigError(_WRONG_BROKER)
        self._tls = parts.scheme == "mqtts"
        self._host, self._port = parts.hostname, port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._client: paho.Client | None = None
        self.masked = f"{parts.scheme}://{self._host}:{port}/{self._prefix}"

    def publish(self, kept: KeptEvent) -> None:
        """Publish an event; raises DeliveryFailed unless the broker has confirmed it."""
        event = kept.event
        where = "test" if event.test else f"{event.feed}/{event.kind.value}"
        try:
            if self._client is None:
                self._client = self._connect()
            sent = self._client.publish(f"{self._prefix}/{where}", body_of(kept), qos=1)
            sent.wait_for_publish(_WHOLE_S)
            confirmed = sent.is_published()
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise DeliveryFailed(f"{self._host} was not reached: {_reason(error)}.") from error
        if not confirmed:
            self.close()  # and with it what it might send later on its own
            raise DeliveryFailed(f"{self._host} did not confirm within {_WHOLE_S:g} s.")

    def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"moodline-{secrets.token_hex(6)}"
        )
        client.connect_timeout = _STEP_S
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._tls:
            client.tls_set()
        answered = threading.Event()
        refusal: list[str] = []

        def on_connect(
            _client: object, _data: object, _flags: object, code: object, *_: object
        ) -> None:
            if getattr(code, "is_failure", False):
                refusal.append(str(code))
            answered.set()

        client.on_connect = on_connect
        client.connect(self._host, self._port, keepalive=30)
        client.loop_start()
        if not answered.wait(_STEP_S) or refusal:
            client.disconnect()
            client.loop_stop()
            raise DeliveryFailed(
                f"{self._host} refused the connection: {refusal[0]}."
                if refusal
                else f"{self._host} did not answer within {_STEP_S:g} s."
            )
        return client


_WRONG_BROKER = (
    "MOODLINE_MQTT_URL is no address of a broker: write mqtt://user:password@host:1883/prefix, or "
    "mqtts:// with TLS; user, password and prefix may be left out."
)


def _reason(error: BaseException) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {_STEP_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__)[:120]
