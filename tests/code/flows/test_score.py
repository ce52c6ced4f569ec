"""A table is scored in the sandbox, continued after a kill, and published in one move or not."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab, flow_environment

pytestmark = pytest.mark.timeout(600)


def _write(path: Path, count: int, bad: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "proline", "alcohol"])
        for number in range(count):
            proline = "much" if number < bad else 500 + number
            writer.writerow([f"c{number}", proline, 11 + number % 30 / 10])


class Scores:
    """Starts the flow in a folder of its own."""

    def __init__(self, lab: Lab, ref: str, folder: Path) -> None:
        self.lab, self.ref, self.folder = lab, ref, folder
        self.variables = {
            "SLIPWAY_SCORE_PLACES": f"{folder},sql://scores",
            "SLIPWAY_DATABASE_SCORES": f"sqlite:///{folder / 'scores.db'}",
        }

    def parameters(self, source: object, to: object, **options: Any) -> dict[str, Any]:
        return {"source": str(source), "to": str(to), "ref": self.ref, "processes": 1, **options}

    def run(self, source: object, to: object, **options: Any) -> Any:
        return self.lab.run("score", self.parameters(source, to, **options), **self.variables)


@pytest.fixture
def scores(lab: Lab, delivered: Delivery, light: str, tmp_path: Path) -> Scores:
    return Scores(lab, light, tmp_path)


def test_folder_becomes_a_prefix_and_a_file_of_the_bucket_a_table(scores: Scores) -> None:
    s3, bucket = scores.lab.s3(), scores.lab.bucket
    source, prefix = scores.folder / "new", f"s3://{bucket}/scores/wine"
    _write(source / "a.csv", 30, bad=1)
    _write(source / "b.csv", 20)
    done = scores.run(source, prefix, max_rejected=0.05, method="predict_proba")
    assert done.state == "Completed", done.log

    def read(key: str) -> str:
        body = s3.get_object(Bucket=bucket, Key=f"scores/wine/{key}")["Body"]
        return str(body.read().decode())

    manifest = json.loads(read("manifest.json"))
    assert (manifest["rows"], manifest["rejected"]) == (50, 1)
    first, _, bad = manifest["files"]
    rows = list(csv.DictReader(io.StringIO(read(first))))
    assert len(rows) == 29
    assert rows[0] | {"time": ""} == {
        "file": "a.csv", "row": "2", "id": "c1", "prediction": "0", "probability_0": "1.0",
        "probability_1": "0.0", "probability_2": "0.0", "model": "wine",
        "version": manifest["version"],
        "commit": scores.ref, "run": manifest["run"], "time": "",
    }  # fmt: skip
    (rejected,) = csv.DictReader(io.StringIO(read(bad)))
    assert (rejected["row"], rejected["id"], rejected["proline"]) == ("1", "c0", "much")
    assert rejected["problem"] == "column 'proline': must be a number."

    s3.upload_file(str(source / "b.csv"), bucket, "scores/new/b.csv")
    table = scores.run(f"s3://{bucket}/scores/new", "sql://scores/wine")
    assert table.state == "Completed", table.log
    with sqlite3.connect(scores.folder / "scores.db") as database:
        assert database.execute("SELECT count(*), sum(row) FROM wine").fetchone() == (20, 210)


def test_kill_is_continued_and_a_target_is_never_half(scores: Scores) -> None:
    source, target = scores.folder / "big.csv", scores.folder / "big-scored.csv"
    _write(source, 700_000)
    flow = scores.lab.start("score", scores.parameters(source, target), **scores.variables)
    jobs = Path(flow_environment(scores.lab.stack)["SLIPWAY_HOME"], "scores")
    flow.wait_for_children("serving.scoring")
    while not (records := list(jobs.glob("*/work/records/*.json"))):
        assert flow.process.poll() is None, flow.log
        time.sleep(0.05)
    flow.kill()
    assert not target.exists()
    start = json.loads((records[0].parents[2] / "start.json").read_text())

    done = scores.run(source, target)
    assert done.state == "Completed", done.log
    with target.open(newline="") as file:
        names, *rows = csv.reader(file)
    numbers, runs = ([row[names.index(name)] for row in rows] for name in ("row", "run"))
    assert list(map(int, numbers)) == list(range(1, 700_001))
    assert set(runs) == {start["run"]}

    refused = scores.run(source, target)
    assert f"target {target} exists" in refused.log


def test_too_many_rejected_rows_publish_nothing(scores: Scores) -> None:
    source, target = scores.folder / "bad.csv", scores.folder / "scored.csv"
    _write(source, 10, bad=2)
    result = scores.run(source, target)
    assert result.state == "Failed"
    assert "2 of 10 rows are rejected, more than max_rejected = 0.01 allows" in result.log
    assert "column 'proline': must be a number. (2 rows, such as bad.csv row 1" in result.log
    assert not target.exists()
