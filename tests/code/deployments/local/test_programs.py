"""The programs of a stack, from its environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.catalogue.block_variables import S3Identity
from deployments.local import counters, shipper
from deployments.local.gateway import API_PORT
from deployments.local.layout import Layout
from deployments.local.object_store import S3_PORT
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


def test_logs_are_shipped_if_an_environment_keeps_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path, CHECKOUT, {S3_PORT: 8333}, "local")
    assert shipper.NAME in program_names(layout)
    monkeypatch.setenv("SLIPWAY_LOCAL_LOG", "")
    assert shipper.NAME not in program_names(layout)
    identity = S3Identity("id", "hush")
    program = shipper.program(CHECKOUT, layout.spool, layout.gauges, layout.ports, identity)
    assert f"--spool={tmp_path / 'spool'}" in program.argv
    assert "hush" not in " ".join(program.argv)
