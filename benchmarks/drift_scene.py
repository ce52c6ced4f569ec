"""Show the whole way round on a local stack: a shifted world, an alarm, a retrain, its end.

`python -m benchmarks.drift_scene [SEED]` brings up a stack of its own and delivers a model of a
small table that is imported from the bucket. Then it sends the live model requests, over HTTP:

1. ten windows of the same world: none may raise an alarm;
2. the world shifts, and with it the export that the data are refreshed from: within three windows
   there must be an alarm, which starts a retrain; what passes the gate is deployed;
3. three windows of the shifted world: the alarm must have ended.

It prints a row per window, and exits with 1 if one of that did not happen. It takes ten minutes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.local.stack import Stack
from deployments.prefect_api.models import FlowRun
from tests.code.flows.harness import Lab, open_lab
from tests.commits import commit_all
from tests.stack_access import wait_for_end
from tests.template import copy_template

_EXPORT, _SOURCE = "exports/shop.csv", "data/source/shop.csv"
_WINDOW = timedelta(seconds=5)
_SHIP_SECONDS = 5  # until the records of a window are in the bucket
_REQUESTS, _ROWS = 20, 25


class World:
    """A world of customers: who buys is the same question before and after its shift."""

    def __init__(self, seed: int) -> None:
        self._draws = random.Random(seed)
        self.shift = 0.0

    def draw_row(self) -> dict[str, Any]:
        """Draw a customer as a client sends one."""
        draws = self._draws
        return {
            "visits": round(draws.gauss(self.shift, 1), 3),
            "basket": round(draws.lognormvariate(0, 0.5), 3),
            "city": draws.choices(["Basel", "Bern", "Genf"], (3, 2, 1))[0],
        }

    def write_table(self, rows: int) -> str:
        """Write customers of whom it is known who has bought."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["visits", "basket", "city", "bought"])
        for _ in range(rows):
            row = self.draw_row()
            table.writerow([*row.values(), "yes" if row["visits"] + row["basket"] > 1.5 else "no"])
        return text.getvalue()


def _commit_data(lab: Lab, text: str) -> None:
    """Commit the table as `dvc import-url` would have imported it, and what to learn from it."""
    body = text.encode()
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    lab.s3().put_object(Bucket=lab.bucket, Key=lab.key(md5), Body=body)
    record = {
        "frozen": True,
        "deps": [{"path": f"s3://{lab.bucket}/{_EXPORT}", "etag": md5, "size": len(body)}],
        "outs": [{"path": "shop.csv", "md5": md5, "size": len(body), "hash": "md5"}],
    }
    parameters = yaml.safe_load(lab.git("show", "main:params.yaml"))
    parameters["name"] = "shop"
    parameters["data"] = {"source": _SOURCE, "target": "bought", "task": "classification"}
    parameters["gate"] = {"metric": "accuracy", "minimum": 0.9, "tolerance": 0.02}
    files = {
        "params.yaml": yaml.safe_dump(parameters),
        f"{_SOURCE}.dvc": yaml.safe_dump(record),
        "data/source/.gitignore": "/shop.csv\n",
    }
    lab.commit(files, "main", "main")


def _export(lab: Lab, text: str) -> None:
    lab.s3().put_object(Bucket=lab.bucket, Key=_EXPORT, Body=text.encode())


def _run(lab: Lab, deployment: str, parameters: dict[str, Any]) -> FlowRun:
    run = wait_for_end(lab.api, lab.api.create_run(deployment, parameters).id)
    if not run.succeeded:
        family = [member.id for member in lab.api.read_run_tree(run.id)]
        print(*(line.message for line in lab.api.read_logs(family, count=200)), sep="\n")
        sys.exit(f"{run.name}: {run.label}: {run.message}")
    return run


def _watch_window(lab: Lab, world: World) -> FlowRun:
    """Send the live model the requests of a window, and monitor it."""
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((start - datetime.now(UTC)).total_seconds())
    with httpx.Client(base_url=lab.url, trust_env=False, timeout=20) as client:
        for _ in range(_REQUESTS):
            rows = [world.draw_row() for _ in range(_ROWS)]
            client.post("/predict", json={"data": {"values": rows}}).raise_for_status()
    end = start + _WINDOW
    if datetime.now(UTC) >= end:
        print("  (the requests took longer than the window: a part of them counts)")
    wait = (end - datetime.now(UTC)).total_seconds()
    time.sleep(max(0.0, wait) + _SHIP_SECONDS)
    window = f"{start:%Y-%m-%dT%H:%M:%S}/{end:%Y-%m-%dT%H:%M:%S}"
    run = _run(lab, "monitor/local", {"window": window})
    print(
        f"| {lab.live()['version']} | {world.shift:g} | {run.label} | {run.message} |", flush=True
    )
    return run


def _follow_alarm(lab: Lab) -> bool:
    """Wait for the retrain that the alarm has started, and deploy what it has made."""
    before = lab.head()
    runs = lab.api.find_runs(flows=["retrain"], limit=1)
    retrain = wait_for_end(lab.api, runs[0].id)
    print(f"retrain: {retrain.label}: {retrain.message or 'a new model is on main'}", flush=True)
    if lab.head() == before:
        return False
    _run(lab, "deploy/local", {"ref": "main"})
    return True


def _play(lab: Lab, seed: int) -> list[str]:
    """Play all three acts; return what did not happen."""
    world, problems = World(seed), []
    _commit_data(lab, world.write_table(800))
    _export(lab, world.write_table(800))  # newer rows of the same world
    _run(lab, "retrain/retrain", {})
    _run(lab, "deploy/local", {"ref": "main"})
    print("| version | shift | state | report |", "|---|---|---|---|", sep="\n", flush=True)
    if any(_watch_window(lab, world).label == "Alarm" for _ in range(10)):
        problems.append("an alarm in the same world")
    world.shift = 0.75
    _export(lab, world.write_table(800))
    if not any(_watch_window(lab, world).label == "Alarm" for _ in range(3)):
        return [*problems, "no alarm in three windows of a shifted world"]
    if not _follow_alarm(lab):
        return [*problems, "the retrain of the alarm brought no model"]
    if any(_watch_window(lab, world).label == "Alarm" for _ in range(3)):
        problems.append("the alarm goes on after the release")
    return problems


def main(seed: int) -> None:
    """Play on a stack of its own."""
    with tempfile.TemporaryDirectory(prefix="slipway-drift-") as folder:
        source = Path(folder) / "source"
        copy_template(source)
        commit_all(source, "Under test")
        os.environ["SLIPWAY_SOURCES"] = "s3://models/exports"
        stack = Stack(Path(folder) / "home", source=source, usual_ports=False, deploy_on_push=False)
        try:
            stack.up(print)
            with open_lab(stack, Path(folder)) as lab:
                problems = _play(lab, seed)
        finally:
            stack.down()
    print("; ".join(problems) or "as it should be")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
