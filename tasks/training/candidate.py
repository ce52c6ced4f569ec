"""Candidates: commits with a trained model, pushed to origin for the next flow."""

from __future__ import annotations

from prefect.runtime import flow_run

from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.repository import git
from tasks.repository.signing_key import signing_key
from tasks.repository.workspace import Workspace, push
from tasks.runs.retrying import capability

# For people who read the log; what says that a worker made a commit is its signature.
TRAILER = "Slipway-Run"
_FILES = {"params.yaml", "dvc.lock"}
_CODE = (".py", ".sh", ".toml", ".lock")
_NAMED = 5


@capability("commit candidate", run_name="commit candidate of {workspace.label}")
async def commit_candidate(workspace: Workspace, subject: str) -> str:
    """Commit the changes of the pipeline, and push the commit to origin for the next flow.

    Its ref is below `refs/slipway/runs/`, not a branch: branches of origin only name commits whose
    objects are in the bucket.

    Args:
        workspace: The workspace in which the pipeline ran.
        subject: First line of the commit message.

    Returns:
        The new commit, or the workspace's commit if nothing has changed.
    """
    name = await candidate_name(workspace) or _new_candidate_name(workspace)
    await workspace.git(git.reread())
    await workspace.git(git.add_all())
    await _require_outputs(workspace)
    if (await workspace.git(git.staged(), ok=(0, 1))).code:
        async with signing_key() as key:
            await workspace.git(git.commit(f"{subject}\n\n{TRAILER}: {name}", key))
    # HEAD decides, not the index: an earlier try may have committed and not pushed.
    commit = await workspace.head()
    if commit == workspace.commit:
        commands.run_logger().info("nothing has changed since %s", workspace.label)
        return commit
    if not await push(workspace, [f"+{commit}:{git.RUN_REFS}/{name}"]):
        raise TransientError(
            f"another run pushed candidate {name} at the same time",
            state="origin has the other run's candidate",
            next_step="run the flow again",
        )
    commands.run_logger().info("candidate %s: %s@%s", name, workspace.model, commit[:7])
    return commit


async def _require_outputs(workspace: Workspace) -> None:
    """Refuse changes of code: the stages run foreign code, and the commit is signed.

    Raises:
        TerminalError: A stage has changed or added something else than data and reports.
    """
    staged = (await workspace.git(git.staged_paths())).stdout.split("\0")[:-1]
    if others := [path for path in staged if not _is_output(path)]:
        raise TerminalError(
            f"a stage has changed what is no output of a pipeline: {', '.join(others[:_NAMED])}",
            state="nothing was committed; origin is unchanged",
            next_step="have the stage write below data/ or reports/, commit, and run again",
        )


def _is_output(path: str) -> bool:
    if path.startswith("model/"):
        return not path.startswith("model/custom/") and not path.endswith(_CODE)
    return path in _FILES or path.startswith(("data/", "reports/"))


async def candidate_name(workspace: Workspace) -> str | None:
    """Return the name of the candidate at the workspace's commit, None if there is none."""
    refs = (await workspace.git(git.refs_at(workspace.commit, git.RUN_REFS))).stdout.split()
    return refs[0].removeprefix(f"{git.RUN_REFS}/") if refs else None


def _new_candidate_name(workspace: Workspace) -> str:
    # Every retry of a flow run gives the same name.
    started = flow_run.get_scheduled_start_time()
    return f"{workspace.model}-{started:%Y-%m-%d}-{str(flow_run.get_id() or 'by-hand')[:8]}"
