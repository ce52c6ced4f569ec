"""Target `process`: model servers on the worker's own host, kept alive by supervisord."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core import commands
from tasks.core.settings import Settings
from tasks.core.threads import in_thread
from tasks.package.bundle import Bundle
from tasks.package.package import Package
from tasks.package.server import serve_in_box, stage
from tasks.platforms.base.prediction_log import FOLDER
from tasks.platforms.base.target import Staged
from tasks.platforms.host.host_release import HostRelease
from tasks.platforms.host.host_target import HostTarget
from tasks.platforms.process import launch
from tasks.platforms.process.launch import trial_of
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.platforms.process.supervisor import (
    Program,
    Supervisor,
    check_variables,
    record_of,
)

_STOP_SECONDS = 35  # the server gives requests under way 30 s


class SupervisorSettings(BaseSettings):
    """The address of this host's supervisord; the local stack sets the variables.

    Attributes:
        supervisor_url: XML-RPC URL of supervisord.
    """

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_", extra="ignore")

    supervisor_url: str
    supervisor_username: str
    supervisor_password: SecretStr


@dataclass(frozen=True)
class StagedBundle(Staged):
    """A package that preflight has proven, and its bundle on this host."""

    bundle: Bundle


class ProcessTarget(HostTarget[StagedBundle]):
    """One environment on the worker's own host."""

    def __init__(self, environment: ProcessEnvironment) -> None:
        super().__init__(environment)
        host = SupervisorSettings()  # type: ignore[call-arg]  # from the environment
        self._environment = environment
        self._supervisor = Supervisor(
            host.supervisor_url,
            host.supervisor_username,
            host.supervisor_password.get_secret_value(),
        )
        self._programs = Settings().home / "supervisor" / "conf.d"
        self._logs = Settings().home / "log"
        self._bundles = Settings().bundles / environment.name

    async def _check_runner(self) -> Sequence[str]:
        running = await in_thread(self._supervisor.programs)
        return [f"supervisord keeps {len(running)} programs alive"]

    def _describe(self, release: str) -> Mapping[str, Any] | None:
        try:
            return dict(json.loads((self._bundles / release / "release.json").read_text()))
        except (OSError, ValueError):
            return None

    async def _make(self, package: Package, file: Path, release: str) -> StagedBundle:
        check_variables((await self._variables.read()).reveal())
        bundle = await stage(
            package,
            file,
            self._bundles,
            environment=self._environment.name,
            identifier=release,
        )
        return StagedBundle(package, release, bundle)

    async def _start(self, released: HostRelease[StagedBundle]) -> None:
        bundle, route = released.staged.bundle, released.route
        bundle.describe(released.version)
        variables = (await self._variables.read()).reveal()
        variables |= released.server_variables(self._environment.log)
        if spool := self._spools.make(released):
            variables |= {FOLDER: str(spool)}
        for name, port in zip(self._names(route.release), route.ports, strict=True):
            program = Program(
                name=name,
                argv=tuple(
                    serve_in_box(bundle, port, variables, spool=spool, yields=released.is_shadow)
                ),
                directory=bundle.path,
                environment=variables,
                stop_seconds=_STOP_SECONDS,
            )
            if released.on_trial:
                trial_of(record_of(name, self._logs)).touch()
            await in_thread(self._supervisor.add, program, self._programs, self._logs)

    def _confirm(self, released: HostRelease[StagedBundle]) -> None:
        super()._confirm(released)
        for name in self._names(released.staged.release):
            _end_trial(record_of(name, self._logs))

    def _stop(self, release: str) -> None:
        program = self._program(release)
        files = [*self._programs.glob(f"{program}*.conf"), *self._logs.glob(f"{program}*.pid")]
        names = {*self._supervisor.programs(program), *(file.stem for file in files)}
        self._supervisor.remove(names, self._programs)
        # A server that supervisord has adopted outlives a stand-in that is killed before it could
        # pass on a signal.
        for name in names:
            if running := launch.read_process(record_of(name, self._logs)):
                launch.stop(running, signal.SIGTERM, _STOP_SECONDS)

    def _running(self) -> list[str]:
        # By the whole name: `local` must not stop servers of `local-eu`.
        ours = re.compile(rf"{re.escape(self._program(''))}(\d{{8}}T\d{{6}}-\w+-\w+)(-\d+)?")
        matches = map(ours.fullmatch, self._supervisor.programs("model-"))
        return sorted({name[1] for name in matches if name})

    def _has_crashed(self, release: str) -> bool:
        programs = self._supervisor.programs(self._program(release))
        return any(
            name not in programs
            or programs[name]["statename"] not in {"STARTING", "RUNNING"}
            or programs[name]["stop"]  # when it ended last: supervisord has started it again
            for name in self._names(release)
        )

    def _last_lines(self, release: str) -> str:
        return "\n".join(commands.tail(self._logs / f"{name}.log") for name in self._names(release))

    async def _releases(self) -> Collection[str]:
        return [path.name for path in self._bundles.glob("*") if path.is_dir()]

    async def _drop(self, releases: Collection[str]) -> None:
        for release in releases:
            shutil.rmtree(self._bundles / release, ignore_errors=True)
            # Their logs, which supervisord rotates, and the records of their processes.
            for file in self._logs.glob(f"{self._program(release)}*"):
                file.unlink(missing_ok=True)

    def _names(self, release: str) -> list[str]:
        """Name the programs of a release that this deploy starts, one per replica."""
        first, count = self._program(release), self._environment.replicas
        return [first, *(f"{first}-{number}" for number in range(2, count + 1))]

    def _program(self, release: str) -> str:
        return f"model-{self._environment.name}-{release}"


def _end_trial(record: Path) -> None:
    """Give a program on trial the score again that it had: it is no longer the first to go."""
    trial, process = trial_of(record), launch.read_process(record)
    if not trial.exists():
        return
    score = trial.read_text()
    trial.unlink()
    if score and process:
        with suppress(psutil.Error, OSError):
            box = psutil.Process(process)
            for member in (box, *box.children(recursive=True)):
                Path(f"/proc/{member.pid}/oom_score_adj").write_text(score)
