"""Push a candidate: bytes to S3, proven to be there, then refs to origin."""

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
    """Upload what a commit needs, verify every object, and only then push the Git refs.

    Args:
        ref: The commit that the save flow returned, or any branch, tag or commit on origin.
        branch: Branch that is to take the candidate in, such as main; empty for none.

    Returns:
        The commit that is now on origin: the candidate, or its merge into `branch`.
    """
    async with open_workspace(ref) as workspace:
        uploaded = await upload(workspace)
        return await publish(workspace, uploaded, branch or None)
