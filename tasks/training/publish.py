"""The push of a candidate: its own branch on origin, and its merge into main."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.bucket.objects import StoredObject
from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.package.signature import write_statement
from tasks.repository import git
from tasks.repository.git_signatures import is_of_worker
from tasks.repository.signing_key import signing_key
from tasks.repository.workspace import Workspace, is_ancestor, push
from tasks.runs.retrying import capability
from tasks.training.candidate import TRAILER, candidate_name
from tasks.training.gate import Verdict
from tasks.training.signing import find_differences, read_key, sign_candidate

# Inputs and outputs of a candidate's pipeline; every other path is main's.
PIPELINE = ("params.yaml", "dvc.yaml", "dvc.lock", "model", "data", "reports")
_PUSH_TRIES = 5


@dataclass(frozen=True)
class _Commit:
    """A commit of a log.

    Attributes:
        time: When, in seconds since the epoch.
        is_automatic: Whether a worker made it: signed with the key of one, whatever its text says.
        subject: First line of its message.
    """

    time: int
    is_automatic: bool
    subject: str


@capability("publish", run_name="publish {workspace.label}", timeout=300)
async def publish(
    workspace: Workspace,
    uploaded: list[StoredObject],
    branch: str | None,
    verdict: Verdict | None = None,
) -> str:
    """Push the candidate's own branch, and merge the candidate into another branch if one is named.

    All refs move together or none does. Of two candidates from the same branch, the newer is
    merged; commits of people to the pipeline win over any candidate made without them.

    Args:
        workspace: The workspace at the candidate.
        uploaded: Its objects, which are in the bucket.
        branch: Branch to merge it into, None for none.
        verdict: The gate's verdict on it; None if the gate was not asked.

    Returns:
        The new commit of `branch`, or of the candidate's own branch.

    Raises:
        TerminalError: The pipeline in `branch` has changed since the candidate was made.
        TransientError: Origin cannot be reached, or others kept pushing at the same time.
    """
    logger = commands.run_logger()
    logger.info("%d objects of %s are in the bucket", len(uploaded), workspace.label)
    name = await candidate_name(workspace)
    refspecs, facts = [], asdict(verdict) if verdict else None
    if name or branch:  # else there is nothing that the signature could be pushed to
        workspace = await sign_candidate(workspace, facts)
    if name:
        refspecs += [
            f"{workspace.commit}:refs/heads/candidate/{name}",
            f":{git.RUN_REFS}/{name}",
        ]
    for _ in range(_PUSH_TRIES):
        await workspace.git(git.fetch())
        tip = await _merge(workspace, branch, facts) if branch else workspace.commit
        moves = [f"{tip}:refs/heads/{branch}"] if branch else []
        if not refspecs and not moves:
            return tip
        if await push(workspace, [*refspecs, *moves]):
            logger.info("pushed %s", ", ".join([*refspecs, *moves]))
            return tip
        logger.info("somebody else has pushed to origin; trying again")
    raise TransientError(
        "others kept pushing to origin at the same time",
        state="the objects are in the bucket; origin has the others' commits",
        next_step="run the push flow again",
    )


async def _merge(workspace: Workspace, branch: str, verdict: Mapping[str, Any] | None) -> str:
    """Return the commit to which the branch moves: the candidate, or a merge with it."""
    candidate, head = workspace.commit, git.remote_head(branch)
    result = await workspace.git(git.resolve(head), ok=(0, 1, 128))
    if result.code:
        return candidate  # the branch is new
    tip = result.stdout.strip()
    if await is_ancestor(workspace, candidate, tip):
        return tip
    manual = [c for c in await _commits(workspace, tip, candidate) if not c.is_automatic]
    if manual:
        raise TerminalError(
            f"{workspace.label} contains commits that are not in {branch} and that no worker's key"
            f" has signed; the latest: {manual[0].subject!r}",
            state=f"the candidate's objects are in the bucket; {branch} is unchanged",
            next_step=f"merge your branch into {branch}, then run retrain at {branch}; if a worker"
            " made the commit, see that it has a key, and `allowed_signers` that key",
        )
    if await is_ancestor(workspace, tip, candidate):
        return candidate
    base = (await workspace.git(git.merge_base(candidate, tip))).stdout.strip()
    newer = await _commits(workspace, base, tip, PIPELINE)
    if not all(commit.is_automatic for commit in newer):
        raise TerminalError(
            f"the pipeline in {branch} has changed since {workspace.label} was made",
            state=f"the candidate's objects are in the bucket; {branch} is unchanged",
            next_step=f"run retrain at {branch}: it runs only the changed stages",
        )
    own_time = int((await workspace.git(git.commit_time(candidate))).stdout)
    if any(commit.time > own_time for commit in newer):
        commands.run_logger().warning(
            "%s already has a newer candidate; %s stays on its own branch", branch, candidate[:7]
        )
        return tip
    await workspace.git(git.checkout(tip))
    await workspace.git(git.merge_ours(candidate))
    await workspace.git(git.take(candidate, await _list_existing(workspace, candidate)))
    subject = f"Merge candidate {workspace.label} into {branch}"
    async with signing_key() as key:
        if key and await find_differences(workspace) is not None:
            # The code that serves the model is the branch's own.
            await write_statement(workspace, read_key(key), verdict)
        await workspace.git(git.commit(f"{subject}\n\n{TRAILER}: merge", key))
    merge = await workspace.head()
    await workspace.git(git.checkout(candidate))
    return merge


async def _list_existing(workspace: Workspace, commit: str) -> list[str]:
    result = await workspace.git(git.top_level(commit))
    return [path for path in PIPELINE if path in result.stdout.split("\0")]


async def _commits(
    workspace: Workspace, base: str, tip: str, paths: Sequence[str] = ()
) -> list[_Commit]:
    """List the commits in `base..tip` that touch the paths."""
    log = (await workspace.git(git.log_since(base, tip, paths))).stdout
    commits = []
    for entry in log.split("\0"):
        if entry.strip():
            time, grade, signer, subject = entry.split("\n", 3)
            commits.append(_Commit(int(time), is_of_worker(grade, signer), subject))
    return commits
