"""Push a candidate: objects to the bucket, verified, then refs to origin."""

from __future__ import annotations

from prefect import flow

from flows.parameters import BranchOrNone, Ref
from tasks.bucket.transfer import upload
from tasks.repository.workspace import open_workspace
from tasks.runs.results import PERSISTED
from tasks.runs.run_names import run_name
from tasks.training.publish import publish


@flow(name="push", flow_run_name=run_name("push {ref}"), timeout_seconds=2 * 3600, **PERSISTED)
async def push(ref: Ref = "main", branch: BranchOrNone = "") -> str:
    """Upload the objects of a commit, verify all of them, and only then push the Git refs.

    Args:
        ref: The commit that the save flow returned, or any branch, tag or commit on origin.
        branch: Branch to merge the candidate into, such as main; empty for none.

    Returns:
        The commit on origin: the candidate, or its merge into `branch`.
    """
    async with open_workspace(ref) as workspace:
        uploaded = await upload(workspace)
        return await publish(workspace, uploaded, branch or None)
