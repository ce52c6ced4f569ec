"""The way round: the world shifts, an alarm retrains, the new model goes live, the alarm ends.

After this test, main and what is live are of the shifted world.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tasks.monitoring.window import parse_span
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import FlowProcess, Lab
from tests.stack_access import prefect_http, wait_for_end

pytestmark = pytest.mark.timeout(900)

_LENGTH = timedelta(seconds=2)
_REQUESTS, _ROWS = 3, 100
# Alarms of other tests may have acted in this environment.
_RULES = {"SLIPWAY_LOCAL_MONITOR": json.dumps({"cool_down_hours": 0})}
# What the flow does with each window; a run for each would take ten times the CPU.
_JUDGE = """
import asyncio, json, sys
from datetime import UTC, datetime
from tasks.monitoring.labels import Labels
from tasks.monitoring.release import read_release
from tasks.monitoring.report import judge_window, raise_alarm
from tasks.monitoring.store import read_log
from tasks.monitoring.window import parse_span
from tasks.platforms.catalogue import gate_rules, load_environment
from tasks.repository.release_history import read_history
from tasks.repository.workspace import move_workspace, open_workspace

async def judge():
    settings = load_environment("local")
    async with open_workspace("main", signed_tags=settings.signed) as newest:
        entry = (await read_history(newest, "local"))[0]
        workspace = await move_workspace(newest, entry.commit)
        release = await read_release.fn(workspace, entry, gate_rules(settings))
    reports = []
    for window in json.loads(sys.argv[1]):
        span = parse_span(window, datetime.now(UTC))
        records = await read_log.fn("/wine/local", release.version, span, 0)
        report = judge_window(records, release, settings.monitor, Labels())
        report = raise_alarm(report, None, reports, settings.monitor, is_live=True)
        reports.insert(0, report)
        print("WINDOW " + json.dumps([report.outcome, report.rows, report.alarm]))

asyncio.run(judge())
"""
_SAVE_SECRET = """
import sys
from prefect.blocks.system import Secret
Secret(value=sys.argv[2]).save(sys.argv[1], overwrite=True, _sync=True)
"""


class _World:
    """Wines as those of the template's table; in a shifted world each has more alcohol, or not."""

    def __init__(self, table: str) -> None:
        self._draws = random.Random(1)
        self._wines = [
            {name: float(text) for name, text in row.items()}
            for row in csv.DictReader(io.StringIO(table))
        ]
        self._spreads = {
            name: max(column) - min(column)
            for name in self._wines[0]
            if (column := [wine[name] for wine in self._wines])
        }
        self.shift = 0.0

    def draw(self) -> tuple[dict[str, float], int]:
        """Draw a wine that is none of the table's, and its class."""
        wine = dict(self._draws.choice(self._wines))
        label = int(wine.pop("target"))
        row = {
            name: value + 0.01 * self._spreads[name] * self._draws.gauss(0, 1)
            for name, value in wine.items()
        }
        row["alcohol"] += self.shift * self._spreads["alcohol"] * self._draws.random()
        return row, label

    def fill(self, database: Path) -> None:
        """Replace the wines of which the class is known by those of now."""
        wines = [(*row.values(), label) for row, label in (self.draw() for _ in range(600))]
        columns = ", ".join(f'"{name}"' for name in self._wines[0])
        with sqlite3.connect(database) as connection:
            connection.execute("DROP TABLE IF EXISTS wines")
            connection.execute(f"CREATE TABLE wines ({columns})")
            places = ", ".join("?" * len(wines[0]))
            connection.executemany(f"INSERT INTO wines VALUES ({places})", wines)


def _name_source(lab: Lab, database: Path) -> None:
    """Have main learn from a query; until it is asked again, the data are as they were."""
    table = lab.read_stored("main", "data/raw.csv").encode()
    md5 = hashlib.md5(table, usedforsecurity=False).hexdigest()
    lab.s3().put_object(Bucket=lab.bucket, Key=lab.key(md5), Body=table)
    out = {"md5": md5, "size": len(table), "hash": "md5", "path": "wines.csv"}

    def change(text: str) -> str:
        parameters = yaml.safe_load(text)
        parameters["data"] |= {"source": "data/source/wines.csv", "database": "wines"}
        parameters["train"] |= {"grid": {"C": [1.0], "gamma": ["scale"]}, "cv": 2}
        return yaml.safe_dump(parameters)

    files = {
        "params.yaml": change,
        "data/source/wines.sql": "SELECT * FROM wines ORDER BY rowid",
        "data/source/wines.csv.dvc": yaml.safe_dump({"outs": [out]}),
        "data/source/.gitignore": "/wines.csv\n",
    }
    lab.commit(files, "main", "main")
    lab.run_code(_SAVE_SECRET, ["slipway-database-wines", f"sqlite:///{database}"])


