"""Train a candidate: reproduce the pipeline up to the estimator at a ref."""

from __future__ import annotations

from prefect import flow

from flows.parameters import NO_OVERRIDES, Overrides, Ref
from tasks.core.errors import DataRejected
from tasks.core.settings import Settings
from tasks.reports.model_reports import report_training
from tasks.repository.workspace import open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.results import PERSISTED
from tasks.runs.run_names import run_name
from tasks.training.candidate import commit_candidate
from tasks.training.changes import note_reproduced
from tasks.training.overrides import set_parameters
from tasks.training.pipeline import LAST_STAGE, run_pipeline
from tasks.training.refresh import refresh_data, report_rejection, require_same_columns


@flow(
    name="train",
    flow_run_name=run_name("train {ref}"),
    timeout_seconds=Settings().training_seconds + 3600,
    **PERSISTED,
)
@stop_when_cancelled
async def train(
    ref: Ref = "main",
    overrides: Overrides = NO_OVERRIDES,
    force: bool = False,
    refresh: bool = False,
    whole: bool = False,
) -> str:
    """Reproduce the pipeline up to the estimator and its cross-validation metrics.

    Only changed stages run: the same inputs give the same commit.

    Args:
        ref: Branch, tag or commit on origin to train at.
        overrides: Values for keys of params.yaml, dots between levels, for this run alone:
            {"train.cv": 3, "train.grid.C": [1.0, 10.0]}.
        force: Run every stage, also those whose inputs have not changed.
        refresh: Refresh the data first: import them, or run their query, again.
        whole: Run the stages of `save`, too, which then finds them done: one start of DVC instead
            of two.

    Returns:
        The candidate's commit; the commit of `ref` if nothing has changed.
    """
    until = LAST_STAGE if whole else "train"
    async with open_workspace(ref) as workspace:
        await set_parameters(workspace, overrides)
        try:
            if refresh and await refresh_data(workspace):
                await run_pipeline(workspace, until="process")
                await require_same_columns(workspace)
            await run_pipeline(workspace, until=until, force=force)
        except DataRejected as error:
            await report_rejection(workspace, error)
            raise
        candidate = await commit_candidate(workspace, f"Train {workspace.model}")
        note_reproduced(candidate, until)
        await report_training(workspace, candidate)
    return candidate
