"""What targets on the worker's own host do where nothing runs: no proxy, no engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.environments.docker import DockerEnvironment
from tasks.errors import TerminalError
from tasks.packaging import Package
from tasks.targets.docker import DockerTarget
from tests.containers import free_port


class _Refusing(DockerTarget):
    """The image cannot be built."""

    async def _make(self, package: Package, file: Path) -> None:
        raise TerminalError("no wheel of it fits")


async def test_why_preflight_failed_is_told_although_nothing_can_be_cleaned_up(
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
        await _Refusing(environment).preflight(paper, tmp_path)
    assert "stays until the next deploy: the Docker engine does not answer" in caplog.text
