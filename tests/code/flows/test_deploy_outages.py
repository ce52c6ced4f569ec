"""Deploys that an error or a lost lock stops at each step: their outcome, and what they report.

The flow, the history (a repository with GTO's tags) and the lock (on a real Prefect server) are
real. The platform is one in memory, and the package needs no bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.deploy
from deployments.local.prefect_programs import SERVER_PORT
from deployments.local.stack import Stack
from deployments.prefect_api.release_note import read_release_note
from flows.deploy import deploy
from tasks.core.errors import CandidateRejected, TerminalError, TransientError
from tasks.package.package import Package
from tasks.platforms.base.settings import CloudEnvironment
from tasks.platforms.base.target import Live, Released, Staged
from tasks.release import steps
from tasks.release.locks.shared import Rhythm, SharedLock
from tasks.reports.release_data import ReleaseData
from tasks.repository.workspace import Workspace
from tests.commits import commit_all
from tests.stack_access import prefect_of
from tests.stand_ins.line import line_to

_RHYTHM = Rhythm(renew=0.2, lost=60.0, gone=100.0, poll=0.1)
_STEPS = ("preflight", "release", "verify", "settle", "tidy")
Hook = Callable[[], Awaitable[None]]


@dataclass
class MemoryTarget:
    """A platform in memory, of which one step can be made to fail."""

    url: str = "http://wine.example"
    page: str | None = None
    live: Live | None = None
    hooks: dict[str, Hook] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    async def status(self) -> Live | None:
        return self.live

    async def preflight(self, package: Package, file: Path, version: str) -> Staged:
        await self._step("preflight")
        return Staged(package, "a-release")

    async def release(self, staged: Staged, version: str) -> Released[Staged]:
        await self._step("release")
        return Released(staged, version)

    async def verify(self, released: Released[Staged]) -> None:
        await self._step("verify")

    async def plan_watch(self) -> None:
        """There is no traffic to watch."""

    async def settle(self, released: Released[Staged]) -> None:
        await self._step("settle")

    async def tidy(self) -> None:
        await self._step("tidy")

    async def rollback(self, staged: Staged) -> None:
        await self._step("rollback")

    async def _step(self, name: str) -> None:
        self.calls.append(name)
        if hook := self.hooks.get(name):
            await hook()


@dataclass(frozen=True)
class Scene:
    """An environment in which `wine@<older>` is live, and a newer commit to deploy."""

    environment: str
    target: MemoryTarget
    stack: Stack
    older: str
    newer: str

    async def deploy(self) -> State[dict[str, Any]]:
        return await deploy(self.newer, self.environment, return_state=True)

    async def lose_lock(self) -> None:
        """Delete the lock, as whoever takes the holder for gone does, and wait to be stopped."""
        async with get_client() as client:
            await client.delete_variable_by_name(f"slipway_lock_{self.environment}")
        await asyncio.sleep(60)

    def data(self, state: State[Any]) -> ReleaseData:
        """Return what the run has published."""
        with self.stack.open_api() as api:
            note = read_release_note(api, str(state.state_details.flow_run_id))
        assert note
        assert f"| outcome | **{note.data.outcome}** |" in note.markdown
        return note.data


@pytest.fixture
def scene(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    name = f"test-{uuid4().hex[:8]}"
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIPWAY_ORIGIN", str(tmp_path / "origin"))
    repository = tmp_path / "origin"
    repository.mkdir()
    (repository / "params.yaml").write_text("name: wine\n")
    older = commit_all(repository, "older")
    (repository / "params.yaml").write_text("name: wine\n# newer\n")
    newer = commit_all(repository, "newer")
    settings = CloudEnvironment.model_validate(
        {
            "name": name,
            "target": "none",
            "repository": "registry/wine",
            "gate": "advised",
            "signatures": "off",
        }
    )
    target = MemoryTarget(live=Live("a-release", "wine", older, "", "", None, healthy=True))

    def read_package(workspace: Workspace) -> Package:
        commit = workspace.commit
        return Package(workspace, "wine", commit, "md5", "", 0, "3.12.1", {}, {}, "")

    async def pull(workspace: Workspace, artifact: str, _: str) -> Path:
        return workspace.path / artifact

    async def verify_artifact(package: Package, file: Path) -> None:
        """There are no bytes."""

    for attribute, value in {
        "load_environment": lambda _: settings,
        "make_target": lambda _: target,
        "lock_of": lambda _: SharedLock(name, _RHYTHM),
        "read_package": read_package,
        "pull": pull,
        "verify_artifact": verify_artifact,
    }.items():
        monkeypatch.setattr(flows.deploy, attribute, value)
    for step in _STEPS:
        monkeypatch.setattr(steps, step, getattr(steps, step).with_options(retries=0))
    monkeypatch.setattr(steps, "_ROLLBACK_PAUSES", (0.0, 0.0))
    with prefect_of(stack):
        yield Scene(name, target, stack, older, newer)


def _raise(error: Exception) -> Hook:
    async def hook() -> None:
        raise error

    return hook


_OUTAGE = TransientError("the platform does not answer", state="what is live goes on serving")
_REJECTED = CandidateRejected("the model predicts something else")
_REFUSED = TerminalError("the platform refuses the token")


@pytest.mark.parametrize(
    ("step", "error", "outcome", "state"),
    [
        ("preflight", _OUTAGE, "failed", "nothing was released; wine@{older} keeps serving"),
        ("preflight", _REFUSED, "failed", "nothing was released; wine@{older} keeps serving"),
        ("preflight", _REJECTED, "rejected", "nothing was released; wine@{older} keeps serving"),
        ("release", _OUTAGE, "rolled_back", "wine v0.0.1 was rolled back; wine@{older} serves"),
        ("verify", _REJECTED, "rolled_back", "wine v0.0.1 was rolled back; wine@{older} serves"),
        ("settle", _OUTAGE, "rolled_back", "wine v0.0.1 was rolled back; wine@{older} serves"),
        ("tidy", _REFUSED, "live", "wine v0.0.1 is live and recorded"),
    ],
)
async def test_deploy_that_fails_says_what_serves(
    scene: Scene, step: str, error: Exception, outcome: str, state: str
) -> None:
    scene.target.hooks[step] = _raise(error)
    final = await scene.deploy()
    assert final.name == "Failed", final.message
    data = scene.data(final)
    assert (data.outcome, data.state) == (outcome, state.format(older=scene.older[:7]))
    assert data.reason == str(error).partition("\n")[0]
    assert f"State: {data.state}" in (final.message or "")
    assert data.before
    assert data.before.commit == scene.older


async def test_rollback_that_fails_is_no_rollback(scene: Scene) -> None:
    scene.target.hooks = {"settle": _raise(_REJECTED), "rollback": _raise(_OUTAGE)}
    final = await scene.deploy()
    data = scene.data(final)
    assert data.outcome == "failed"
    assert data.state.startswith("the rollback did not complete: wine v0.0.1 and wine@")
    assert "Next: run this flow again" in (final.message or "")


@pytest.mark.parametrize(
    ("step", "outcome", "state"),
    [
        ("preflight", "failed", "nothing was released; wine@{older} keeps serving"),
        ("verify", "rolled_back", "wine v0.0.1 was rolled back; wine@{older} serves"),
    ],
)
async def test_deploy_that_loses_its_lock_stops_and_says_what_serves(
    scene: Scene, step: str, outcome: str, state: str
) -> None:
    scene.target.hooks[step] = scene.lose_lock
    final = await scene.deploy()
    assert final.name == "Failed", final.message
    data = scene.data(final)
    assert (data.outcome, data.state) == (outcome, state.format(older=scene.older[:7]))
    assert data.reason.startswith(f"lost the lock of {scene.environment}")
    assert f"State: {data.state}" in (final.message or "")
    assert "tidy" not in scene.target.calls


async def test_deploy_that_loses_its_lock_after_it_is_recorded_is_live(scene: Scene) -> None:
    scene.target.hooks["tidy"] = scene.lose_lock
    final = await scene.deploy()
    assert final.name == "Completed", final.message
    data = scene.data(final)
    assert (data.outcome, data.reason, data.state) == ("live", "released", "")
    assert await final.aresult() == data.to_json()
    assert "rollback" not in scene.target.calls


async def test_release_that_origin_does_not_record_is_not_live(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        flows.deploy,
        "record_release",
        lambda *_, **__: _raise(TransientError("origin does not answer"))(),
    )
    data = scene.data(await scene.deploy())
    assert data.outcome == "failed"
    assert data.state == "wine v0.0.1 serves all traffic; its release may not be recorded"
    assert "rollback" not in scene.target.calls, "it has passed its proof"


async def test_deploy_goes_on_although_the_server_restarts_at_each_step(scene: Scene) -> None:
    with line_to(scene.stack.ports[SERVER_PORT]) as line:
        away = {PREFECT_API_URL: f"http://127.0.0.1:{line.port}/api"}

        async def restart() -> None:
            line.cut(1.0)  # for longer than the rest of the step

        scene.target.hooks = dict.fromkeys(_STEPS, restart)
        with temporary_settings(away):
            final = await scene.deploy()
    assert final.name == "Completed", final.message
    assert scene.data(final).outcome == "live"
    assert scene.target.calls == [*_STEPS]
    assert line.cuts > len(_STEPS)
    assert line.refused
