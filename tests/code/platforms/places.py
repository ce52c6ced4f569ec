"""Places to release to: what the tests need to know of a platform beside its target."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import docker
import httpx

from tasks.core.errors import TransientError
from tasks.core.tls import ssl_context
from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.package.package import Package
from tasks.platforms.base.settings import CloudEnvironment, HostEnvironment
from tasks.platforms.base.target import AnyTarget
from tasks.platforms.catalogue import make_target
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.host_target import GatewaySettings
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.platforms.process.supervisor import Supervisor
from tests.code.flows.harness import Traffic
from tests.stand_ins.faults import Faults

TRIES = 100
CLIENTS = 3
PAUSE = 0.1  # many versions change under this traffic, and the machine is small


R = TypeVar("R")


async def again(step: Callable[[], Awaitable[R]], tries: int = TRIES) -> R:
    """Repeat a step until its transient errors are over.

    It is repeated more often than in a flow: every call of the step may have a fault.
    """
    for _ in range(tries):
        with contextlib.suppress(TransientError):
            return await step()
    return await step()


@dataclass
class Progress:
    """The point that a deploy has reached.

    Attributes:
        target: The target that it uses.
        staged: The value of preflight.
        released: The value of release, None before it.
    """

    target: AnyTarget
    staged: Any
    released: Any = None

    async def complete(self) -> None:
        """Take the steps after preflight."""
        self.released = await self.target.release(self.staged, "v1")
        await self.target.verify(self.released)
        await self.target.settle(self.released)
        await self.target.tidy()


class Place(ABC):
    """One environment on one platform.

    Attributes:
        proves_on_worker: Whether preflight is the trial on the worker, as that of `process` is.
        killed_in_flows: Whether the tests of flows kill real runs on it, at every step.
    """

    proves_on_worker = False
    killed_in_flows = False

    def __init__(self, environment: HostEnvironment | CloudEnvironment) -> None:
        self.environment = environment

    def target(self, **settings: Any) -> AnyTarget:
        """Make a target that remembers nothing, as every flow run does."""
        return make_target(self.environment.model_copy(update=settings))

    @property
    def url(self) -> str:
        """The public URL."""
        return self.environment.url

    async def deploy(
        self, package: Package, *, until: str = "", tries: int = TRIES, **settings: Any
    ) -> Progress:
        """Deploy as the flow does; with `until`, only so far, as if the run were killed there."""
        target = self.target(**settings)
        file = package.workspace.path / "model" / "wine"
        staged = await again(lambda: target.preflight(package, file, "v1"), tries)
        progress = Progress(target, staged)
        if until == "preflight":
            return progress
        try:
            progress.released = released = await again(lambda: target.release(staged, "v1"), tries)
            for step in (target.verify, target.settle) if until != "release" else ():
                await again(partial(step, released), tries)
                if step.__name__ == until:
                    break
        except BaseException:
            await again(lambda: target.rollback(staged))
            raise
        if not until:
            await again(target.tidy)
        return progress

    async def ensure_live(self, models: Sequence[Package]) -> Package:
        """Return the live one of these models; the first of them is deployed if none is."""
        status = await self.target().status()
        for model in models:
            if status and status.healthy and status.runs(model):
                return model
        await self.deploy(models[0])
        return models[0]

    async def assert_live(self, package: Package) -> None:
        """Assert that exactly this model is live, by the platform and by its own answer."""
        live = await self.target().status()
        assert live
        assert live.healthy
        assert live.runs(package)
        assert live.commit == package.commit
        version = await self.live_version()
        assert (version["commit"], version["md5"]) == (package.commit, package.md5)
        assert version["version"] == live.version
        assert len(await self.servers()) == 1

    def traffic(self, package: Package) -> Traffic:
        """Send requests without end."""
        return Traffic(self.url, package.golden["inputs"][0], CLIENTS, PAUSE)

    async def servers(self) -> list[str]:
        """List the model servers that run."""
        return await asyncio.to_thread(self._servers)

    async def live_version(self) -> dict[str, Any]:
        """Return the release that answers at the public URL."""
        async with httpx.AsyncClient(trust_env=False, timeout=10, verify=ssl_context()) as client:
            answer = await client.get(f"{self.url}/version")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def snapshot(self) -> dict[str, Any]:
        """Return everything on the platform; two equal snapshots show that nothing was left."""
        return await asyncio.to_thread(self._snapshot)

    async def break_live(self) -> None:
        """Stop the live server behind everybody's back."""
        await asyncio.to_thread(self._break)

    @abstractmethod
    def _servers(self) -> list[str]: ...

    @abstractmethod
    def _snapshot(self) -> dict[str, Any]: ...

    @abstractmethod
    def _break(self) -> None: ...


