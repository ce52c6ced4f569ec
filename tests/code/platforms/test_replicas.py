"""Several servers of one release behind the proxy: one may die, and no other request is lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from tasks.core.free_port import find_free_ports
from tasks.package.package import Package
from tasks.platforms.base.replicas import Replicas
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.route import Route
from tests.code.platforms.places import CLIENTS, DockerPlace, Place, ProcessPlace

_SECONDS = 30.0


async def _wait_until_ready(place: Place, replicas: int) -> None:
    deadline = time.monotonic() + _SECONDS
    ready = Replicas(replicas, replicas)
    while (live := await place.target().status()) is None or live.replicas != ready:
        assert time.monotonic() < deadline, live
        await asyncio.sleep(0.1)


async def test_death_of_one_of_two_loses_only_what_it_was_answering(
    process_place: ProcessPlace, models: list[Package]
) -> None:
    live = await process_place.ensure_live(models)
    new = next(model for model in models if model is not live)
    with process_place.traffic(live) as traffic:
        await process_place.deploy(new, replicas=2)
        victim, other = process_place.processes()
        assert traffic.failures == []

        psutil.Process(victim).kill()
        # supervisord has started it again, and many requests have come in between.
        while victim in (there := process_place.processes()) or len(there) < 2:
            await asyncio.sleep(0.1)
        await _wait_until_ready(process_place, 2)
        assert other in there
        # Each client waited for one answer at most when the server died.
        assert len(traffic.failures) <= CLIENTS, traffic.failures
        assert all("502" in failure for failure in traffic.failures), traffic.failures

        traffic.failures.clear()
        await process_place.deploy(live)
    assert traffic.failures == []
    await process_place.assert_live(live)


async def test_containers_have_replicas(docker_place: DockerPlace, models: list[Package]) -> None:
    await docker_place.deploy(models[0], replicas=2)
    assert len(await docker_place.servers()) == 2
    await _wait_until_ready(docker_place, 2)
    await docker_place.target().remove()
    assert await docker_place.servers() == []


def test_only_several_servers_are_checked_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gateway, "_wait", lambda *_: None)
    gateway = Gateway(tmp_path, "http://127.0.0.1:1", "staging")
    file = tmp_path / "staging.yml"
    gateway.switch(Route("a", (1,)))
    assert "healthCheck" not in file.read_text()
    assert "retry" not in file.read_text()
    assert Route("a", (1,)).server_variables == {}
    gateway.share(Route("a", (1,)), Route("b", (2, 3)), 10)
    assert file.read_text().count("healthCheck") == 1
    assert Route("b", (2, 3)).server_variables == {"SLIPWAY_LISTEN_WHEN_READY": "1"}


def test_ports_of_replicas_differ() -> None:
    assert len(set(find_free_ports(8))) == 8
