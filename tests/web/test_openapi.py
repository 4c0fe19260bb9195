from __future__ import annotations

import re
from typing import Any

import jsonschema
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.config import PROJECT_DIR
from tests import builders
from tests.web.studio import Studio

_PAGES = (
    "/",
    "/cameras",
    "/events",
    "/videos",
    "/videos/<video_id>",
    "/login",
    "/logout",
    "/language",
    "/assets/",
)


def test_every_route_is_described_and_every_description_has_a_route(client: FlaskClient) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS"}
        if method != "HEAD" or "GET" not in (rule.methods or set())
        if rule.rule not in _PAGES and not rule.rule.startswith("/assets/")
    }
    paths: dict[str, Any] = (client.get("/api/openapi.json").json or {})["paths"]
    described = {
        (path, method) for path, item in paths.items() for method in item if method != "parameters"
    }
    assert described == routes


def test_the_answers_are_as_described(client: FlaskClient, bus: Bus) -> None:
    document = client.get("/api/openapi.json").json
    assert document is not None
    studio = Studio(bus, [builders.feed()])
    studio.turn()

    def check(value: object, path: str, method: str, status: int) -> None:
        content = document["paths"][path][method]["responses"][str(status)]["content"]
        (media,) = content.values()
        schema = {**media["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    feeds = "/api/feeds"
    check(client.get(feeds).json, feeds, "get", 200)
    check(client.post(feeds, json={"source": "demo"}).json, feeds, "post", 201)
    check(client.post(feeds, json={"source": ""}).json, feeds, "post", 400)
    timeline = "/api/feeds/{feed_id}/timeline"
    check(client.get("/api/feeds/cam/timeline").json, timeline, "get", 200)
    check(client.get("/api/feeds/no/timeline").json, timeline, "get", 404)
    check(client.get("/readyz").json, "/readyz", "get", 200)


def test_what_the_form_takes_is_as_described(client: FlaskClient) -> None:
    document = client.get("/api/openapi.json").json or {}
    validator = jsonschema.Draft202012Validator(document["components"]["schemas"]["NewFeed"])
    fitting: list[dict[str, Any]] = [{"source": "demo"}, {"source": 0, "name": None, "fps": 5}]
    for body in fitting:
        validator.validate(body)
        assert client.post("/api/feeds", json=body).status_code == 201
    wrong: list[dict[str, Any]] = [{}, {"source": "demo", "speed": 1}, {"source": "demo", "fps": 0}]
    for body in wrong:
        assert not validator.is_valid(body)
        assert client.post("/api/feeds", json=body).status_code == 400


def test_the_guide_names_every_route_and_event(client: FlaskClient) -> None:
    guide = (PROJECT_DIR / "docs" / "API.md").read_text()
    document = client.get("/api/openapi.json").json or {}
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            assert re.search(rf"`{method.upper()} {re.escape(path)}[?`]", guide), (method, path)
    live = (PROJECT_DIR / "web" / "live.py").read_text()
    events = set(re.findall(r'"(\w+)": self\._', live)) - {"connect", "disconnect"}
    events |= set(re.findall(r'_emit\(\w+, "(\w+)"', live))
    assert len(events) == 11
    for event in events:
        assert re.search(rf"^\| `{event}[ `]", guide, re.MULTILINE), event
