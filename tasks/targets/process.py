"""Target `process`: model servers on the worker's own host, kept alive by supervisord, behind a
proxy that moves the traffic from one to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks import commands, golden
from tasks.environments import ProcessEnvironment
from tasks.errors import SlipwayError, TerminalError, TransientError
from tasks.git import Argv
from tasks.packaging import Bundle, Package, make_bundle, make_runtime
from tasks.settings import Settings
from tasks.targets.gateway import Gateway, Route
from tasks.targets.protocol import Live
from tasks.targets.supervisor import Program, Supervisor

_POLL_SECONDS = 0.1
_PORTS = range(23_000, 30_000)


class ProcessSettings(BaseSettings):
    """How this host's supervisord and proxy are reached; the local stack sets the variables.

    Attributes:
        supervisor_url: XML-RPC URL of supervisord.
        supervisor_username: Its login.
        supervisor_password: Its password.
        gateway: Folder from which the proxy reads its routes.
        gateway_api: URL of the proxy's API.
    """

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_", extra="ignore")

    supervisor_url: str
    supervisor_username: str
    supervisor_password: SecretStr
    gateway: Path
    gateway_api: str


def serve(python: Path, bundle: Path, port: int) -> Argv:
    """The command that serves a bundle on loopback."""
    return [str(python), "-m", "serving", "--bundle", str(bundle), "--host", "127.0.0.1",
            "--port", str(port)]  # fmt: skip


class ProcessTarget:
    """One environment on the worker's own host.

    Args:
        environment: Its settings.
    """

    def __init__(self, environment: ProcessEnvironment) -> None:
        host = ProcessSettings()  # type: ignore[call-arg]  # from the environment
        self._environment = environment
        self._gateway = Gateway(host.gateway, host.gateway_api, environment.name)
        self._supervisor = Supervisor(
            host.supervisor_url,
            host.supervisor_username,
            host.supervisor_password.get_secret_value(),
        )
        self._programs = Settings().home / "supervisor" / "conf.d"
        self._logs = Settings().home / "log"
        self._bundles = Settings().bundles / environment.name
        self._bundle: Bundle | None = None
        self._new: Route | None = None
        self._old: Route | None = None
        self._switched = False

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return self._environment.url

    async def status(self) -> Live | None:
        """What is live, None if nothing is."""
        route = await asyncio.to_thread(self._gateway.route)
        if route is None:
            return None
        try:
            said = json.loads((self._bundles / route.release / "release.json").read_text())
        except (OSError, ValueError):
            return None  # routed to what is not there any more
        answer = await _version(self.url)
        return Live(
            release=route.release,
            model=said["name"],
            commit=said["commit"],
            md5=(answer or said).get("md5", ""),
            serving=said["serving"],
            version=said.get("version"),
            healthy=answer is not None and answer.get("release") == route.release,
        )

    async def preflight(self, package: Package, file: Path) -> None:
        """Make the bundle, and boot it where nothing of ours is around."""
        python = await make_runtime(package)
        moment = datetime.now(UTC)
        self._bundle = bundle = await asyncio.to_thread(
            make_bundle,
            package,
            file,
            python,
            environment=self._environment.name,
            identifier=f"{moment:%Y%m%dT%H%M%S}-{package.commit[:7]}-{uuid4().hex[:4]}",
        )
        port = _free_port()
        try:
            # In the workspace, so that what a killed run leaves behind is ended with it.
            folder = package.workspace.path / "preflight"
            folder.mkdir(exist_ok=True)
            async with commands.running(
                serve(python, bundle.path, port),
                cwd=folder,
                env=_bare_environment(folder, bundle.path),
                log=folder / "log",
            ) as server:
                await self._prove(
                    f"http://127.0.0.1:{port}", lambda: server.code is not None, server.tail
                )
        except BaseException:
            shutil.rmtree(bundle.path, ignore_errors=True)
            raise

    async def release(self, version: str) -> None:
        """Start the bundle under supervisord beside the live one."""
        bundle = self._made()
        bundle.describe(version)
        if self._new is None:  # else it is tried again
            self._old = await asyncio.to_thread(self._gateway.route)
            await self._sweep(keep=self._old)
            self._new = Route(bundle.identifier, _free_port())
        program = Program(
            name=self._program(self._new),
            argv=tuple(serve(bundle.python, bundle.path, self._new.port)),
            directory=bundle.path,
            stop_seconds=35,  # the server gives requests under way 30 s
        )
        await asyncio.to_thread(self._supervisor.add, program, self._programs, self._logs)

    async def verify(self) -> None:
        """Prove the new server at its private URL."""
        route = self._started()
        program = self._program(route)

        def crashed() -> bool:
            states = self._supervisor.programs(program)
            return states.get(program, {}).get("statename") not in {"STARTING", "RUNNING"}

        await self._prove(route.url, crashed, lambda: commands.tail(self._log(route)))

    async def settle(self) -> None:
        """Move the traffic, and prove the public URL for the soak time."""
        route = self._started()
        self._switched = True
        await asyncio.to_thread(self._gateway.switch, route)
        end = asyncio.get_running_loop().time() + self._environment.soak_seconds
        while True:
            await self._identify(self.url)
            await self._replay(self.url, lambda: commands.tail(self._log(route)))
            if asyncio.get_running_loop().time() >= end:
                break
            await asyncio.sleep(_POLL_SECONDS)

    async def rollback(self) -> None:
        """Route to the old server again, stop the new one, drop the bundle."""
        if self._switched:  # or tried to: the proxy may take the route later
            await asyncio.to_thread(self._gateway.switch, self._old)
        if self._new:
            name = self._program(self._new)
            await asyncio.to_thread(self._supervisor.remove, name, self._programs)
        if self._bundle:
            shutil.rmtree(self._bundle.path, ignore_errors=True)

    async def tidy(self) -> None:
        """Stop servers that no route leads to, drop bundles beyond those kept."""
        route = await asyncio.to_thread(self._gateway.route)
        await self._sweep(keep=route)
        self._prune(keep=route)

    async def _prove(
        self, url: str, crashed: Callable[[], bool], last_lines: Callable[[], str]
    ) -> None:
        """Ready, itself, and predicting what the saved model did; or a TerminalError."""
        try:
            async with asyncio.timeout(self._environment.ready_seconds):
                while not await _answers(f"{url}/readyz"):
                    if await asyncio.to_thread(crashed):
                        raise _unfit(f"the model server ended at start:\n{last_lines()}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise _unfit(
                f"the model server did not get ready within"
                f" {self._environment.ready_seconds:g} s:\n{last_lines()}"
            ) from None
        await self._identify(url)
        await self._replay(url, last_lines)

    async def _replay(self, url: str, last_lines: Callable[[], str]) -> None:
        try:
            await golden.replay(url, self._made().package.golden)
        except SlipwayError as error:
            # A server that is up and does not answer is no better than one that answers wrongly.
            raise _unfit(f"{error.what}\n{last_lines()}".rstrip()) from error

    async def _identify(self, url: str) -> None:
        bundle, answer = self._made(), await _version(url)
        expected = (bundle.identifier, bundle.package.md5)
        got = (answer.get("release"), answer.get("md5")) if answer else None
        if got != expected:
            raise _unfit(f"{url}/version is {got}, should be {expected}")

    def _made(self) -> Bundle:
        assert self._bundle, "preflight comes first"
        return self._bundle

    def _started(self) -> Route:
        assert self._new, "release comes first"
        return self._new

    def _program(self, route: Route) -> str:
        return f"model-{self._environment.name}-{route.release}"

    def _log(self, route: Route) -> Path:
        return self._logs / f"{self._program(route)}.log"

    async def _sweep(self, keep: Route | None) -> None:
        # By the whole name: `local` must not stop what belongs to `local-eu`.
        ours = re.compile(rf"model-{re.escape(self._environment.name)}-\d{{8}}T\d{{6}}-\w+-\w+")
        for name in await asyncio.to_thread(self._supervisor.programs, "model-"):
            if ours.fullmatch(name) and (keep is None or name != self._program(keep)):
                await asyncio.to_thread(self._supervisor.remove, name, self._programs)

    def _prune(self, keep: Route | None) -> None:
        releases = sorted(path for path in self._bundles.glob("*") if path.is_dir())
        old = [path for path in releases if keep is None or path.name != keep.release]
        for path in old[: max(0, len(old) - (self._environment.keep - 1))]:
            shutil.rmtree(path, ignore_errors=True)
            self._log(Route(path.name, 0)).unlink(missing_ok=True)


def _unfit(what: str) -> TerminalError:
    return TerminalError(
        what,
        state="what was live before goes on serving",
        next_step="mend the model or the serving code, commit, and deploy that commit",
    )


def _free_port() -> int:
    # Below the ports that systems hand out by themselves: a server keeps its port over reboots.
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise TransientError("no TCP port is free", state="nothing was started")


def _bare_environment(home: Path, bundle: Path) -> dict[str, str]:
    # With the two marks by which a process that outlives its run is found.
    kept = {"PATH", "LANG", "LC_ALL", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
            "SLIPWAY_STACK", "PREFECT__FLOW_RUN_ID"}  # fmt: skip
    ours = {"HOME": str(home), "PYTHONPATH": str(bundle)}
    return {key: value for key, value in os.environ.items() if key in kept} | ours


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


async def _version(url: str) -> dict[str, str] | None:
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.get(f"{url}/version")
            return dict(answer.json()) if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None
