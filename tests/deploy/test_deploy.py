"""The alert file and the dashboard: they can be read, and ask only for metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from resumable.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD = ROOT / "deploy/grafana/resumable.json"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


def sample_names() -> set[str]:
    """Every name that a query may ask for."""
    names = {"up"}
    for family in Metrics().registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names.update(family.name + suffix for suffix in suffixes)
    return names


def metrics_of(query: str) -> set[str]:
    """The metrics a query asks for."""
    return set(re.findall(r"\b(?:resumable_|process_)\w+|\bup\b", re.sub(r'"[^"]*"', '""', query)))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def test_alerts_ask_for_what_there_is() -> None:
    for rule in rules():
        asked = metrics_of(rule["expr"])
        assert asked, rule["alert"]
        assert asked <= sample_names(), rule["alert"]


def test_each_alert_says_what_it_means() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboard_asks_for_what_there_is() -> None:
    for panel in panels():
        for target in panel["targets"]:
            asked = metrics_of(target["expr"])
            assert asked, panel["title"]
            assert asked <= sample_names(), panel["title"]


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in metrics_of(target["expr"])}
    for family in Metrics().registry.collect():
        if family.name.startswith("resumable_"):
            assert any(name.startswith(family.name) for name in shown), family.name


def test_panels_have_places_and_numbers_of_their_own() -> None:
    ids, taken = set(), set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        assert panel["id"] not in ids
        ids.add(panel["id"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", ALERTS)


@pytest.mark.soak
@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yaml"))


@pytest.mark.soak
@needs_promtool
def test_names_follow_the_conventions() -> None:
    """Names, units and help, as Prometheus's own linter wants them."""
    done = subprocess.run(["promtool", "check", "metrics"], input=Metrics().render(), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
