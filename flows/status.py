"""Show what is live in every environment, and whether it is healthy."""

from __future__ import annotations

import asyncio

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import EnvironmentOrAll
from tasks.platforms.catalogue import environment_names
from tasks.release.status import observe, publish_status, read_status
from tasks.repository.workspace import DEFAULT_BRANCH, open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name


@flow(name="status", flow_run_name=run_name("status {environment}"), timeout_seconds=900)
@stop_when_cancelled
async def status(environment: EnvironmentOrAll = "") -> State[list[dict[str, str]]]:
    """Show what is live, whether it is healthy, and whether the history on origin agrees.

    The run fails, as `Unhealthy`, if an environment has a problem.

    Args:
        environment: The environment; empty for all.

    Returns:
        For each environment: model, version, commit, since when, by which flow run, its health.
    """
    names = [environment] if environment else environment_names()
    observations = await asyncio.gather(*map(observe, names))
    # Cloned after all observations: a release made meanwhile is in its history.
    async with open_workspace(DEFAULT_BRANCH, whole=False) as workspace:
        statuses = [await read_status(workspace, observation) for observation in observations]
    await publish_status(statuses)

    data = [status.to_json() for status in statuses]
    problems = [f"{row['environment']}: {row['problem']}" for row in data if row["problem"]]
    if problems:
        return Failed(name="Unhealthy", message="; ".join(problems), data=data)
    return Completed(message=f"no problem in {', '.join(names)}", data=data)
