"""Push a candidate: objects to the bucket, verified, then refs to origin."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import BranchOrNone, EnvironmentName, Ref
from tasks.bucket.transfer import upload
from tasks.platforms.catalogue import gate_rules, load_environment
from tasks.reports.model_reports import judge_candidate
from tasks.repository.git import remote_head
from tasks.repository.workspace import is_ancestor, open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.results import PERSISTED
from tasks.runs.run_names import run_name
from tasks.training.pruning import prune
from tasks.training.publish import publish
from tasks.training.refresh import describe_newest_data
from tasks.training.verdict import require_pass

UNCHANGED, REJECTED = "Unchanged", "Rejected"  # names of its states, beside Completed


@flow(name="push", flow_run_name=run_name("push {ref}"), timeout_seconds=2 * 3600, **PERSISTED)
@stop_when_cancelled
async def push(
    ref: Ref = "main",
    branch: BranchOrNone = "",
    environment: EnvironmentName = "local",
    keep: bool = False,
) -> State[str]:
    """Upload the objects of a commit, verify all of them, and only then push the Git refs.

    Args:
        ref: The commit that the save flow returned, or any branch, tag or commit on origin.
        branch: Branch to merge the candidate into, such as main, if it passes the gate; empty
            for none.
        environment: Environment whose live model the candidate is compared with.
        keep: Push a candidate that the gate rejects to a branch of its own, instead of refusing it.

    Returns:
        The commit on origin: the candidate, or its merge into `branch`.
    """
    settings = load_environment(environment)  # rejects an unknown one before anything runs
    async with open_workspace(ref, signed_tags=settings.signed) as workspace:
        verdict, merged = None, False
        if branch:
            merged = await is_ancestor(workspace, workspace.commit, remote_head(branch))
            if not merged:
                verdict = await judge_candidate(workspace, gate_rules(settings))
                if not keep:
                    require_pass(workspace, verdict, branch)
        passed = verdict is None or verdict.passed
        uploaded = await upload(workspace)
        commit = await publish(workspace, uploaded, branch if branch and passed else None, verdict)
        await prune(workspace)
        newest = await describe_newest_data(workspace) if merged else ""
    if merged:
        message = "; ".join(filter(None, [f"{branch} has it", newest]))
        return Completed(name=UNCHANGED, message=message, data=commit)
    return Completed(
        name="Completed" if passed else REJECTED,
        message="; ".join(verdict.reasons) if verdict else None,
        data=commit,
    )
