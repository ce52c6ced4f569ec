"""What MLflow gets, and what happens without it; `benchmarks.mlflow_bridge` has a real server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tasks.core.errors import ConfigurationError
from tasks.reports import mlflow_bridge
from tasks.reports.mlflow_bridge import URI, connect, flatten, log_model
from tasks.repository.workspace import Workspace


def test_parameters_have_names_that_mlflow_takes() -> None:
    values = {"train": {"grid": {"C": [1, 2]}, "params": {}}, "data": {"schema": {"a (g)": None}}}
    assert flatten(values) == {
        "train.grid.C": "[1, 2]",
        "train.params": "{}",
        "data.schema.a _g_": "None",
    }
    assert len(flatten({"long": "x" * 10_000})["long"]) == 6000


def test_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(mlflow_bridge.importlib, "import_module", refuse)
    with pytest.raises(ConfigurationError) as refused:
        connect("http://127.0.0.1:9")
    assert "uv sync --inexact --extra mlflow" in refused.value.next_step


async def test_nothing_is_logged_unless_mlflow_is_set_and_its_failure_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path, "a" * 40, "main")  # without any model, which would be an error
    monkeypatch.delenv(URI, raising=False)
    await log_model(workspace, "a" * 40, "# wine")
    assert not caplog.messages
    monkeypatch.setenv(URI, "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        await log_model(workspace, "a" * 40, "# wine")
    assert "cannot show the model in MLflow" in caplog.text
