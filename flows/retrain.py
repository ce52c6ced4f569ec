"""Retrain: refresh the data, train, save and push a candidate, on a schedule or an event."""

from __future__ import annotations

from typing import Any

from prefect import flow, tags
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import NO_OVERRIDES, EnvironmentName, Overrides, Ref
from flows.push import UNCHANGED, push
from flows.save import save
from flows.train import train
from tasks.core.errors import DataRejected
from tasks.core.settings import TAG, Settings
from tasks.platforms.catalogue import load_environment
from tasks.repository.folders import share_workspaces
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.results import PERSISTED
from tasks.runs.run_names import run_name
from tasks.training.signing import require_key


@flow(
    name="retrain",
    flow_run_name=run_name("retrain {ref}"),
    timeout_seconds=2 * Settings().training_seconds + 3 * 3600,
    **PERSISTED,
)
@stop_when_cancelled
async def retrain(
    ref: Ref = "main",
    overrides: Overrides = NO_OVERRIDES,
    environment: EnvironmentName = "local",
    branch: Ref = "main",
    force: bool = False,
) -> State[str]:
    """Refresh the data, train, save and push a candidate, and merge it if it passes the gate.

    If the refreshed data do not fit, the run ends as `DataRejected`, and nothing is trained.

    Args:
        ref: Branch, tag or commit on origin to train at.
        overrides: Values for keys of params.yaml, dots between levels, for this run alone:
            {"train.cv": 3, "train.grid.C": [1.0, 10.0]}.
        environment: Environment whose live model the candidate is compared with.
        branch: Branch to merge a passing candidate into.
        force: Run every stage, also those whose inputs have not changed.

    Returns:
        The commit on origin: of `branch` if the candidate passed, else of its own branch.
    """
    load_environment(environment)  # rejects an unknown one before anything runs
    async with share_workspaces():
        with tags(TAG):  # subflow runs have no deployment to inherit the tag from
            await require_key(branch)
            try:
                trained = await train(ref, overrides, force, refresh=True, whole=True)
            except DataRejected as error:
                return Failed(name="DataRejected", message=str(error), data=error)
            candidate = await save(trained)
            # What is on the branch already is pushed, too: its objects are verified, and it is
            # signed if that is missing.
            pushed: State[Any] = await push(
                candidate, branch, environment, keep=True, return_state=True
            )
    commit = await pushed.aresult()
    if pushed.name == UNCHANGED:
        return Completed(message=f"nothing to retrain: {pushed.message}", data=commit)
    return Completed(name=pushed.name, message=pushed.message, data=commit)
