"""Rules and events over HTTP, and events as they happen over Socket.IO.

Addresses of webhooks and their secrets come in and never go out: answers show scheme and host, and
an ``id`` by which a change of the rule can keep a webhook as it is. An address is looked at twice:
here, so that whoever types it hears at once where none may go, and again at each delivery.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify, request, url_for
from flask_socketio import SocketIO
from werkzeug.exceptions import BadRequest

from shared.bus import Bus
from shared.config import Settings
from shared.errors import AddressRefused, BusError, DeliveryFailed, InvalidRecord, NotFound
from shared.event_bus import EventBus, targets_of
from shared.events import (
    EVENT_ID,
    MAX_COOLDOWN_S,
    MAX_FEEDS,
    MAX_FOR_S,
    MAX_NAME_LENGTH,
    MAX_WEBHOOKS,
    Event,
    KeptEvent,
    Rule,
    RuleKind,
    Webhook,
)
from shared.outbound import Allowed, resolve
from web.problem import BadField

_log = structlog.get_logger(__name__)

MAX_RULES = 100
_MAX_EVENTS = 1000  # in one answer
_MAX_SECRET_LENGTH = 200
_DEFAULT_FOR_S = {RuleKind.EMOTION_OVER: 3.0, RuleKind.NEW_PERSON: 1.0, RuleKind.NOBODY_FOR: 60.0}
_FIELDS = (
    "name",
    "kind",
    "emotion",
    "share",
    "for_s",
    "feeds",
    "cooldown_s",
    "picture",
    "webhooks",
    "enabled",
)
_ROOM = "events"
_BLOCK_S = 1.0
_PAUSE_S = 0.4


def describe_rule(rule: Rule) -> dict[str, Any]:
    """A rule as the API and the page see it."""
    about_emotion = rule.kind is RuleKind.EMOTION_OVER
    return {
        "id": rule.id,
        "name": rule.name,
        "kind": rule.kind.value,
        "emotion": rule.emotion if about_emotion else None,
        "share": rule.share if about_emotion else None,
        "for_s": rule.for_s,
        "feeds": list(rule.feeds) or None,
        "cooldown_s": rule.cooldown_s,
        "picture": rule.picture,
        "webhooks": [
            {"id": hook.id, "url": hook.masked, "signed": bool(hook.secret)}
            for hook in rule.webhooks
        ],
        "enabled": rule.enabled,
        "created_at": rule.created_at,
    }


def describe_event(kept: KeptEvent) -> dict[str, Any]:
    """An event as its targets get it, and how its deliveries go."""
    return {
        **kept.to_dict(),
        "deliveries": [
            {
                "to": each.to,
                "state": each.state.value,
                "attempts": each.attempts,
                "at": each.at,
                "reason": each.reason or None,
            }
            for each in kept.deliveries.values()
        ],
    }


def blueprint(settings: Settings, bus: Bus, events: EventBus) -> Blueprint:
    """The routes below ``/api/rules`` and ``/api/events``.

    Raises ConfigError where MOODLINE_WEBHOOK_ALLOW does not fit.
    """
    bp = Blueprint("events", __name__, url_prefix="/api")
    allowed = Allowed.parse(settings.webhook_allow)

    @bp.get("/rules")
    def rules() -> Response:
        led, mqtt = events.led()
        return jsonify(
            {
                "rules": [describe_rule(rule) for rule in events.rules()],
                "labels": _labels(bus),
                "mqtt": mqtt or None,
                "running": led,
            }
        )

    @bp.post("/rules")
    def add() -> tuple[Response, int, dict[str, str]]:
        if len(events.rules()) >= MAX_RULES:
            raise BadField("name", f"There are {MAX_RULES} rules already: delete one first.")
        rule = _rule_from_request(bus, allowed, Rule.new_id(), None)
        events.put_rule(rule)
        where = url_for(".one", rule_id=rule.id)
        return jsonify(describe_rule(rule)), HTTPStatus.CREATED, {"Location": where}

    @bp.get("/rules/<rule_id>")
    def one(rule_id: str) -> Response:
        return jsonify(describe_rule(events.rule(rule_id)))

    @bp.put("/rules/<rule_id>")
    def change(rule_id: str) -> Response:
        former = events.rule(rule_id)
        rule = _rule_from_request(bus, allowed, rule_id, former).succeed(former)
        events.put_rule(rule)
        return jsonify(describe_rule(rule))

    @bp.delete("/rules/<rule_id>")
    def remove(rule_id: str) -> tuple[str, int]:
        events.remove_rule(rule_id)
        return "", HTTPStatus.NO_CONTENT

    @bp.post("/rules/<rule_id>/test")
    def test(rule_id: str) -> tuple[Response, int]:
        rule = events.rule(rule_id)
        targets = targets_of(rule, events.led()[1])
        event = Event.of(rule, feed="", feed_name="", at=time.time(), test=True)
        written = events.add_test(event, targets)
        return jsonify(describe_event(events.event(written.id))), HTTPStatus.ACCEPTED

    @bp.get("/events")
    def index() -> Response:
        found = events.events(
            feed=request.args.get("feed"),
            since=_number_asked("since", 0.0, 1e11),
            limit=int(_number_asked("limit", 100, _MAX_EVENTS)),
        )
        return jsonify([describe_event(kept) for kept in found])

    @bp.delete("/events")
    def remove_all() -> tuple[str, int]:
        events.remove_events()
        return "", HTTPStatus.NO_CONTENT

    @bp.get("/events/<event_id>")
    def event(event_id: str) -> Response:
        return jsonify(describe_event(events.event(_known_form(event_id))))

    @bp.delete("/events/<event_id>")
    def remove_one(event_id: str) -> tuple[str, int]:
        events.remove_event(_known_form(event_id))
        return "", HTTPStatus.NO_CONTENT

    @bp.get("/events/<event_id>/picture.jpg")
    def picture(event_id: str) -> Response:
        return Response(
            events.picture(_known_form(event_id)),
            mimetype="image/jpeg",
            headers={"Cache-Control": "no-store"},
        )

    return bp


class EventRelay:
    """Sends each event as it happens to the Socket.IO clients that asked with ``watch_events``."""

    def __init__(self, socketio: SocketIO, events: EventBus) -> None:
        self._server = socketio.server
        self._events = events
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        socketio.on_event("watch_events", self._watch)

    def close(self) -> None:
        """End the thread, which takes no longer than one read."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_BLOCK_S + 1.0)

    def _watch(self, _body: object = None) -> dict[str, object]:
        sid = str(request.sid)  # type: ignore[attr-defined]  # Flask-SocketIO puts it there
        try:
            newest = self._events.newest_event()
        except BusError as error:
            return {"ok": False, "error": str(error)}
        self._server.enter_room(sid, _ROOM)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(newest,), name="events", daemon=True
                )
                self._thread.start()
        return {"ok": True}

    def _run(self, cursor: str) -> None:
        while not self._closed.is_set():
            try:
                for kept in self._events.events_after(cursor, _BLOCK_S):
                    cursor = kept.event.id
                    self._server.emit("event", kept.to_dict(), to=_ROOM)
            except (BusError, InvalidRecord) as error:
                _log.info("events cannot be read", reason=str(error))
                if isinstance(error, InvalidRecord):
                    cursor = "$"
                self._closed.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001 - the thread serves every client, so it outlives a defect
                _log.exception("telling events failed")
                self._closed.wait(_PAUSE_S)


