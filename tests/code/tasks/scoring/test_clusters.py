"""Dask clusters: how one is found, and which one is refused."""

from __future__ import annotations

import io
import json
import platform
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.core.errors import ConfigurationError
from tasks.package.environment import Requirements
from tasks.scoring import boxed, clusters
from tasks.scoring.boxed import Task
from tasks.scoring.cluster import Mismatch, require_same_versions, take_finished
from tasks.scoring.jobs import Job, Start
from tasks.scoring.messages import read_content, write_message


async def test_jobs_of_two_hosts_have_boxes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_requirements(*_: object) -> Requirements:
        return Requirements("of the server", "of the model", hashed=True)

    monkeypatch.setattr(boxed, "read_requirements", read_requirements)
    package: Any = SimpleNamespace(minor_python="3.11")
    task = Task({}, tmp_path, "predict", ".csv", single=True, cluster="tls://scheduler:8786")
    job, keys = Job(tmp_path / "same"), []
    for run in ("one", "other", "one"):
        job.begin(Start("c" * 40, "v1", run, "2026-11-30T12:00:00+00:00", {}))
        await boxed._make_shipment(package, tmp_path, job, task, ["box"])
        keys.append(json.loads((job.folder / "shipment.json").read_text())["key"])
    assert keys[0] == keys[2] != keys[1]


async def test_address_comes_from_a_variable_or_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_secret(block: str) -> str | None:
        return "tls://block:8786" if block == "slipway-dask-big" else None

    monkeypatch.setattr("tasks.runs.secrets.read_secret", read_secret)
    with pytest.raises(ConfigurationError, match="neither a Secret block slipway-dask-small nor"):
        await clusters.find_cluster("small")
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="this worker has no package `distributed`"):
        await clusters.find_cluster("big")
    monkeypatch.setattr(clusters, "find_spec", lambda _: True)
    assert await clusters.find_cluster("big") == "tls://block:8786"
    monkeypatch.setenv("SLIPWAY_DASK_BIG", "tcp://variable:8786")
    assert await clusters.find_cluster("big") == "tcp://variable:8786"


class _Client:
    """Answers with the versions of a cluster, as Dask's client does."""

    def __init__(self, **other: str) -> None:
        own = {"python": platform.python_version() + ".final.0", "distributed": "2026.8.0"}
        own |= {"cloudpickle": "3.1.3", "msgpack": "1.2.4"}
        self._versions = {
            "client": {"packages": own},
            "scheduler": {"packages": own},
            "workers": {"tcp://w1": {"packages": own}, "tcp://w2": {"packages": own | other}},
        }

    def get_versions(self) -> dict[str, Any]:
        return self._versions


def test_cluster_of_other_versions_is_refused() -> None:
    require_same_versions(_Client())
    for other in ({"distributed": "2026.7.1"}, {"python": "3.9.1.final.0"}):
        with pytest.raises(Mismatch, match=rf"tcp://w2 has .*{next(iter(other.values()))[:3]}"):
            require_same_versions(_Client(**other))


def test_cluster_without_workers_ends_the_run() -> None:
    class Client:
        waits = 0

        def wait_for_workers(self, count: int, timeout: float) -> None:
            self.waits += 1
            if self.waits == 2:  # at first, one has a long chunk
                raise TimeoutError(f"Only 0/{count} workers arrived after {timeout}")

    client, futures = Client(), SimpleQueue[Any]()
    with pytest.raises(TimeoutError, match="0/1 workers"):
        take_finished(client, futures, 0.01)
    for item in ((7, "future"), None):
        futures.put(item)
        assert take_finished(client, futures, 0.01) == item
    assert client.waits == 2


def test_message_that_is_cut_off_is_refused() -> None:
    stream = io.BytesIO()
    write_message(stream, 7, b"a\nb")
    whole = stream.getvalue()
    for end in (len(whole), len(whole) - 1, 0):
        cut = io.BytesIO(whole[:end])
        line = cut.readline()
        if end == len(whole):
            assert read_content(cut, line) == (7, b"a\nb")
            continue
        with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
            read_content(cut, line)
