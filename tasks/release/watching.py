"""The watch over a release after its switch: it is scheduled by the deploy, as a run of its own.

A deploy that waited for half an hour would keep the next one waiting. The watch starts nothing and
holds no lock, so a newer deploy takes no notice of it, and it ends when that is live.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound

from tasks.core import commands
from tasks.core.errors import ConfigurationError, TransientError
from tasks.platforms.base.target import AnyTarget
from tasks.platforms.base.watch import WatchPlan
from tasks.reports.release_report import Release
from tasks.runs.retrying import capability


@dataclass(frozen=True)
class WatchOrder:
    """A watch that a deploy asks for.

    Attributes:
        version: The version before, to roll back to.
        plan: What the new one is compared with.
    """

    version: str
    plan: WatchPlan


@capability("plan watch", run_name="plan the watch over {release.label}", timeout=60)
async def plan_watch(release: Release, target: AnyTarget) -> WatchOrder | None:
    """Return the watch over a release, None if it needs none; what it replaces must be live.

    A rollback needs none: what it goes back to was watched, and what it replaces is worse.
    """
    plan = None if release.rollback else await target.plan_watch()
    if plan is None:
        return None
    version = release.before.version if release.before else None
    if version is None or version == release.version:
        commands.run_logger().warning(
            "%s will not be watched: there is no other version to roll back to", release.label
        )
        return None
    return WatchOrder(version, plan)


@capability("schedule watch", run_name="schedule the watch over {name}", timeout=60)
async def schedule_watch(environment: str, name: str, order: WatchOrder | None) -> None:
    """Have a worker watch a release that has just got the traffic.

    Args:
        environment: Name of the environment.
        name: Name of the release.
        order: Its watch, None if it needs none.

    Raises:
        ConfigurationError: The Prefect server lacks the environment's watch.
        TransientError: The Prefect server does not answer.
    """
    if order is None:
        return
    until = datetime.now(UTC) + timedelta(seconds=order.plan.seconds)
    parameters: dict[str, Any] = {
        "environment": environment,
        "release": name,
        "version": order.version,
        "until": until.isoformat(timespec="seconds"),
        "baseline": order.plan.baseline,
    }
    deployment = f"watch/{environment}"
    try:
        await arun_deployment(
            deployment, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=name
        )
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"the Prefect server has no deployment {deployment}, so nobody would watch the release",
            state="the traffic has moved",
            next_step="run `slipway apply`, then this flow again; or remove `watch` from the"
            " environment's file",
        ) from error
    except httpx.HTTPError as error:
        raise TransientError(
            f"the watch over {name} could not be scheduled: {error!r}",
            state="the traffic has moved",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
    commands.run_logger().info("%s will be watched until %s", name, f"{until:%H:%M} UTC")
