"""Containers on this host: what a deploy to them needs, asked for before anything is trained; and
those behind the stack's proxy, which go down and up with it.
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
        """Start the live one again, if it was stopped."""
        if release := self._gateway.wanted():
            for container in self._found(release=release):
                self._engine.resume(container)

    def stop(self) -> None:
        """Stop all that run; they are kept."""
        for container in self._found():
            if container.status == "running":
                self._engine.stop(container)

    def last_lines(self, lines: int) -> str:
        """Return the end of the log of the live one, empty if there is none."""
        if release := self._gateway.wanted():
            for container in self._found(release=release):
                return self._engine.last_lines(container, lines)
        return ""

    def remove(self) -> None:
        """Remove all of them."""
        for container in self._found():
            self._engine.remove(container)

    def _found(self, **labels: str) -> list[Container]:
        ours = {"environment": self._environment.name, "proxy": self._gateway.identity}
        return self._engine.containers({**ours, **labels})


def require_engine(environment: str) -> None:
    """Make sure that a container engine is there.

    Args:
        environment: Name of an environment whose target is `docker`.

    Raises:
        TransientError: None answers.
    """
    Engine(_settings(environment).engine).version()


def require_base(environment: str) -> None:
    """Make sure that the base image is there, for the Python that models are trained with.

    One that asks for a login is left to the deploy, which reads it from its block.

    Args:
        environment: Name of an environment whose target is `docker`.

    Raises:
        ConfigurationError: There is no such image, or it is for other platforms.
        TransientError: Its registry does not answer.
    """
    settings = _settings(environment)
    if settings.registry_block:
        return
    base = parse_reference(settings.base.replace("{python}", _python_of_models()))
    for platform in settings.platforms:
        read_base(Repository(base), base, platform)


def _settings(environment: str) -> DockerEnvironment:
    settings = load_environment(environment)
    assert isinstance(settings, DockerEnvironment)
    return settings


def _python_of_models() -> str:
    told = subprocess.run(
        [str(CHECKOUT / "model" / ".venv" / "bin" / "python"), "-c",
         "import sys; print('{}.{}'.format(*sys.version_info))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return told.stdout.strip()