class RemotePlace(Place):
    """A stand-in of a platform elsewhere, any call of which can be made to fail.

    Attributes:
        necessary_calls: What a deploy cannot do without.
        wrong_credentials: Settings by which the platform refuses us, and what is said then.
    """

    proves_on_worker = True
    necessary_calls: tuple[str, ...]
    wrong_credentials: tuple[dict[str, Any], str]

    def __init__(self, environment: CloudEnvironment, faults: Faults) -> None:
        super().__init__(environment)
        self.faults = faults


class ProcessPlace(Place):
    """supervisord and folders."""

    killed_in_flows = True

    def __init__(self, environment: ProcessEnvironment, supervisor: Supervisor, home: Path) -> None:
        super().__init__(environment)
        self._supervisor = supervisor
        self._bundles = home / "bundles" / "process"
        self._logs = home / "log"

    def processes(self) -> set[int]:
        """Return the ids of the servers' processes; of one that is started again, there is none."""
        programs = self._supervisor.programs("model-process-").values()
        return {int(program["pid"]) for program in programs} - {0}

    def _servers(self) -> list[str]:
        return sorted(self._supervisor.programs("model-process-"))

    def _snapshot(self) -> dict[str, Any]:
        return {
            "servers": self._servers(),
            "kept": sorted(path.name for path in self._bundles.glob("*")),
            "logs": sorted(path.name for path in self._logs.glob("model-process-*")),
        }

    def _break(self) -> None:
        (server,) = self._servers()
        self._supervisor.stop(server)


class DockerPlace(Place):
    """Containers, images, and a registry."""

    def __init__(self, environment: DockerEnvironment) -> None:
        super().__init__(environment)
        self.client = docker.DockerClient(environment.engine)
        self.repository = Repository(parse_reference(environment.repository))
        host = GatewaySettings()  # type: ignore[call-arg]  # from the environment
        gateway = Gateway(host.gateway, host.gateway_api, environment.name)
        self._labels = [
            f"io.slipway.environment={environment.name}",
            f"io.slipway.proxy={gateway.identity}",
        ]

    def containers(self) -> list[Any]:
        """List all containers of the environment."""
        return self.client.containers.list(all=True, filters={"label": self._labels})

    def clear(self) -> None:
        """Remove everything from an engine that is not ours."""
        for container in self.containers():
            container.remove(force=True)
        for image in self._images():
            self.client.images.remove(image, force=True)
        self.client.close()

    def _images(self) -> list[str]:
        digests = [digest for image in self.client.images.list() for digest in
                 image.attrs.get("RepoDigests") or []]  # fmt: skip
        return sorted(name for name in digests if name.startswith(f"{self.repository.name}@"))

    def _servers(self) -> list[str]:
        return sorted(
            container.name for container in self.containers() if container.status == "running"
        )

    def _snapshot(self) -> dict[str, Any]:
        return {
            "servers": self._servers(),
            "kept": sorted(container.name for container in self.containers()),
            "images": self._images(),
            "tags": self.repository.tags(),
        }

    def _break(self) -> None:
        (server,) = self._servers()
        self.client.containers.get(server).kill()
