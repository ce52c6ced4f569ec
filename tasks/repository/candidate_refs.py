"""The refs of candidates on origin, and which of them are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.core import commands
from tasks.core.caches import days_ago
from tasks.core.settings import Settings
from tasks.repository import git
from tasks.repository.workspace import Workspace, is_ancestor

CANDIDATES = "refs/heads/candidate"
_MOST = 50  # in one run: the rest goes with the next ones


def origin_ref(tracking: str) -> str:
    """Return the full name on origin of a branch or candidate, from the clone's name for it."""
    return tracking.replace(git.remote_head(""), "refs/heads/", 1)


def dated_refs(places: Sequence[str]) -> commands.Argv:
    """Print time, commit and full name of the refs in some places, oldest first."""
    return ["git", "for-each-ref", "--sort=committerdate",
            "--format=%(committerdate:unix) %(objectname) %(refname)", *places]  # fmt: skip


def delete_refs(refs: Mapping[str, str]) -> commands.Argv:
    """Delete those refs of origin that still are at these commits."""
    leases = [f"--force-with-lease={ref}:{commit}" for ref, commit in refs.items()]
    return ["git", "push", "--quiet", "--porcelain", *leases, "origin",
            *(f":{ref}" for ref in refs)]  # fmt: skip


async def prune_candidates(workspace: Workspace) -> list[str]:
    """Remove refs of candidates from origin that are older than SLIPWAY_CANDIDATE_DAYS.

    A branch stays if its candidate has a version and is not part of the default branch: it may be
    live, or be rolled back to. Of the others either the default branch has the commits, or nobody
    has wanted them.

    Returns:
        Full names of the removed refs.
    """
    days = Settings().candidate_days
    if not days:
        return []
    places = [git.tracking_ref(CANDIDATES), git.RUN_REFS]
    listing = (await workspace.git(dated_refs(places))).stdout.splitlines()
    old: dict[str, str] = {}
    for seconds, commit, name in (line.split(" ", 2) for line in listing):
        if float(seconds) >= days_ago(days) or len(old) == _MOST:
            continue
        if not await _is_needed(workspace, commit):
            old[origin_ref(name)] = commit
    if old:
        result = await workspace.git(delete_refs(old), ok=(0, 1))
        if result.code:
            commands.run_logger().warning(
                "origin declined to remove candidates: %s", result.stderr.strip()
            )
        commands.run_logger().info("removed old candidates: %s", ", ".join(old))
    return list(old)


async def _is_needed(workspace: Workspace, commit: str) -> bool:
    tags = (await workspace.git(git.refs_at(commit, "refs/tags"))).stdout.split()
    return bool(tags) and not await is_ancestor(workspace, commit, git.remote_head("HEAD"))
