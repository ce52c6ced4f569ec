"""Save a candidate: MLEM model, golden predictions, evaluation on the test split."""

from __future__ import annotations

from prefect import flow

from tasks.findings import report_model
from tasks.naming import named
from tasks.parameters import Ref
from tasks.pipeline import commit_candidate, run_pipeline
from tasks.results import PERSISTED
from tasks.settings import Settings
from tasks.workspace import open_workspace


@flow(
    name="save",
    flow_run_name=named("save {ref}"),
    timeout_seconds=Settings().training_seconds + 3600,
    **PERSISTED,
)
async def save(ref: Ref = "main") -> str:
    """Save the estimator of a candidate with MLEM, and evaluate what was saved.

    Args:
        ref: The candidate: a commit that the train flow returned, or any
            branch, tag or commit on origin.

    Returns:
        The commit with the `.mlem`; the commit of `ref` where nothing has changed.
    """
    async with open_workspace(ref) as workspace:
        await run_pipeline(workspace, until="evaluate")
        candidate = await commit_candidate(workspace, f"Save {workspace.model}")
        await report_model(workspace, candidate)
    return candidate
