"""The dashboard, the alerts and the autoscaling name only what a running server tells."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.schema import WorkerReport
from tests import builders
from tests.web.conftest import start, stop
from tests.web.studio import Studio
from workers.live import Delays

DEPLOY = PROJECT_DIR / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
_METRIC = re.compile(r"\b(moodline_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')


def dashboard() -> dict[str, Any]:
    loaded = json.loads((DEPLOY / "grafana" / "moodline.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression there is, and what it belongs to."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    scaling = (DEPLOY / "k8s" / "autoscaled" / "worker-scaling.yaml").read_text()
    for trigger in yaml.safe_load(scaling)["spec"]["triggers"]:
        yield trigger["name"], trigger["metadata"]["query"]


@pytest.fixture
def told(bus: Bus, tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    """What a running web process tells of a system at work: the labels of each sample by name."""
    studio = Studio(bus, [builders.feed("a")])
    for _ in range(3):
        studio.turn()
    delays = Delays()
    delays.add(0.1)
    bus.report_worker(
        WorkerReport(
            name="w",
            model="m",
            labels=("happy",),
            started_at=time.time(),
            stage_seconds={"decode": 1.0},
            delays=delays.counts,
        )
    )
    server = start(bus.url, tmp_path / "data")
    try:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        stop(server.process)
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


def test_every_metric_and_label_that_is_asked_for_is_told(
    told: dict[str, list[dict[str, str]]],
) -> None:
    asked = set()
    for place, expression in expressions():
        names = _METRIC.findall(expression)
        assert names or expression.startswith("up{"), place
        for name, matchers in names:
            assert name in told, f"{place}: {name}"
            asked.add(name)
            for label, _, _ in _MATCHER.findall(matchers):
                assert all(label in labels for labels in told[name]), f"{place}: {name}{{{label}}}"
        assert expression.count("(") == expression.count(")"), place
    # What decides whether there are enough workers is asked for somewhere.
    assert {"moodline_queue_age_seconds", "moodline_worker_busy_seconds_total"} <= asked


def test_states_reasons_and_queues_that_are_asked_for_exist(
    told: dict[str, list[dict[str, str]]],
) -> None:
    """A word that is misspelt matches nothing, and an alert on it stays silent for ever."""
    values: dict[str, set[str]] = {}
    for samples in told.values():
        for labels in samples:
            for label, value in labels.items():
                values.setdefault(label, set()).add(value)
    for place, expression in expressions():
        for _, matchers in _METRIC.findall(expression):
            for label, kind, value in _MATCHER.findall(matchers):
                for word in value.split("|") if kind == "=~" else [value]:
                    assert word in values[label], f"{place}: {label}={word}"


def test_what_all_web_processes_tell_is_counted_once() -> None:
    """All but moodline_web_* is the same at each of them: the greatest of it before any sum."""
    summed = re.compile(r"sum(?: by \([^)]*\))? ?\((?:rate\(|increase\()?(\w+)")
    for place, expression in expressions():
        for first in summed.findall(expression):
            assert first == "max" or first.startswith("moodline_web_"), place


def test_the_dashboard_has_its_panels_in_place() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 36
    assert [variable["type"] for variable in board["templating"]["list"]] == ["datasource"]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        spot = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(spot["x"], spot["x"] + spot["w"])
            for y in range(spot["y"], spot["y"] + spot["h"])
        }
        assert spot["x"] + spot["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_alert_is_explained() -> None:
    text = (PROJECT_DIR / "docs" / "OPERATIONS.md").read_text()
    names = [rule["alert"] for rule in alerts()]
    assert re.findall(r"^\| `(Moodline\w+)` \|", text, re.MULTILINE) == names
    for rule in alerts():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        assert re.fullmatch(r"\d+[sm]", rule["for"])
