"""The errors of targets on the worker's own host without an engine, a proxy or a port."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tasks.core import free_port as unused_port
from tasks.core.errors import TerminalError, TransientError
from tasks.package.package import Package
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.docker.target import DockerTarget
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.route import Route
from tests.containers import free_port
from tests.stand_ins.serve import serving


class _Refusing(DockerTarget):
    """The image cannot be built."""

    async def _make(self, package: Package, file: Path, release: str) -> StagedImage:
        raise TerminalError("no wheel of it fits")


async def test_failed_clean_up_does_not_hide_why_preflight_failed(
    paper: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SLIPWAY_GATEWAY", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_GATEWAY_API", f"http://127.0.0.1:{free_port()}")
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    environment = DockerEnvironment(
        name="docker", target="docker", repository="registry.example/wine", engine=nowhere
    )
    with pytest.raises(TerminalError, match="no wheel of it fits"):
        await _Refusing(environment).preflight(paper, tmp_path, "v1")
    assert "stay until the next deploy: the Docker engine does not answer" in caplog.text


def test_proxy_that_ignores_routes_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.platforms.host.gateway._SWITCH_SECONDS", 0.0)
    with (
        serving(Starlette()) as url,
        pytest.raises(TransientError, match="did not take the new route of staging") as refusal,
    ):
        Gateway(tmp_path, url, "staging").switch(Route("a", (1,)))
    assert "/log/gateway.log" in refusal.value.next_step


def test_host_without_free_ports_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        only = [taken.getsockname()[1]]
        monkeypatch.setattr("tasks.core.free_port.random.sample", lambda *_: only)
        with pytest.raises(TransientError, match="no TCP port is free") as refusal:
            unused_port.find_free_port()
    assert "listens on ports 23000 to 29999" in refusal.value.next_step
