"""Alert rules and dashboard: they name metrics that exist, and the alerts fire when they should."""

from __future__ import annotations

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


def test_alerts_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: install Debian's package `prometheus`")
    for check in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
        result = subprocess.run(
            [promtool, *check], cwd=_FOLDER, capture_output=True, text=True, check=False
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
