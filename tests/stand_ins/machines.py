"""The machines behind a stand-in: released images, in real containers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import httpx
from docker.errors import APIError, NotFound

from tasks.core.tls import ssl_context
from tests.containers import free_port

_LABEL = "io.slipway.stand-in"


@dataclass(frozen=True)
class Machine:
    """A container with a released image.

    Attributes:
        identifier: Of the container.
        url: Where it answers, on loopback.
    """

    identifier: str
    url: str

    def answers(self, path: str) -> bool:
        """Return whether a health check is answered with 200."""
        try:
            answer = httpx.get(
                f"{self.url}{path}", timeout=5, trust_env=False, verify=ssl_context()
            )
            return answer.status_code == 200
        except httpx.HTTPError:
            return False


class Machines:
    """The containers of one stand-in.

    Args:
        engine: URL of the Docker engine.
        platform: Name of the stand-in, which none other of this engine may have.
    """

    def __init__(self, engine: str, platform: str) -> None:
        self._client = docker.DockerClient(engine)
        # Threads ask while pytest changes the environment, which cannot be read at the same time.
        self._client.api.trust_env = False
        self._platform = platform

    def start(
        self,
        image: str,
        environment: Mapping[str, str],
        *,
        arguments: Sequence[str] = (),
        port: int = 8080,
        login: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Machine:
        """Pull an image, as a platform would, and start it.

        Args:
            image: By digest.
            environment: Variables.
            arguments: What the platform appends to the entry point.
            port: That the image listens on inside.
            login: `username` and `password` for the registry.
            options: What the Docker SDK takes beside.
        """
        self._client.images.pull(image, auth_config=dict(login) if login else None)
        outside = free_port()
        container = self._client.containers.run(
            image,
            command=list(arguments) or None,
            detach=True,
            environment=dict(environment),
            # Docker would run the image's health check, for which a platform has its own.
            healthcheck={"test": ["NONE"]},
            labels={_LABEL: self._platform},
            ports={f"{port}/tcp": ("127.0.0.1", outside)},
            **options,
        )
        return Machine(str(container.id), f"http://127.0.0.1:{outside}")

    def runs(self, machine: Machine) -> bool:
        """Return whether it has not ended."""
        with contextlib.suppress(NotFound):
            return bool(self._client.containers.get(machine.identifier).status == "running")
        return False

    def exit_code(self, machine: Machine) -> int:
        """Return its exit code."""
        with contextlib.suppress(NotFound):
            return int(self._client.containers.get(machine.identifier).attrs["State"]["ExitCode"])
        return -1

    def execute(self, machine: Machine, argv: Sequence[str]) -> int:
        """Run a program in it: gives its exit code."""
        with contextlib.suppress(NotFound, APIError):  # or it has ended
            container = self._client.containers.get(machine.identifier)
            return int(container.exec_run(list(argv)).exit_code)
        return -1

    def logs(self, machine: Machine) -> str:
        """Return its log."""
        with contextlib.suppress(NotFound):
            log: bytes = self._client.containers.get(machine.identifier).logs(tail=20)
            return log.decode(errors="replace")
        return ""

    def stop(self, machine: Machine, seconds: int = 30) -> None:
        """End it, as platforms do: asked first, killed after some seconds."""
        with contextlib.suppress(NotFound):
            self._client.containers.get(machine.identifier).stop(timeout=seconds)

    def restart(self, machine: Machine) -> None:
        """Start it again; it keeps its URL."""
        self._client.containers.get(machine.identifier).start()

    def kill(self, machine: Machine) -> None:
        """End it behind everybody's back."""
        with contextlib.suppress(NotFound):
            self._client.containers.get(machine.identifier).kill()

    def remove(self, machine: Machine) -> None:
        """End it and remove what is left of it."""
        with contextlib.suppress(NotFound):
            self._client.containers.get(machine.identifier).remove(force=True, v=True)

    def running(self) -> list[str]:
        """List the identifiers of the containers that run."""
        containers = self._client.containers.list(filters={"label": f"{_LABEL}={self._platform}"})
        return sorted(str(container.id) for container in containers)

    def close(self) -> None:
        """Remove everything."""
        filters = {"label": f"{_LABEL}={self._platform}"}
        for container in self._client.containers.list(all=True, filters=filters):
            container.remove(force=True, v=True)
        self._client.close()
