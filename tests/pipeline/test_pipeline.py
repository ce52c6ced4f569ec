"""What must hold of every model before it can be delivered; upgraded with the template."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tasks.platforms.base.golden import replay
from tasks.platforms.base.model_server import HttpServer
from tests.trained import Served, Trained


def test_pipeline_is_up_to_date_after_one_run(trained: Trained) -> None:
    status = [sys.executable, "-m", "dvc", "status", "--quiet"]
    assert subprocess.run(status, cwd=trained.folder, check=False).returncode == 0


def test_served_model_replays_its_golden_predictions(trained: Trained, served: Served) -> None:
    asyncio.run(replay(HttpServer(served.url), trained.golden))


def test_golden_predictions_are_enough(trained: Trained) -> None:
    expected = (trained.params.get("save") or {}).get("golden", 32)
    assert len(trained.golden["inputs"]) >= min(expected, trained.data["rows"]["test"])
    if trained.is_classification:
        in_test = {row[trained.target] for row in trained.rows("test")}
        golden = {str(label) for label in trained.golden["outputs"]["predict"]}
        assert golden <= {str(row[trained.target]) for row in trained.rows("train")}
        assert len(trained.golden["inputs"]) >= len(in_test)


def test_interface_asks_for_the_features_and_nothing_else(trained: Trained) -> None:
    for method in trained.mlem["processors"]["model"]["methods"].values():
        schema = method["args"][0]["type_"]
        assert schema["columns"] == trained.features
        assert schema["index_cols"] == []


def test_reported_metrics_are_those_of_the_served_model(trained: Trained, served: Served) -> None:
    rows = trained.rows("test")
    pairs = list(zip([row[trained.target] for row in rows], served.predict(rows), strict=True))
    if trained.is_classification:
        measured = {"accuracy": sum(a == p for a, p in pairs) / len(pairs)}
    else:
        measured = {"mae": sum(abs(a - p) for a, p in pairs) / len(pairs)}
    for name, value in measured.items():
        assert trained.metrics[name] == pytest.approx(value, rel=1e-6)
