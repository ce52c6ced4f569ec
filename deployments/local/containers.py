"""Containers on this host: those behind the stack's proxy, which stop and start with it, and checks
of what a deploy to them needs, made before anything is trained.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from docker.models.containers import Container

from tasks.core.settings import CHECKOUT
from tasks.images.base import read_base
from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.platforms.catalogue import load_environment
from tasks.platforms.docker.engine import Engine
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.host.gateway import Gateway


class ModelContainers:
    """The model servers of one environment.

    Args:
        environment: Its settings.
        routes: Folder from which the stack's proxy reads its routes.
        api: URL of the proxy's API.
    """

    def __init__(self, environment: DockerEnvironment, routes: Path, api: str) -> None:
        self._environment = environment
        self._gateway = Gateway(routes, api, environment.name)
        self._engine = Engine(environment.engine)

    def resume(self) -> None:
        """Start the container of the live model again, if it was stopped."""
        if release := self._gateway.next_release():
            for container in self._list(release=release):
                self._engine.resume(container)

    def stop(self) -> None:
        """Stop every container; none is removed."""
        for container in self._list():
            if container.status == "running":
                self._engine.stop(container)

    def last_lines(self, lines: int) -> str:
        """Return the end of the log of the live model, empty if there is none."""
        if release := self._gateway.next_release():
            for container in self._list(release=release):
                return self._engine.last_lines(container, lines)
        return ""

    def remove(self) -> None:
        """Remove every container."""
        for container in self._list():
            self._engine.remove(container)

    def _list(self, **labels: str) -> list[Container]:
        own = {"environment": self._environment.name, "proxy": self._gateway.identity}
        return self._engine.containers({**own, **labels})


def require_engine(environment: str) -> None:
    """Check that the container engine of a `docker` environment answers.

    Raises:
        TransientError: It does not.
    """
    Engine(_settings(environment).engine).version()


def require_base(environment: str) -> None:
    """Check that a `docker` environment's base image exists, for the Python of the models.

    A registry that needs a login is left to the deploy, which reads it from its block.

    Raises:
        ConfigurationError: There is no such image, or it is for other platforms.
        TransientError: Its registry does not answer.
    """
    settings = _settings(environment)
    if settings.registry_block:
        return
    base = parse_reference(settings.base.replace("{python}", _model_python()))
    for platform in settings.platforms:
        read_base(Repository(base), base, platform)


def _settings(environment: str) -> DockerEnvironment:
    settings = load_environment(environment)
    assert isinstance(settings, DockerEnvironment)
    return settings


def _model_python() -> str:
    version = subprocess.run(
        [str(CHECKOUT / "model" / ".venv" / "bin" / "python"), "-c",
         "import sys; print('{}.{}'.format(*sys.version_info))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return version.stdout.strip()