def _labels(bus: Bus) -> list[str]:
    """What the models of the running workers tell apart, in their order; empty: none runs."""
    return list(dict.fromkeys(label for worker in bus.workers() for label in worker.labels))


def _known_form(event_id: str) -> str:
    if not EVENT_ID.fullmatch(event_id):
        raise NotFound("There is no such event: GET /api/events lists all.")
    return event_id


def _number_asked(name: str, default: float, most: float) -> float:
    text = request.args.get(name)
    if text is None:
        return default
    value = float("nan")
    with contextlib.suppress(ValueError):
        value = float(text)
    if not 0 <= value <= most or (name == "limit" and value < 1):
        raise BadField(name, f"'{name}' must be a number up to {most:g}.")
    return value


def _rule_from_request(bus: Bus, allowed: Allowed, rule_id: str, former: Rule | None) -> Rule:
    """The rule that a request's body describes, in the place of `former`; raises BadField."""
    body = _body()
    kind = _kind(body.get("kind"))
    emotion, share = "", 0.0
    if kind is RuleKind.EMOTION_OVER:
        emotion = _emotion(bus, body.get("emotion"))
        share = _number(body, "share", None, 0.01, 0.99)
    elif body.get("emotion") is not None or body.get("share") is not None:
        raise BadField("emotion", f"'emotion' and 'share' do not belong to {kind.value!r}.")
    for_s = _number(body, "for_s", _DEFAULT_FOR_S[kind], 0, MAX_FOR_S)
    name = body.get("name")
    if name is None or name == "":
        name = _default_name(kind, emotion, share, for_s)
    if not isinstance(name, str) or not name.strip() or len(name.strip()) > MAX_NAME_LENGTH:
        raise BadField("name", f"'name' must be text of 1 to {MAX_NAME_LENGTH} characters.")
    if not name.strip().isprintable():
        raise BadField("name", "'name' must be characters that can be shown.")
    return Rule(
        id=rule_id,
        name=name.strip(),
        kind=kind,
        for_s=for_s,
        emotion=emotion,
        share=share,
        feeds=_feeds(bus, body.get("feeds"), former.feeds if former else ()),
        cooldown_s=_number(body, "cooldown_s", 0.0, 0, MAX_COOLDOWN_S),
        picture=_switch(body, "picture", default=False),
        webhooks=_webhooks(allowed, body.get("webhooks"), former.webhooks if former else ()),
        enabled=_switch(body, "enabled", default=True),
    )


