"""Save a candidate: MLEM model, golden predictions, evaluation on the test split."""

from __future__ import annotations

from prefect import flow

from flows.parameters import Ref
from tasks.core.settings import Settings
from tasks.reports.model_reports import report_model
from tasks.repository.workspace import open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.results import PERSISTED
from tasks.runs.run_names import run_name
from tasks.training.candidate import commit_candidate
from tasks.training.pipeline import LAST_STAGE, run_pipeline


@flow(
    name="save",
    flow_run_name=run_name("save {ref}"),
    timeout_seconds=Settings().training_seconds + 3600,
    **PERSISTED,
)
@stop_when_cancelled
async def save(ref: Ref = "main") -> str:
    """Save the estimator of a candidate with MLEM, and evaluate the saved model.

    Args:
        ref: The candidate: a commit that the train flow returned, or any
            branch, tag or commit on origin.

    Returns:
        The commit with the `.mlem`; the commit of `ref` if nothing has changed.
    """
    async with open_workspace(ref) as workspace:
        await run_pipeline(workspace, until=LAST_STAGE)
        candidate = await commit_candidate(workspace, f"Save {workspace.model}")
        await report_model(workspace, candidate)
    return candidate
