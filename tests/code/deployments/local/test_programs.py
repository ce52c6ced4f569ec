"""The programs of a stack, from its environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.local import counters
from deployments.local.gateway import API_PORT
from deployments.local.layout import Layout
from deployments.local.programs import program_names
from tasks.core.settings import CHECKOUT


def test_counters_are_kept_if_an_environment_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path, CHECKOUT, {API_PORT: 8081}, "local")
    assert counters.NAME not in program_names(layout)
    monkeypatch.setenv("SLIPWAY_LOCAL_WATCH", "30m")
    assert counters.NAME in program_names(layout)
    program = counters.program(CHECKOUT, layout.counters, layout.ports)
    assert program.argv[-2:] == (
        "--api=http://127.0.0.1:8081",
        f"--folder={tmp_path / 'counters'}",
    )
