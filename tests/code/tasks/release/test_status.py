"""The problems that the status of an environment shows, and those that are none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.bucket.shipper import STATE
from tasks.platforms.base.model_server import HttpServer
from tasks.platforms.base.replicas import Replicas
from tasks.platforms.base.target import Live
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.release.locks.holder import Holder
from tasks.release.status import Observation, Status, _read_predictions
from tasks.repository.release_history import Entry

_A, _B = "a" * 40, "b" * 40
_AT = datetime(2026, 11, 25, 22, 48, tzinfo=UTC)
_LATER = _AT + timedelta(seconds=1)
_DEPLOY = Holder("deploy b to local", None, "wine@bbbbbbb", "2026-11-25T22:48:00+00:00")


def _live(commit: str, *, healthy: bool = True) -> Live:
    return Live("a-release", "wine", commit, "", "", "v1", healthy)


def _status(released: str = "", at: datetime = _LATER, **observation: Any) -> Status:
    entry = Entry("v1", released, _AT, "-", "", "123") if released else None
    return Status(Observation("local", at, "process", "http://host", **observation), entry)


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (_status(), "never released"),
        (_status(error="no way"), "never released, unreachable"),
        (_status(_A, live=_live(_A)), "healthy"),
        (_status(_A, live=replace(_live(_A), replicas=Replicas(2, 2))), "healthy"),
        (_status(_A, live=_live(_B), lock_holder=_DEPLOY), f"deploy in progress: {_DEPLOY}"),
        (_status(_A, lock_holder=_DEPLOY), f"deploy in progress: {_DEPLOY}"),
        # Released after the observation, before the history was read.
        (_status(_A, _AT, live=_live(_B)), "deploy in progress: v1 was released just now"),
        (_status(_A, _AT, error="no way"), "deploy in progress: v1 was released just now"),
    ],
)
def test_change_in_progress_is_no_problem(status: Status, health: str) -> None:
    assert status.problem == ""
    assert status.to_json()["health"] == health


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (_status(_A), "nothing is live; the history has v1 at aaaaaaa"),
        (_status(_A, live=_live(_B)), "wine@bbbbbbb is live; the history has v1 at aaaaaaa"),
        (_status("", live=_live(_B)), "wine@bbbbbbb is live; the history has no release"),
        (
            _status(_A, live=_live(_A, healthy=False)),
            "the server at http://host reports another release, or does not answer",
        ),
        (
            _status(_A, live=replace(_live(_A), replicas=Replicas(1, 2))),
            "only 1 of 2 servers behind http://host are ready",
        ),
        (_status(_A, error="no way"), "the platform cannot be reached: no way"),
        (Status(Observation("moon", _AT, error="does not exist"), None), "does not exist"),
    ],
)
def test_problem_is_named(status: Status, problem: str) -> None:
    assert status.problem == problem
    assert status.to_json()["health"] == problem


async def test_predictions_show_what_the_server_and_the_spool_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / STATE).write_text('{"error": "no route to host"}')

    async def metrics(_: HttpServer) -> str:
        return 'slipway_serving_log_records_total{result="kept"} 5.0\n'

    monkeypatch.setattr(HttpServer, "metrics", metrics)
    environment = ProcessEnvironment(name="local", target="process", log={"share": 1.0})
    text = await _read_predictions(environment, "http://host")
    assert text.startswith("5 kept; 0 files (0.0 MB")
    assert text.endswith("wait for the bucket: no route to host")
    silent = ProcessEnvironment(name="local", target="process")
    assert await _read_predictions(silent, "http://host") == ""
    assert _status(_A, live=_live(_A), predictions=text).to_json()["predictions"] == text
