"""Say of every environment what is live there, and whether that is as it should be."""

from __future__ import annotations

import asyncio

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import EnvironmentOrAll
from tasks.platforms.catalogue import environment_names
from tasks.release.status import compare, look_at, show
from tasks.repository.workspace import DEFAULT_BRANCH, open_workspace
from tasks.runs.run_names import run_name


@flow(name="status", flow_run_name=run_name("status {environment}"), timeout_seconds=900)
async def status(environment: EnvironmentOrAll = "") -> State[list[dict[str, str]]]:
    """Look at what is live, whether it is healthy, and whether the Git history says the same.

    The run fails, as `Unhealthy`, where something should be live and is not as it should be.

    Args:
        environment: Which one; empty for all.

    Returns:
        Of each environment: model, version, commit, since when, by which flow run, how it is.
    """
    names = [environment] if environment else environment_names()
    seen = await asyncio.gather(*map(look_at, names))
    async with open_workspace(DEFAULT_BRANCH) as workspace:
        conditions = [await compare(workspace, each) for each in seen]
    await show(conditions)
    described = [each.describe() for each in conditions]
    problems = [
        f"{each['environment']}: {each['problem']}" for each in described if each["problem"]
    ]
    if problems:
        return Failed(name="Unhealthy", message="; ".join(problems), data=described)
    return Completed(message=f"{', '.join(names)}: as it should be", data=described)
