"""Alert rules and dashboard: they name metrics that exist, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deployments.observability import dashboard
from serving.metrics import Metrics
from tasks.core.settings import CHECKOUT

_FOLDER = dashboard.FILE.parent
_METRIC = re.compile(r"\bslipway_(?:serving|monitor|log)_\w+")
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")
_GAUGES = ("tasks/monitoring/gauges.py", "tasks/bucket/shipper_gauges.py")


def test_dashboard_is_what_its_program_writes() -> None:
    assert dashboard.FILE.read_text() == dashboard.render(), (
        "run `python -m deployments.observability.dashboard`"
    )


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_metrics_exist(name: str) -> None:
    known = {family.name for family in Metrics().registry.collect()}
    for source in _GAUGES:
        known |= set(_METRIC.findall((CHECKOUT / source).read_text()))
    named = {_SUFFIX.sub("", metric) for metric in _METRIC.findall((_FOLDER / name).read_text())}
    assert len(named) > 5
    assert named <= known


def test_panels_have_what_the_schema_of_grafana_asks_for() -> None:
    """It allows no null, and tells the queries of a panel apart by their letters."""
    content = dashboard.FILE.read_text()
    assert ": null" not in content
    panels = json.loads(content)["panels"]
    assert {panel["type"] for panel in panels} == {"row", "stat", "timeseries"}
    for panel in panels:
        references = [target["refId"] for target in panel.get("targets", [])]
        assert len({*references}) == len(references)
        assert bool(references) == (panel["type"] != "row")


def test_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    _run_promtool("check", "rules", str(file))


def test_alerts_fire_when_they_should() -> None:
    _run_promtool("check", "rules", "alerts.yaml")
    _run_promtool("test", "rules", "alerts.test.yaml")


def _run_promtool(*arguments: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: install Debian's package `prometheus`")
    result = subprocess.run(
        [promtool, *arguments], cwd=_FOLDER, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested() -> None:
    alerts, tests = ((_FOLDER / name).read_text() for name in ("alerts.yaml", "alerts.test.yaml"))
    names = set(re.findall(r"alert: (\w+)", alerts))
    assert names
    assert names == set(re.findall(r"alertname: (\w+)\n +exp_alerts", tests))


def test_page_names_every_alert() -> None:
    page = Path(CHECKOUT / "docs" / "observability.md").read_text()
    names = re.findall(r"alert: (\w+)", (_FOLDER / "alerts.yaml").read_text())
    assert [name for name in names if f"`{name}`" not in page] == []
