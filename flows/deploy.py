"""Deploy the model at a ref to an environment, or leave what is live as it is."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.parameters import EnvironmentName, Reason, Ref
from tasks.bucket.transfer import pull
from tasks.package.package import read_package, verify_artifact
from tasks.package.signature import verify_signature
from tasks.platforms.base.target import ReleasedT, StagedT, Target
from tasks.platforms.catalogue import load_environment, make_target
from tasks.release import steps
from tasks.release.approval import Approval, read_approval, wait_for_answer
from tasks.release.locks.lock import hold, lock_of
from tasks.release.policy import require_reason, was_live
from tasks.release.shadowing import run_shadow
from tasks.release.steps import is_recorded
from tasks.release.watching import plan_watch, schedule_watch
from tasks.reports.milestones import Milestone
from tasks.reports.release_report import Release, release_report
from tasks.repository.release_history import fetch_history, rollback_of, tag_message
from tasks.repository.versions import (
    Version,
    expected_version,
    record_release,
    register_version,
)
from tasks.repository.workspace import is_older, open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name


@flow(
    name="deploy",
    flow_run_name=run_name("deploy {ref} to {environment}"),
    timeout_seconds=4 * 3600,
)
@stop_when_cancelled
async def deploy(
    ref: Ref = "main",
    environment: EnvironmentName = "local",
    force: bool = False,
    reason: Reason = "",
    replace: bool = False,
) -> State[dict[str, Any]]:
    """Pull, verify, prove in isolation, release beside the live model, prove again, switch.

    Whatever fails, the model that was live keeps serving.

    Args:
        ref: Branch, tag or commit on origin to deploy; a version as `wine@v0.0.3`.
        environment: Name of a file in deployments/environments.
        force: Release also what is live already, older than what is live, or was rolled back; the
            policy of the environment holds all the same.
        reason: Why it is forced, for the history and the release note; a forced deploy needs one.
        replace: Release a model of another name, with other columns or other classes than what is
            live: clients of that one have to change their requests.

    Returns:
        The release, as `tasks.reports.release_data` describes it.
    """
    settings = load_environment(environment)
    force_reason = require_reason(settings, force=force, reason=reason)
    approval = await read_approval(settings)
    target = make_target(settings)
    async with (
        open_workspace(
            approval.commit or ref, signed_tags=settings.signed, whole=False
        ) as workspace,
        release_report(environment, target) as report,
    ):
        release = report.begin(read_package(workspace))
        release.force_reason, release.replace = force_reason, replace
        async with hold(lock_of(settings), release.package.label):
            await bring_live(release, target, approval)
    return final_state(release)


async def bring_live(
    release: Release, target: Target[StagedT, ReleasedT], approval: Approval
) -> None:
    """Bring a release live, the same way for a deploy and a rollback; the lock must be held.

    Args:
        release: The release; its milestones and its outcome are noted in it.
        target: The platform of its environment.
        approval: Its approval, as read at the start of the run.
    """
    package, workspace = release.package, release.package.workspace
    force = bool(release.force_reason)
    release.approval = approval.text
    live = await steps.read_live(target)
    # The commit that is live may have been pushed since the workspace was cloned.
    history = await fetch_history(workspace, release.environment)
    await release.compare_with(live)

    if approval.rejected:
        return release.end("rejected", approval.text)

    # What a killed run has left live before it was proven is released anew.
    if live and live.runs(package) and is_recorded(history, live) and not force:
        release.version, release.milestone = live.version, Milestone.RECORDED
        release.end("live", "already live")
        return await steps.tidy(target)

    if not (force or release.rollback):
        if live and await is_older(workspace, package.commit, live.commit):
            return release.end("superseded", f"{live.label}, which is newer, is live")
        if rollback := rollback_of(history, package.commit):
            reason = f"{rollback.rollback_note}; deploy a newer commit, or set force"
            return release.end("rejected", reason)

    # What was live here may come back by a rollback, whatever the policy has become since.
    is_new = not (release.rollback and was_live(package.commit, history))
    environment = approval.environment
    if is_new:
        await steps.check_policy(package, environment, live, replace=release.replace)
    if environment.signed:
        package = await verify_signature(package, release.environment)
    if is_new:
        release.verdict = await steps.ask_gate(package, release.metrics, environment, history, live)

    file = await pull(workspace, package.artifact, package.md5)
    await verify_artifact(package, file)
    staged = await steps.preflight(target, package, file, await expected_version(workspace))
    release.milestone = Milestone.STAGED
    await run_shadow(environment, release, target, staged)
    await wait_for_answer(approval, release, target, staged)

    async with steps.rollback_on_error(release, target, staged):
        version = await register_version(workspace)
        release.version = version.name
        release.milestone = Milestone.RELEASING
        released = await steps.release(target, staged, version.name)
        await steps.verify(target, released)
        watch = await plan_watch(release, target)
        release.milestone = Milestone.SWITCHING
        await steps.settle(target, released)
        await schedule_watch(release.environment, staged.release, watch)
    release.milestone = Milestone.SWITCHED

    await _record(release, version)
    release.milestone = Milestone.RECORDED
    release.end("live", "released")
    # Still under the lock: it cannot tell what a killed run has left from what another deploy has
    # just started. If it fails for a lost lock or an outage, the next deploy does it.
    await steps.tidy(target)


async def _record(release: Release, version: Version) -> None:
    """Write the release into the history on origin."""
    message = tag_message(
        before=release.label_before or "-",
        approval=release.approval,
        run=flow_run.get_id() or "",
        rollback=release.rollback,
        force_reason=release.force_reason,
        rollback_reason=release.rollback_reason,
    )
    await record_release(
        release.package.workspace,
        version,
        release.environment,
        message,
        again=bool(release.force_reason),
    )


def final_state(release: Release) -> State[dict[str, Any]]:
    """Return the final state of a flow run that no error ended."""
    message = (
        f"{release.package.label} to {release.environment}: {release.outcome}, {release.reason}"
    )
    data = release.data().to_json()
    if release.outcome == "rejected":  # the run has not done its work
        return Failed(name="Rejected", message=message, data=data)
    name = "Superseded" if release.outcome == "superseded" else "Completed"
    return Completed(name=name, message=message, data=data)
