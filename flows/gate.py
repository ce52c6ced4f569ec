"""Ask the gate about a model, and change nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import EnvironmentName, Ref
from flows.push import REJECTED
from tasks.platforms.catalogue import gate_rules, load_environment
from tasks.reports.model_reports import judge_candidate
from tasks.repository.workspace import open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name


@flow(name="gate", flow_run_name=run_name("gate {ref} in {environment}"), timeout_seconds=3600)
@stop_when_cancelled
async def gate(ref: Ref = "main", environment: EnvironmentName = "local") -> State[dict[str, Any]]:
    """Judge the model at a ref as a deploy to an environment would, and publish the report.

    The run ends as `Rejected` if it does not pass.

    Args:
        ref: Branch, tag or commit on origin with a saved model.
        environment: Environment whose rules and live model count.

    Returns:
        The verdict, as it is signed with a model.
    """
    settings = load_environment(environment)
    async with open_workspace(ref, signed_tags=settings.signed) as workspace:
        verdict = await judge_candidate(workspace, gate_rules(settings))
    name = "Completed" if verdict.passed else REJECTED
    return Completed(name=name, message=verdict.text, data=asdict(verdict))