def _ask(lab: Lab, world: _World, windows: int) -> list[str]:
    """Send the live model the requests of some windows; wait until they are in the log."""
    spans: list[str] = []
    with httpx.Client(base_url=lab.url, trust_env=False, timeout=20) as client:
        while len(spans) < windows:
            start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
            time.sleep((start - datetime.now(UTC)).total_seconds())
            for _ in range(_REQUESTS):
                rows = [world.draw()[0] for _ in range(_ROWS)]
                answer = client.post("/predict", json={"data": {"values": rows}})
                identifier = answer.raise_for_status().headers["x-request-id"]
            end = start + _LENGTH
            if datetime.now(UTC) < end:  # else the machine was too busy, and no window has them
                spans.append(f"{start:%Y-%m-%dT%H:%M:%S}/{end:%Y-%m-%dT%H:%M:%S}")
                time.sleep((end - datetime.now(UTC)).total_seconds())
    folder = f"predictions/wine/local/date={start:%Y-%m-%d}"
    lab.wait_for_record(f"{folder}/", identifier)
    key = f"{folder}/version={lab.live()['version']}/host-0-0.jsonl.gz"
    lab.s3().put_object(Bucket=lab.bucket, Key=key, Body=gzip.compress(b"no record\n"))
    return spans


def _start(lab: Lab, window: str) -> FlowProcess:
    return lab.start("monitor", {"window": window}, **_RULES)


def _judge(lab: Lab, windows: list[str]) -> list[Any]:
    """Judge windows one after the other: outcome, number of rows, and if there is an alarm."""
    lines = lab.run_code(_JUDGE, [json.dumps(windows)], **_RULES).splitlines()
    prefix = "WINDOW "
    return [json.loads(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]


def test_alarm_ends_with_the_model_that_it_has_brought(
    lab: Lab, delivered: Delivery, tmp_path: Path
) -> None:
    if not lab.is_live(delivered.commit):
        parameters = {"ref": delivered.commit, "force": True, "reason": "as it began"}
        assert lab.run("deploy", parameters).state == "Completed"
    world = _World(lab.read_stored(delivered.commit, "data/raw.csv"))
    world.fill(tmp_path / "wines.db")
    _name_source(lab, tmp_path / "wines.db")
    main, retrains = lab.head(), len(lab.api.find_runs(flows=["retrain"]))

    usual = _ask(lab, world, 10)
    world.shift = 1.0
    world.fill(tmp_path / "wines.db")
    first, second = _ask(lab, world, 2)
    assert _judge(lab, usual) == [["no difference", _REQUESTS * _ROWS, False]] * 10
    report = _start(lab, first).outcome()
    assert (report.state, report.data["outcome"]) == ("Completed", "differs"), report.log
    assert report.data["reasons"][0].startswith("values of alcohol differ by 0.")
    assert report.data["log"]["rows"] == _REQUESTS * _ROWS
    assert report.data["log"]["invalid"] >= 1
    killed = _start(lab, second)
    killed.wait_for("the alarm has started")  # and the report is not stored yet
    killed.kill()
    numbers = f"{_REQUESTS} requests of {report.data['version']}, {_REQUESTS * _ROWS} rows"
    assert numbers in killed.log
    two_at_once = [_start(lab, second) for _ in range(2)]
    report, other = (process.outcome() for process in two_at_once)
    assert (report.state, report.data["alarm"], report.data["acts"]) == ("Alarm", True, True)
    assert report.data == other.data, "a window has one report"
    assert report.data["log"]["rows"] == _REQUESTS * _ROWS
    assert _count_reports(lab, second) == 1
    _check_pages(lab)

    (run,) = lab.api.find_runs(flows=["retrain"])[:-retrains]
    retrain = wait_for_end(lab.api, run.id)
    lines = "\n".join(line.message for line in lab.api.read_logs([run.id], count=200))
    assert (retrain.label, lab.head() != main) == ("Completed", True), f"{retrain.message}\n{lines}"
    assert lab.run("deploy", {"ref": "main"}).data["outcome"] == "live"
    assert lab.is_live(lab.head())
    later = _ask(lab, world, 3)
    assert _judge(lab, later) == [["no difference", _REQUESTS * _ROWS, False]] * 3
    report = _start(lab, later[-1]).outcome()
    assert (report.state, report.data["alarm"]) == ("Completed", False), report.log
    assert len(lab.api.find_runs(flows=["retrain"])) == retrains + 1


def _count_reports(lab: Lab, window: str) -> int:
    name = parse_span(window, datetime.now(UTC)).name
    listed = lab.s3().get_paginator("list_objects_v2").paginate(Bucket=lab.bucket)
    keys = [stored["Key"] for page in listed for stored in page.get("Contents", [])]
    return sum(key.endswith(f"/{name}.json") for key in keys)


def _check_pages(lab: Lab) -> None:
    """Check what people and programs see of an alarm."""
    with prefect_http(lab.stack) as http:
        shown = http.get("/artifacts/wine-local-monitor/latest").raise_for_status().json()
        page = http.get("/artifacts/wine-local-monitor-data/latest").raise_for_status().json()
    assert shown["data"].count("data:image/png;base64,") == 2
    assert "ALARM: values of alcohol" in shown["description"]
    data = json.loads(page["data"]) if isinstance(page["data"], str) else page["data"]
    body = lab.s3().get_object(Bucket=lab.bucket, Key=data["page"])["Body"].read().decode()
    assert "<table>" in body
    assert '<img src="data:image/png' in body
    gauges = (lab.stack.home / "gauges" / "slipway-monitor-local.prom").read_text()
    assert 'slipway_monitor_alarm{environment="local",model="wine"' in gauges
    (status,) = lab.run("status", {"environment": "local"}).data
    assert "ALARM" in status["monitor"]
