"""Deploy the model at a ref to an environment, or leave what is live as it is."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.parameters import EnvironmentName, Ref
from tasks.bucket.transfer import pull
from tasks.package.package import Package, read_package, verify_artifact
from tasks.platforms.base.target import ReleasedT, StagedT, Target
from tasks.platforms.catalogue import load_environment, make_target
from tasks.release.approval import Approval, read_approval, wait_for_answer
from tasks.release.locks.lock import hold, lock_of
from tasks.release.steps import (
    preflight,
    release,
    roll_back,
    settle,
    settled,
    status,
    tidy,
    verify,
)
from tasks.reports.release_report import Outcome, Release, reported
from tasks.repository.release_history import fetch_history, tag_message, taken_back
from tasks.repository.versions import Version, record_release, register_version
from tasks.repository.workspace import is_older, open_workspace
from tasks.runs.run_names import named


@flow(
    name="deploy",
    flow_run_name=named("deploy {ref} to {environment}"),
    timeout_seconds=2 * 3600,
)
async def deploy(
    ref: Ref = "main", environment: EnvironmentName = "local", force: bool = False
) -> State[dict[str, str]]:
    """Pull, verify, prove in isolation, release beside the live model, prove again, switch.

    Whatever fails, the model that was live goes on serving.

    Args:
        ref: Branch, tag or commit on origin to deploy; a version as `wine@v0.0.3`.
        environment: Where to: a file in deployments/environments.
        force: Release also what is live already, older than what is live, or taken back.

    Returns:
        The release: model, version, commit, md5, environment, url, outcome, reason.
    """
    settings = load_environment(environment)
    approval = await read_approval(settings)
    target = make_target(settings)
    async with open_workspace(approval.commit or ref) as workspace:
        package = read_package(workspace)
        async with hold(lock_of(settings), package.label):
            return await bring_live(package, target, approval, force=force)


async def bring_live(
    package: Package,
    target: Target[StagedT, ReleasedT],
    approval: Approval,
    *,
    force: bool = False,
    rollback: bool = False,
) -> State[dict[str, str]]:
    """Bring a package live, on the one path that there is; the environment's lock is held.

    Args:
        package: What to release.
        target: The platform that it goes to.
        approval: Where to, and where the run is with being approved.
        force: Release also what is live already, older, or was taken back.
        rollback: Go back: it takes back what is live.

    Returns:
        The final state, with the release.
    """
    environment, workspace = approval.environment, package.workspace
    async with reported(package, environment.name, target, rollback=rollback) as told:
        live = await status(target)
        told.before, told.approval = live, approval.told

        if approval.rejected:
            return ended(told, "rejected", approval.told)

        # What is live may have been pushed since the workspace was cloned.
        history = await fetch_history(workspace, environment.name)
        # What a killed run has left live before it was proven is released anew.
        if live and live.runs(package) and settled(history, live) and not force:
            told.version = live.version or "-"
            await tidy(target)
            return ended(told, "live", "already live")

        if not (force or rollback):
            if live and await is_older(workspace, package.commit, live.commit):
                return ended(told, "superseded", f"{live.label}, which is newer, is live")
            if by := taken_back(history, package.commit):
                return ended(told, "rejected", f"{by.told}; deploy a newer commit, or force it")

        file = await pull(workspace, package.artifact)
        await verify_artifact(package, file)
        staged = await preflight(target, package, file)
        await wait_for_answer(approval, told, target, staged)

        try:
            version = await register_version(workspace)
            told.version = version.name
            released = await release(target, staged, version.name)
            await verify(target, released)
            await settle(target, released)
        except BaseException:
            if await roll_back(target, staged):
                told.outcome = "rolled_back"
            else:
                told.outcome = "failed"
                told.reason = "The rollback did not complete: run this flow again."
            raise

        told.outcome = "live"
        await record(told, version)
        await tidy(target)
        return ended(told, "live", "released")


async def record(told: Release, version: Version) -> None:
    """Write the release into the history."""
    message = tag_message(
        before=told.previous,
        approval=told.approval,
        run=flow_run.get_id() or "",
        rollback=told.rollback,
    )
    await record_release(told.package.workspace, version, told.environment, message)


def ended(told: Release, outcome: Outcome, reason: str) -> State[dict[str, str]]:
    """The final state of a deploy that did what it should; one that was rejected has not."""
    told.outcome, told.reason = outcome, reason
    message = f"{told.package.label} to {told.environment}: {outcome}, {reason}"
    if outcome == "rejected":
        return Failed(name="Rejected", message=message, data=told.describe())
    return Completed(
        name="Superseded" if outcome == "superseded" else "Completed",
        message=message,
        data=told.describe(),
    )
