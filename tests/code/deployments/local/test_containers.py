"""The needs of `make demo TARGET=docker`: an engine, a registry, a base image."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import httpx
import pytest

from deployments.local import containers, image_registry
from deployments.local.stack import Stack
from tasks.core.errors import ConfigurationError, TransientError
from tasks.core.settings import CHECKOUT
from tasks.release.locks.holder import Holder
from tasks.release.locks.host import HostLock
from tests.containers import (
    BaseImage,
    end_with,
    free_port,
    needs,
    run_registry,
    wait_for_port,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a stack that has been up once."""
    names = (
        "supervisor",
        "prefect",
        "s3",
        "s3-admin",
        "gateway-api",
        "registry",
        "local",
        "docker",
    )
    chosen = {name: 20_000 + number for number, name in enumerate(names)}
    (tmp_path / "stack.json").write_text(json.dumps({"ports": chosen}))
    return tmp_path


def _install(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        (folder / name).touch(mode=0o755)
    return str(folder)


def test_installed_registry_is_preferred_to_one_in_a_container(tmp_path: Path) -> None:
    both = _install(tmp_path / "both", "docker-registry", "docker")
    docker = _install(tmp_path / "docker", "docker")
    assert image_registry.find_program(both).name == "docker-registry"
    assert image_registry.find_program(docker).name == "docker"


def test_missing_registry_is_explained() -> None:
    with pytest.raises(ConfigurationError, match="no container registry is available") as refusal:
        image_registry.find_program("/nowhere")
    assert "SLIPWAY_DOCKER_REPOSITORY=" in refusal.value.next_step


def test_installed_registry_serves_on_loopback(tmp_path: Path) -> None:
    needs("docker-registry")
    folder, port = tmp_path / "registry", free_port()
    image_registry.prepare(folder, {image_registry.PORT: port})
    program = image_registry.program(
        image_registry.find_program(), folder, {image_registry.PORT: port}
    )
    assert program.health
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(program.argv, stdout=log, stderr=log)
    with end_with(process):
        wait_for_port(port, process, tmp_path / "log")
        assert httpx.get(program.health, trust_env=False).is_success


def test_registry_in_a_container_serves_on_loopback_and_replaces_an_earlier_one(
    tmp_path: Path,
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    docker.chmod(0o755)
    program = image_registry.program(docker, tmp_path / "registry", {image_registry.PORT: 5001})
    subprocess.run(program.argv, check=True)
    removed, started = (tmp_path / "docker.log").read_text().splitlines()
    name = removed.split()[-1]
    assert removed == f"rm --force --volumes {name}"
    assert f"--name {name} --publish 127.0.0.1:5001:5000" in started
    assert started.endswith(" registry:3")


def test_stack_runs_a_registry_where_mains_environment_needs_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPWAY_DOCKER_REPOSITORY", raising=False)
    assert Stack(home).main_environment == "local"
    assert Stack(home).layout.image_repository == ""
    stack = Stack(home, main_environment="docker")
    assert stack.layout.image_repository == f"127.0.0.1:{stack.ports['registry']}/wine"
    assert stack.environment()["SLIPWAY_DOCKER_REPOSITORY"] == stack.layout.image_repository
    assert "registry" in stack.status()

    monkeypatch.setenv("SLIPWAY_DOCKER_REPOSITORY", "ghcr.io/us/wine")
    assert stack.layout.image_repository == ""
    assert stack.environment()["SLIPWAY_DOCKER_REPOSITORY"] == "ghcr.io/us/wine"
    assert "registry" not in stack.status()


def test_main_environment_is_remembered(home: Path) -> None:
    description = json.loads((home / "stack.json").read_text())
    (home / "stack.json").write_text(json.dumps({**description, "main_environment": "docker"}))
    assert Stack(home).main_environment == "docker"
    assert Stack(home, main_environment="local").main_environment == "local"


def test_containers_are_removed_after_a_deploy_that_was_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_DOCKER_ENGINE", f"tcp://127.0.0.1:{free_port()}")
    stack, lines = Stack(home), list[str]()
    stack.clean(lines.append)
    assert lines == []  # nobody needs an engine who has never deployed to one
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    asyncio.run(HostLock("docker").take(Holder.this_run("wine@v0.0.1")))
    stack.clean(lines.append)
    assert len(lines) == 2  # to stop them, and to remove them
    assert all("the Docker engine does not answer" in line for line in lines)


def test_missing_base_image_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_registry(tmp_path) as host:
        monkeypatch.setenv("SLIPWAY_DOCKER_BASE", f"{host}/python:{{python}}-slim")
        with pytest.raises(ConfigurationError, match=r"base image .*/python:3\.\d+-slim does not"):
            containers.require_base("docker")
        archive = tmp_path / "base.tar"
        tarfile.open(archive, "w").close()
        BaseImage.of(archive).push(f"{host}/mine:1")
        monkeypatch.setenv("SLIPWAY_DOCKER_BASE", f"{host}/mine:1")
        containers.require_base("docker")
    monkeypatch.setenv("SLIPWAY_DOCKER_BASE", f"127.0.0.1:{free_port()}/python:3")
    with pytest.raises(TransientError):
        containers.require_base("docker")


@pytest.mark.parametrize(
    ("target", "message"),
    [("docker", "the Docker engine does not answer"), ("mars", "'process', 'docker'")],
)
def test_demo_refuses_an_unusable_target_before_it_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    monkeypatch.setenv("COLUMNS", "200")  # no line of the message is broken
    home = tmp_path / "home"
    result = subprocess.run(
        [sys.executable, "-m", "deployments.cli", f"--home={home}", "demo", f"--target={target}"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode in {1, 2}
    assert message in " ".join((result.stdout + result.stderr).split())
    assert not home.exists()
