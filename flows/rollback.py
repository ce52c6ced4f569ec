"""Go back to an earlier version, on the same path as `deploy`."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.deploy import bring_live
from flows.parameters import EnvironmentName, VersionOrNone
from tasks.package.package import read_package
from tasks.platforms.catalogue import load_environment, make_target
from tasks.release.approval import waived
from tasks.release.locks.lock import hold, lock_of
from tasks.release.rollback_version import earlier_version
from tasks.release.steps import status
from tasks.repository.workspace import DEFAULT_BRANCH, open_workspace
from tasks.runs.run_names import named


@flow(
    name="rollback",
    flow_run_name=named("roll {environment} back {version}"),
    timeout_seconds=2 * 3600,
)
async def rollback(
    environment: EnvironmentName = "local", version: VersionOrNone = ""
) -> State[dict[str, str]]:
    """Go back to what was live before, with all proofs of a deploy; nobody is asked.

    What it takes back is not deployed again by itself; a newer commit is.

    Args:
        environment: Where: a file in deployments/environments.
        version: The version to go back to, as `wine@v0.0.3` or `v0.0.3`; empty: the one that was
            live before the present one.

    Returns:
        The release: model, version, commit, md5, environment, url, outcome, reason.
    """
    settings = load_environment(environment)
    target = make_target(settings)
    async with hold(lock_of(settings), version or "an earlier version"):
        # Chosen now: a deploy that was waited for has changed what was live before.
        live = await status(target)
        async with open_workspace(DEFAULT_BRANCH) as workspace:
            earlier = await earlier_version(workspace, environment, version, live)
        async with open_workspace(earlier.commit) as workspace:
            package = read_package(workspace)
            return await bring_live(package, target, waived(settings), rollback=True)