def _body() -> Mapping[str, Any]:
    example = '{"kind": "emotion_over", "emotion": "happy", "share": 0.6, "for_s": 3}'
    try:
        body = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadField(
            "kind", f"The body is not JSON: send an object such as {example}."
        ) from error
    if not isinstance(body, dict):
        raise BadField("kind", f"The body is no object: send one such as {example}.")
    for name in body:
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise BadField(str(name)[:40], f"{str(name)[:40]!r} is no field: there are {known}.")
    return body


def _kind(value: object) -> RuleKind:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return RuleKind(value)
    raise BadField("kind", f"'kind' must be one of {', '.join(kind.value for kind in RuleKind)}.")


def _emotion(bus: Bus, value: object) -> str:
    labels = _labels(bus)
    if not isinstance(value, str) or (labels and value not in labels):
        known = ", ".join(labels) or "a label of the model, such as happy"
        raise BadField("emotion", f"'emotion' must be one of the model's labels: {known}.")
    if not 0 < len(value) <= 32 or not value.replace(" ", "").isalpha() or not value.islower():
        raise BadField("emotion", "'emotion' must be a label of the model, such as happy.")
    return value


def _number(
    body: Mapping[str, Any], name: str, default: float | None, least: float, most: float
) -> float:
    value = body.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadField(name, f"'{name}' must be a number from {least:g} to {most:g}.")
    return float(value)


def _switch(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise BadField(name, f"'{name}' must be true or false.")
    return value


def _feeds(bus: Bus, value: object, former: tuple[str, ...]) -> tuple[str, ...]:
    """The feeds a rule watches; null or an empty list: all. Those it had may be gone by now."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadField("feeds", "'feeds' must be a list of feeds' ids, or null for all feeds.")
    if len(value) > MAX_FEEDS:
        raise BadField("feeds", f"'feeds' must be at most {MAX_FEEDS}; null stands for all.")
    known = {*former, *(feed.id for feed in bus.feeds())}
    for each in value:
        if each not in known:
            raise BadField("feeds", f"There is no feed {each[:40]!r}: GET /api/feeds lists all.")
    return tuple(dict.fromkeys(value))


def _webhooks(allowed: Allowed, value: object, former: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
    """The webhooks of a rule: new ones by `url`, kept ones by `id`."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_WEBHOOKS:
        raise BadField("webhooks", f"'webhooks' must be a list of at most {MAX_WEBHOOKS}.")
    kept = {hook.id: hook for hook in former}
    hooks = [_webhook(allowed, row, kept) for row in value]
    if len({hook.id for hook in hooks}) < len(hooks):
        raise BadField("webhooks", "'webhooks' names one id twice: name each once.")
    return tuple(hooks)


def _webhook(allowed: Allowed, row: object, kept: Mapping[str, Webhook]) -> Webhook:
    if not isinstance(row, dict) or not set(row) <= {"id", "url", "secret"}:
        raise BadField(
            "webhooks", 'A webhook is {"url", "secret"?}, or {"id"} to keep one as it is.'
        )
    secret = row.get("secret")
    if secret is not None and not (isinstance(secret, str) and len(secret) <= _MAX_SECRET_LENGTH):
        raise BadField(
            "webhooks", f"A 'secret' is text of at most {_MAX_SECRET_LENGTH} characters."
        )
    if "id" in row:
        hook = kept.get(row["id"]) if isinstance(row["id"], str) else None
        if hook is None or "url" in row:
            raise BadField(
                "webhooks", "The rule has no webhook of that id; a new one has a 'url' and no 'id'."
            )
        return hook if secret is None else replace(hook, secret=secret)
    url = row.get("url")
    if not isinstance(url, str):
        raise BadField("webhooks", "A webhook needs a 'url' that begins with https:// or http://.")
    try:
        # A host that is not found now may be tomorrow: its deliveries will tell.
        with contextlib.suppress(DeliveryFailed):
            resolve(url.strip(), allowed)
    except AddressRefused as error:
        raise BadField("webhooks", str(error)) from error
    return Webhook.new(url.strip(), secret or "")


def _default_name(kind: RuleKind, emotion: str, share: float, for_s: float) -> str:
    return {
        RuleKind.EMOTION_OVER: f"{emotion} over {share:.0%} for {for_s:g} s",
        RuleKind.NEW_PERSON: "a new person",
        RuleKind.NOBODY_FOR: f"nobody for {for_s:g} s",
    }[kind]
