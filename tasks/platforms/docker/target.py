"""Target `docker`: model servers as containers on the worker's own host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from tasks.core.free_port import find_free_port
from tasks.core.threads import in_thread
from tasks.images.image import LABEL, PORT
from tasks.images.reference import parse_reference
from tasks.package.package import Package
from tasks.platforms.base.image_target import ImageTarget, StagedImage
from tasks.platforms.base.prediction_log import FOLDER, without_log
from tasks.platforms.base.proof import Candidate, prove
from tasks.platforms.docker.engine import Engine
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.host.host_release import HostRelease
from tasks.platforms.host.host_target import HostTarget

_PREFLIGHT = "preflight"
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

    async def _boot(self, staged: StagedImage) -> None:
        port = find_free_port()
        says = {"environment": self._environment.name, "release": staged.release}
        options = await self._options(port, {**says, "role": _PREFLIGHT})
        options |= {"restart_policy": {"Name": "no"}}
        options["environment"] = without_log(options["environment"])
        await self._run(f"{self._container(staged.release)}-{_PREFLIGHT}", staged, options)
        (container,) = await in_thread(self._containers, staged.release)
        candidate = Candidate(
            f"http://127.0.0.1:{port}",
            staged.package,
            staged.release,
            crashed=lambda: self._engine.has_ended(container),
            last_lines=lambda: self._engine.last_lines(container),
            base=self._environment.base,
        )
        await prove(candidate, self._environment.ready_seconds)
        await in_thread(self._stop, staged.release)

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
            if spool := self._make_spool(released):
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
            if _is_of_preflight(container):
                self._engine.remove(container)
            else:
                self._engine.stop(container)

    def _discard(self, release: str) -> None:
        for container in self._containers(release):  # else it would be started again as it is
            self._engine.stop(container)
            self._engine.remove(container)

    def _running(self) -> list[str]:
        # A container of a killed preflight counts even if it has ended: it must be removed.
        return sorted(
            {
                _release(container)
                for container in self._containers()
                if container.status != "exited" or _is_of_preflight(container)
            }
        )

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


def _is_of_preflight(container: Container) -> bool:
    return bool(container.labels.get(f"{LABEL}.role") == _PREFLIGHT)


def _image(container: Container) -> str:
    return str(container.attrs["Config"]["Image"])


def _release(container: Container) -> str:
    return str(container.labels[f"{LABEL}.release"])
