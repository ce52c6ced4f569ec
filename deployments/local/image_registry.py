"""A container registry for the local stack, as data: an installed `docker-registry`, else the
official image in the engine that the target `docker` needs anyway.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.local.ports import HOST
from deployments.local.program import Program
from tasks.core.errors import ConfigurationError
from tasks.core.fingerprint import fingerprint

NAME = "registry"
PORT = "registry"
_PROGRAM = "docker-registry"
_CONFIGURATION = "registry.json"
_IMAGE = "registry:3"


def find_program(path: str | None = None) -> Path:
    """Find the program that runs a registry.

    Args:
        path: Folders to look in, as in `PATH`, which it is by default.

    Returns:
        The program: `docker-registry`, or `docker`, which runs the official image.

    Raises:
        ConfigurationError: Neither is installed.
    """
    for name in (_PROGRAM, "docker"):
        if program := shutil.which(name, path=path):
            return Path(program)
    raise ConfigurationError(
        "no container registry is available: neither `docker-registry` nor `docker` is on PATH",
        state="nothing was started",
        next_step="install one of them (Debian: apt-get install docker-registry), or name a"
        " registry of yours: SLIPWAY_DOCKER_REPOSITORY=ghcr.io/you/wine make demo TARGET=docker",
    )


def program(executable: Path, folder: Path, ports: Mapping[str, int]) -> Program:
    """Describe the registry.

    Args:
        executable: The program from `find_program`.
        folder: Where its configuration and images are.
        ports: Its port, by name.
    """
    port = ports[PORT]
    in_place = (str(executable), "serve", str(folder / _CONFIGURATION))
    return Program(
        name=NAME,
        argv=in_place if executable.name == _PROGRAM else in_container(executable, folder, port),
        directory=folder,
        health=f"http://{HOST}:{port}/v2/",
        priority=10,
    )


def prepare(folder: Path, ports: Mapping[str, int]) -> None:
    """Write the configuration of `docker-registry`.

    Args:
        folder: Folder of the configuration and of the images.
        ports: Its port, by name.
    """
    configuration: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "images")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"{HOST}:{ports[PORT]}"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIGURATION).write_text(json.dumps(configuration, indent=2))  # JSON is YAML


def in_container(docker: Path, folder: Path, port: int) -> tuple[str, ...]:
    """Return the command that runs the official image until it is stopped.

    Its images are lost with the container: the next deploy builds them again, of the same bytes.

    Args:
        docker: Docker's command line.
        folder: The registry's folder; the container is named after it.
        port: Its port on loopback.
    """
    name = f"slipway-registry-{fingerprint(str(folder))}"
    # The container of a stack that was killed may still run, and hold the port.
    script = f'"$0" rm --force --volumes {name} >/dev/null 2>&1; exec "$0" "$@"'
    return (
        "/bin/sh", "-c", script, str(docker), "run", "--rm", "--name", name,
        "--publish", f"{HOST}:{port}:5000", "--env", "REGISTRY_STORAGE_DELETE_ENABLED=true",
        "--env", "OTEL_TRACES_EXPORTER=none", _IMAGE,
    )  # fmt: skip
