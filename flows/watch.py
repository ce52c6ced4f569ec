"""Watch a release after its switch, and roll it back if it is worse than the version before."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, tags
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import NO_NUMBERS, EnvironmentName, VersionOrNone
from flows.rollback import rollback
from tasks.core import commands
from tasks.core.settings import TAG
from tasks.platforms.base.settings import WATCH_SECONDS
from tasks.platforms.catalogue import load_environment, make_target
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name


@flow(
    name="watch",
    flow_run_name=run_name("watch {environment}"),
    timeout_seconds=WATCH_SECONDS + 4 * 3600,
)
@stop_when_cancelled
async def watch(
    release: str,
    until: str,
    baseline: dict[str, Any] = NO_NUMBERS,
    environment: EnvironmentName = "local",
    version: VersionOrNone = "",
) -> State[None]:
    """Compare a release with the version before it; a deploy starts this if `watch` is set.

    It ends early if another release is live.

    Args:
        release: Name of the release.
        until: End of the watch, as ISO 8601.
        baseline: What the proxy has counted of the version before, in its last hour.
        environment: Name of a file in deployments/environments.
        version: The version before, to roll back to.
    """
    target = make_target(load_environment(environment))
    result = await target.watch(release, baseline, datetime.fromisoformat(until))
    if result.outcome == "superseded":
        return Completed(name="Superseded", message=f"another release than {release} is live")
    if result.outcome == "no worse":
        commands.run_logger().info("%s", result.numbers)
        return Completed(message=result.numbers)
    reason = f"worse than the version before: {result.numbers}"
    commands.run_logger().error("%s is %s", release, reason)
    with tags(TAG):  # subflow runs have no deployment to inherit the tag from
        state = await rollback(
            environment=environment,
            version=version,
            release=release,
            reason=reason,
            return_state=True,
        )
    if state.name == "Superseded":
        return Completed(name="Superseded", message=state.message)
    if not state.is_completed():
        return Failed(message=f"{release} is {reason}; the rollback failed: {state.message}")
    return Failed(name="RolledBack", message=f"{release} was {reason}; {state.message}")
