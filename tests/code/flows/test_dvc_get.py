"""DVC commands of a person get a model from the local origin, as from any repository."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import dvc_config
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab


@pytest.mark.parametrize(
    "command",
    [
        ["get", "--rev", "wine@v0.0.1", "{origin}", "model/wine"],
        ["artifacts", "get", "--rev", "v0.0.1", "{origin}", "wine"],
        ["artifacts", "get", "--stage", "local", "{origin}", "wine"],
    ],
    ids=["get", "version", "stage"],
)
def test_dvc_gets_a_released_model(
    lab: Lab, delivered: Delivery, tmp_path: Path, command: list[str]
) -> None:
    config = lab.stack.home / dvc_config.NAME
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    argv = [word.format(origin=lab.stack.origin) for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *argv, "--config", str(config), "--out", "model"],
        cwd=tmp_path,
        env={name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    got = hashlib.sha256((tmp_path / "model").read_bytes()).hexdigest()
    tag = lab.live_tag() if "--stage" in command else "wine@v0.0.1"
    runtime = lab.show("model/wine.runtime.json", tag)
    assert got == runtime["artifacts"]["model/wine"]["sha256"]
