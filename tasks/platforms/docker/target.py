"""Target `docker`: model servers as containers on the worker's own host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from tasks.core.threads import in_thread
from tasks.images.image import LABEL, PORT
from tasks.images.reference import parse_reference
from tasks.package.package import Package
from tasks.platforms.base.image_target import ImageTarget, StagedImage
from tasks.platforms.base.prediction_log import FOLDER
from tasks.platforms.docker.engine import Engine
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.host.host_release import HostRelease
from tasks.platforms.host.host_target import HostTarget

_SPOOL = "/spool"
# Of processors, where others want them; a container has 1024. With much fewer, a version would
# answer too late on a busy host, and that counts as a different answer.
_SHADOW_SHARES = 256


def container_options(
    environment: DockerEnvironment,
    port: int,
    says: dict[str, str],
    proxy: str,
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """Make the options of a container: it may answer on one port of loopback, and little else.

    Args:
        says: Facts of its release: `release`, `version`, `environment`.
        proxy: Fingerprint that distinguishes environments of one name behind two proxies.
        variables: Variables of its server.

    Returns:
        Options of the Docker SDK.
    """
    return {
        "labels": {f"{LABEL}.{name}": value for name, value in (says | {"proxy": proxy}).items()},
        "environment": {**variables, "SLIPWAY_RELEASE": json.dumps(says)},
        "ports": {f"{PORT}/tcp": ("127.0.0.1", port)},
        "read_only": True,
        "tmpfs": {"/tmp": "size=64m"},  # noqa: S108  # code that travels with a model
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": environment.memory,
        "memswap_limit": environment.memory,
        "nano_cpus": int(environment.cpus * 1e9),
        "pids_limit": 256,
        "restart_policy": {"Name": "unless-stopped"},
        "log_config": {"type": "json-file", "config": {"max-size": "5m", "max-file": "2"}},
    }


class DockerTarget(HostTarget[StagedImage], ImageTarget[DockerEnvironment]):
    """One environment on the worker's own host, in containers."""

    def __init__(self, environment: DockerEnvironment) -> None:
        super().__init__(environment)
        self._environment = environment
        self._engine = Engine(environment.engine)
        self._base = environment.base

    async def _check_runner(self) -> Sequence[str]:
        engine = await in_thread(self._engine.version)
        return [f"Docker {engine} answers", await self._try_registry()]

    def _describe(self, release: str) -> Mapping[str, Any] | None:
        for container in self._containers(release):
            labels = {name: container.labels.get(f"{LABEL}.{name}") for name in
                    ("commit", "md5", "serving", "version")}  # fmt: skip
            return {"name": container.labels[f"{LABEL}.model"], **labels}
        return None

    async def _make(self, package: Package, file: Path, release: str) -> StagedImage:
        image = await self._build(package, file)
        login = await self._log_in()
        await asyncio.to_thread(self._engine.pull, str(image.reference), login)
        return StagedImage(package, release, image)

    async def _start(self, released: HostRelease[StagedImage]) -> None:
        route = released.route
        says = {
            "environment": self._environment.name,
            "release": route.release,
            "version": released.version,
        }
        for number, port in enumerate(route.ports, start=1):
            options = await self._options(port, says)
            options["environment"] |= released.server_variables(self._environment.log)
            if released.is_shadow:
                options["cpu_shares"] = _SHADOW_SHARES
            if spool := self._spools.make(released):
                options["environment"] |= {FOLDER: _SPOOL}
                options["volumes"] = {str(spool): {"bind": _SPOOL, "mode": "rw"}}
            await self._run(self._container(route.release, number), released.staged, options)

    async def _options(self, port: int, says: dict[str, str]) -> dict[str, Any]:
        variables = (await self._variables.read()).reveal()
        return container_options(self._environment, port, says, self._gateway.identity, variables)

    async def _run(self, name: str, staged: StagedImage, options: Mapping[str, Any]) -> None:
        image, login = str(staged.image.reference), await self._log_in()
        await in_thread(self._engine.start, name, image, options, login)

    def _stop(self, release: str) -> None:
        for container in self._containers(release):
            self._engine.stop(container)

    def _discard(self, release: str) -> None:
        # Removed, or it would be started again as it is; killed, as no client waits for an answer.
        for container in self._containers(release):
            self._engine.remove(container)

    def _running(self) -> list[str]:
        running = (container for container in self._containers() if container.status != "exited")
        return sorted({_release(container) for container in running})

    def _has_crashed(self, release: str) -> bool:
        there = self._containers(release)
        missing = len(there) < self._environment.replicas
        return missing or any(self._engine.has_ended(container) for container in there)

    def _last_lines(self, release: str) -> str:
        return "\n".join(
            self._engine.last_lines(container) for container in self._containers(release)
        )

    async def _releases(self) -> Collection[str]:
        return {_release(container) for container in await in_thread(self._containers)}

    async def _drop(self, releases: Collection[str]) -> None:
        """Remove their containers, and on the host and in the registry images without any."""
        there = await in_thread(self._containers)
        await in_thread(
            self._remove_all, [container for container in there if _release(container) in releases]
        )
        await self._retire()

    def _remove_all(self, doomed: Sequence[Container]) -> None:
        for container in doomed:
            self._engine.remove(container)
        self._engine.remove_images(parse_reference(self._environment.repository).name)

    async def _images_in_use(self) -> Collection[str]:
        there = await in_thread(self._containers)
        return {parse_reference(_image(container)).version for container in there}

    def _containers(self, release: str = "") -> list[Container]:
        labels = {"environment": self._environment.name, "proxy": self._gateway.identity}
        if release:
            labels["release"] = release
        return self._engine.containers(labels)

    def _container(self, release: str, number: int = 1) -> str:
        replica = f"-{number}" if number > 1 else ""
        return f"slipway-{self._environment.name}-{release}{replica}"


def _image(container: Container) -> str:
    return str(container.attrs["Config"]["Image"])


def _release(container: Container) -> str:
    return str(container.labels[f"{LABEL}.release"])
