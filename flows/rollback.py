"""Roll an environment back to an earlier version, on the same path as `deploy`."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.deploy import bring_live, final_state
from flows.parameters import EnvironmentName, Reason, VersionOrNone
from tasks.package.package import read_package
from tasks.platforms.catalogue import load_environment, make_target
from tasks.release.approval import approval_not_needed
from tasks.release.locks.lock import hold, lock_of
from tasks.release.rollback_version import choose_version
from tasks.release.steps import read_live
from tasks.reports.release_report import release_report
from tasks.repository.release_history import fetch_history
from tasks.repository.workspace import DEFAULT_BRANCH, move_workspace, open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name


@flow(
    name="rollback",
    flow_run_name=run_name("roll back {environment} {version}"),
    timeout_seconds=4 * 3600,
)
@stop_when_cancelled
async def rollback(
    environment: EnvironmentName = "local",
    version: VersionOrNone = "",
    reason: Reason = "",
    release: str = "",
) -> State[dict[str, Any]]:
    """Roll back to what was live before, with all proofs of a deploy and without an approval.

    A version that was rolled back is not deployed again by itself; a newer commit is.

    Args:
        environment: Name of a file in deployments/environments.
        version: The version to return to, as `wine@v0.0.3` or `v0.0.3`; empty for the one that
            was live before the present one.
        reason: Why, for the history and the release note.
        release: Roll back only if the release of this name is live; empty for any.

    Returns:
        The release, as `tasks.reports.release_data` describes it; empty without one.
    """
    settings = load_environment(environment)
    target = make_target(settings)
    async with (
        open_workspace(DEFAULT_BRANCH, signed_tags=settings.signed, whole=False) as newest,
        release_report(environment, target, rollback=True) as report,
        hold(lock_of(settings), version or "an earlier version"),
    ):
        # Chosen with the lock held: a deploy may have ended while this run waited for it.
        live = await read_live(target)
        if release and (live is None or live.release != release):
            message = f"{release} is not live in {environment} any more: nothing to roll back"
            return Completed(name="Superseded", message=message, data={})
        history = await fetch_history(newest, environment)
        earlier = await choose_version(newest, environment, history, version, live)
        workspace = await move_workspace(newest, earlier.commit)
        earlier_release = report.begin(read_package(workspace))
        earlier_release.rollback_reason = reason
        await bring_live(earlier_release, target, approval_not_needed(settings))
    return final_state(earlier_release)
