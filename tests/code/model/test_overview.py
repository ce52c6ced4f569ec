"""`slipway data` shows how a table is read, and refuses what a stage would refuse."""

import functools
from pathlib import Path

import pytest

from deployments.cli.data import data
from tasks.core import commands, settings
from tasks.core.commands import run_blocking
from tasks.core.errors import ConfigurationError
from tasks.core.yaml12 import load_yaml
from tests.code.model import support

COMMAND = ["sh", "model/stage.sh", "model.overview"]


def test_data_shows_columns_and_refuses_what_a_stage_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = support.workspace(tmp_path / "mine")
    monkeypatch.setattr(settings, "CHECKOUT", folder)
    for name in ("UV_PROJECT_ENVIRONMENT", "UV_NO_SYNC", "PATH"):
        monkeypatch.setenv(name, support.environment()[name])
    support.change_params(folder, data={"schema": {"ash": {"minimum": 2}}})
    with pytest.raises(ConfigurationError, match=r"data\.schema\.ash: '1\.36', .*\(rows 60, "):
        data(as_json=False)
    support.change_params(folder, data={"schema": {}})
    run = functools.cache(lambda _: run_blocking(COMMAND, timeout=60, cwd=folder))
    monkeypatch.setattr(commands, "run_blocking", lambda argv, **_: run(tuple(argv)))
    data(as_json=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "sklearn.datasets.load_wine: 178 rows" in lines
    assert "alcohol number 126 0 14.23, 13.2, 13.16 scaled" in lines
    assert "target integer 3 0 0, 1, 2 to predict" in lines
    data(as_json=False, schema=True)
    proposal = load_yaml(capsys.readouterr().out)["data"]["schema"]
    assert proposal["alcohol"] == {"type": "number"}
    assert proposal["target"] == {"type": "integer", "categories": ["0", "1", "2"]}
