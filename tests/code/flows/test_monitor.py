"""Requests from a shifted world raise an alarm; those from the same world do not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import FlowProcess, Lab
from tests.code.tasks.monitoring.logs import make_line
from tests.stack_access import prefect_http

pytestmark = pytest.mark.timeout(900)

_SECOND = timedelta(seconds=1)
_RULES = json.dumps({"retrain": False})


@pytest.fixture(autouse=True)
def _live(lab: Lab, delivered: Delivery) -> None:
    """Bring the delivered model live, if another test has left another one."""
    if not lab.is_live(delivered.commit):
        again = lab.run("deploy", {"ref": delivered.commit, "force": True, "reason": "as it began"})
        assert again.state == "Completed", again.log


def _read_stored(lab: Lab, commit: str, path: str) -> str:
    lock = yaml.safe_load(lab.git("show", f"{commit}:dvc.lock"))
    (md5,) = (
        out["md5"] for stage in lock["stages"].values() for out in stage["outs"]
        if out["path"] == path
    )  # fmt: skip
    body = lab.s3().get_object(Bucket=lab.bucket, Key=lab.key(md5))["Body"]
    return str(body.read().decode())


class World:
    """Makes requests like those that the model was trained and tested on."""

    def __init__(self, lab: Lab, delivery: Delivery) -> None:
        self._lab, self._draws = lab, random.Random(1)
        profile = json.loads(_read_stored(lab, delivery.commit, "data/profile.json"))
        self._points = {name: column["points"] for name, column in profile["columns"].items()}
        table = _read_stored(lab, delivery.commit, "data/predictions.csv")
        self._answers = [int(row["predicted"]) for row in csv.DictReader(io.StringIO(table))]
        self._version = lab.live()["version"]
        self._number = 0

    def _draw_row(self, shift: float) -> dict[str, Any]:
        row = {name: self._draws.choice(points) for name, points in self._points.items()}
        spread = self._points["alcohol"][-1] - self._points["alcohol"][0]
        return row | {"alcohol": row["alcohol"] + shift * spread}

    def log(self, at: datetime, requests: int, shift: float = 0.0) -> None:
        """Put a file of records into the bucket."""
        lines = []
        for _ in range(requests):
            self._number += 1
            rows = [self._draw_row(shift) for _ in range(10)]
            outputs = [self._draws.choice(self._answers) for _ in rows]
            lines.append(
                make_line(
                    self._number, rows, outputs, subject=self._version, time=at.isoformat()
                )
            )  # fmt: skip
        folder = f"predictions/wine/local/date={at:%Y-%m-%d}/version={self._version}"
        self._lab.s3().put_object(
            Bucket=self._lab.bucket,
            Key=f"{folder}/host-{at:%H%M%S}-{self._number}.jsonl.gz",
            Body=gzip.compress(b"".join([*lines, b"no record\n"])),
        )


def _start(lab: Lab, start: datetime) -> FlowProcess:
    """Start a run on the window of a second."""
    window = f"{start:%Y-%m-%dT%H:%M:%S}/{start + _SECOND:%Y-%m-%dT%H:%M:%S}"
    return lab.start("monitor", {"window": window}, SLIPWAY_LOCAL_MONITOR=_RULES)


def test_alarm_of_a_shifted_world(lab: Lab, delivered: Delivery) -> None:
    world = World(lab, delivered)
    first = datetime.now(UTC).replace(microsecond=0) + _SECOND
    for number, shift in enumerate((0.0, 0.5, 0.5)):
        world.log(first + number * _SECOND, 40, shift)

    report = _start(lab, first).outcome()
    assert (report.state, report.data["outcome"]) == ("Completed", "no difference"), report.log
    assert report.data["log"]["rows"] == 400
    assert report.data["log"]["invalid"] >= 1
    report = _start(lab, first + _SECOND).outcome()
    assert report.data["outcome"] == "differs", report.log
    assert report.data["reasons"][0].startswith("values of alcohol differ by 0.")
    assert not report.data["alarm"]
    two_at_once = [_start(lab, first + 2 * _SECOND) for _ in range(2)]
    report, other = (process.outcome() for process in two_at_once)
    assert (report.state, report.data["alarm"], report.data["acts"]) == ("Alarm", True, True)
    again = _start(lab, first + 2 * _SECOND).outcome()
    assert report.data == other.data == again.data, "a window has one report"

    with prefect_http(lab.stack) as http:
        shown = http.get("/artifacts/wine-local-monitor/latest").raise_for_status().json()
        page = http.get("/artifacts/wine-local-monitor-data/latest").raise_for_status().json()
    assert shown["data"].count("data:image/png;base64,") == 2
    assert "ALARM: values of alcohol" in shown["description"]
    key = (
        json.loads(page["data"])["page"] if isinstance(page["data"], str) else page["data"]["page"]
    )
    body = lab.s3().get_object(Bucket=lab.bucket, Key=key)["Body"].read().decode()
    assert "<table>" in body
    assert '<img src="data:image/png' in body
    gauges = (lab.stack.home / "gauges" / "slipway-monitor-local.prom").read_text()
    assert 'slipway_monitor_alarm{environment="local",model="wine"' in gauges
    (status,) = lab.run("status", {"environment": "local"}).data
    assert "ALARM" in status["monitor"]
    empty = _start(lab, first + 9 * _SECOND).outcome()
    assert (empty.state, empty.data["outcome"]) == ("Completed", "no traffic")
