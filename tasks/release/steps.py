"""The steps of a rollout, on any target, as tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tasks.core import commands
from tasks.core.caches import prune_caches
from tasks.core.errors import ConfigurationError
from tasks.core.settings import Settings
from tasks.core.threads import in_thread
from tasks.package.package import Package
from tasks.platforms.base.settings import CANARY_SECONDS, SOAK_SECONDS, Environment
from tasks.platforms.base.target import AnyTarget, Live, ReleasedT, StagedT, Target
from tasks.platforms.catalogue import gate_rules
from tasks.release import policy
from tasks.release.interface import read_changes
from tasks.reports.release_report import Release
from tasks.repository import git
from tasks.repository.release_history import Entry, champion_for, read_history
from tasks.repository.tags import read_tags
from tasks.repository.versions import Version
from tasks.runs.retrying import capability
from tasks.training.gate import Verdict
from tasks.training.rules import Metrics
from tasks.training.verdict import judge_commit

# Seconds before each try: outages of platforms last minutes rather than seconds.
_ROLLBACK_PAUSES = (0.0, 2.0, 5.0, 15.0, 30.0, 60.0)


@capability("read live release", run_name="read what is live", timeout=60)
async def read_live(target: AnyTarget) -> Live | None:
    """Return what the platform says is live, None if nothing is."""
    live = await target.status()
    if live:
        health = "healthy" if live.healthy else "not healthy"
        commands.run_logger().info("live is %s, %s, at %s", live.label, health, target.url)
    return live


@capability("check policy", run_name="check the policy of {environment.name}", timeout=300)
async def check_policy(
    package: Package, environment: Environment, live: Live | None, *, replace: bool
) -> None:
    """Refuse a release that the policy of its environment does not allow, whatever its model.

    Args:
        package: What is to be released.
        environment: The environment, as its file on this worker has it.
        live: What is live there, None if nothing is.
        replace: Whether it may have another interface than what is live.

    Raises:
        CandidateRejected: It is on no allowed branch, was not live where it has to have been, or
            has another interface than what is live.
    """
    workspace, commit, label = package.workspace, package.commit, package.label
    listed = (await workspace.git(git.branches_with(commit))).stdout.split()
    branches = [name.removeprefix(git.remote_head("")) for name in listed]
    policy.require_branch(environment, label, [name for name in branches if name != "HEAD"])
    if source := environment.promote_from:
        policy.require_promotion(environment, label, commit, await read_history(workspace, source))
    if not replace and environment.replace == "refused":
        changes = await (
            read_changes(package, live) if live else _find_former(package, environment)
        )
        policy.require_same_interface(environment, label, changes)


async def _find_former(package: Package, environment: Environment) -> list[str]:
    """Return that another model was live, if nothing is now and this one never was.

    A name that was mistyped while the environment is down has no champion, either.
    """
    for name in (package.model, "*"):
        tags = await read_tags(package.workspace, f"{name}#{environment.name}#*", count=1)
        if tags:
            former = tags[0].name.partition("#")[0]
            same = former == package.model
            return [] if same else [f"it is {package.model}, and {former} was live"]
    return []


@capability("ask the gate", run_name="ask the gate of {environment.name}", timeout=3600)
async def ask_gate(
    package: Package,
    metrics: Metrics,
    environment: Environment,
    history: Sequence[Entry],
    live: Live | None,
) -> Verdict:
    """Ask whether the model may take the place of what is live.

    It may have to be started for that: its signature is verified before.

    Args:
        package: What is to be released.
        metrics: Its metrics; empty if it has none.
        environment: The environment, as its file on this worker has it.
        history: The releases to it, newest first.
        live: What is live there, None if nothing is.

    Raises:
        CandidateRejected: The gate rejects it, and is required.
    """
    workspace, label = package.workspace, package.label
    champion = await _find_champion(package, history, live)
    try:
        verdict = await judge_commit(workspace, metrics, champion, gate_rules(environment))
    except ConfigurationError as error:  # no metrics, or no rules for them
        verdict = Verdict(False, (error.what,), "none that fit")
    policy.require_verdict(environment, label, verdict)
    log = commands.run_logger().info if verdict.passed else commands.run_logger().warning
    log("the gate is %s in %s: %s", environment.gate, environment.name, verdict.text)
    return verdict


async def _find_champion(
    package: Package, history: Sequence[Entry], live: Live | None
) -> Version | None:
    """Return the version that a model is compared with, None before the first release.

    It is the history's. But who removes tags from origin shall not remove the champion: what is
    live and not in the history is one all the same, unless it was made in another repository.
    """
    if live and live.model == package.model and live.commit != package.commit:
        known = await package.workspace.git(git.resolve(live.commit), ok=(0, 1, 128))
        if not policy.was_live(live.commit, history) and (known.code == 0 or not history):
            commands.run_logger().warning(
                "%s is live, but origin has no tag of that release", live.label
            )
            return Version(live.version or live.label, live.commit)
    return champion_for(package.commit, history)


@capability("preflight", run_name="preflight {package.label}", timeout=1800)
async def preflight(
    target: Target[StagedT, ReleasedT], package: Package, file: Path, version: str
) -> StagedT:
    """Boot the candidate without traffic, and replay its golden predictions."""
    return await target.preflight(package, file, version)


@capability("release", run_name="release {staged.package.label}", timeout=1800)
async def release(target: Target[StagedT, ReleasedT], staged: StagedT, version: str) -> ReleasedT:
    """Start the new version beside the old one."""
    return await target.release(staged, version)


@capability("verify", run_name="verify {released.staged.package.label}", timeout=1800)
async def verify(target: Target[StagedT, ReleasedT], released: ReleasedT) -> None:
    """Prove the new version where it runs, before it gets traffic."""
    await target.verify(released)


# What platforms elsewhere take to move the traffic is no more than what canary steps may take.
@capability(
    "settle",
    run_name="settle {released.staged.package.label}",
    timeout=CANARY_SECONDS + SOAK_SECONDS + 900,
)
async def settle(target: Target[StagedT, ReleasedT], released: ReleasedT) -> None:
    """Move the traffic, and prove the new version at the public URL."""
    await target.settle(released)


@capability("tidy", run_name="stop and remove old releases", timeout=300)
async def tidy(target: AnyTarget) -> None:
    """Stop what is not live, and remove releases beyond those that are kept for a rollback."""
    await target.tidy()
    await in_thread(prune_caches, Settings())


@asynccontextmanager
async def rollback_on_error(
    release: Release, target: Target[StagedT, ReleasedT], staged: StagedT
) -> AsyncIterator[None]:
    """Restore what was live if a block of code fails, and note whether that worked."""
    try:
        yield
    except BaseException:
        release.rolled_back = await roll_back(target, staged)
        raise


async def roll_back(target: Target[StagedT, ReleasedT], staged: StagedT) -> bool:
    """Restore what was live, also while the flow run is being cancelled.

    Returns:
        True if that worked. An error is logged only: it must not hide the one that led here.
    """
    # Not a task: Prefect starts none in a run that is being cancelled.
    with anyio.CancelScope(shield=True):
        for pause in _ROLLBACK_PAUSES:
            await anyio.sleep(pause)
            try:
                await target.rollback(staged)
            except Exception as error:
                commands.run_logger().error("the rollback failed: %r", error)
            else:
                commands.run_logger().warning(
                    "rolled back: %s serves what it did before", target.url
                )
                return True
    return False


def is_recorded(entries: Sequence[Entry], live: Live) -> bool:
    """Check that what is live is healthy and recorded, which it is only after all proofs.

    Args:
        entries: The releases, newest first.
        live: What the platform says is live.
    """
    return live.healthy and bool(entries) and entries[0].commit == live.commit
