"""Workspaces: private Git clones at one ref, in which a flow run works, removed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.core.settings import Settings
from tasks.repository import git, git_signatures
from tasks.repository.escapes import refuse_escapes
from tasks.repository.folders import remove, take_folder, tool_folder
from tasks.repository.git_variables import run_git
from tasks.repository.parameters import read_parameters
from tasks.runs.retrying import capability
from tasks.runs.run_names import run_name

# The ref of origin's default branch, whatever it is called.
DEFAULT_BRANCH = "HEAD"
_GIT_SECONDS = 300.0
# Git exits alike for a wrong address and a lost connection. These words, in English, which
# `commands.run` makes sure of, are of failures that another try does not change.
_PERMANENT = (
    "does not appear to be a git repository",
    "repository not found",
    "does not exist",
    "authentication failed",
    "permission denied",
    "could not read username",
)
_NAMED = 5
_HEADS = {"origin", "origin/HEAD"}  # what versions of Git call the default branch
_NETWORK = ("clone", "fetch", "push", "ls-remote")
# A push that ends while another one has a ref locked is refused, although nothing has moved yet.
_REF_LOCK_SECONDS = 1.0
_CHECK_ORIGIN = "check SLIPWAY_ORIGIN and the worker's rights there, then run the flow again"


@dataclass(frozen=True)
class Workspace:
    """A clone of origin at one commit.

    Attributes:
        commit: The commit that was checked out; `head` is the one it is at now.
        ref: The parameter of the flow that named the commit.
        signed_tags: Whether tags count only if an allowed signer has signed them.
    """

    path: Path
    commit: str
    ref: str
    signed_tags: bool = False

    @property
    def tool_cache(self) -> Path:
        """Folder for what tools remember of the workspace, such as pickles that they trust.

        It lies beside the workspace: code of the commit may write inside.
        """
        return tool_folder(self.path)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Content of `params.yaml`, as it was at the first access."""
        return read_parameters(self.path / "params.yaml", self.ref)

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.parameters["name"])

    @property
    def label(self) -> str:
        """Model and short commit, for names of runs."""
        return f"{self.model}@{self.commit[:7]}"

    async def head(self) -> str:
        """Return the commit that the workspace is at now."""
        return (await self.git(git.resolve("HEAD"))).stdout.strip()

    async def git(
        self, argv: commands.Argv, *, ok: tuple[int, ...] = (0,)
    ) -> commands.CommandResult:
        """Run a Git command in the workspace.

        Args:
            argv: The command.
            ok: Exit codes that are not failures.

        Raises:
            TransientError: Origin cannot be reached.
            TerminalError: Origin denies access, or the command failed in the workspace itself.
        """
        settings = git_signatures.signature_settings(Settings().allowed_signers)
        result = await run_git(argv, timeout=_GIT_SECONDS, cwd=self.path, settings=settings)
        if result.code not in ok:
            raise _git_failed(result)
        return result


def _git_failed(result: commands.CommandResult) -> TerminalError | TransientError:
    output, command = result.tail(), " ".join(result.argv[:2])
    if result.argv[1] not in _NETWORK:
        return TerminalError(
            f"`{command}` failed in a workspace: {output}",
            state="origin is unchanged",
            next_step="look at the worker's disk and at the commit, then run the flow again",
        )
    permanent = any(words in output.lower() for words in _PERMANENT)
    kind = TerminalError if permanent else TransientError
    return kind(
        f"`{command}` failed: {output}", state="origin is unchanged", next_step=_CHECK_ORIGIN
    )


async def push(workspace: Workspace, refspecs: Sequence[str]) -> bool:
    """Push refs to origin, all of them or none.

    Args:
        workspace: The workspace.
        refspecs: Refspecs with full names.

    Returns:
        True if they are on origin; False if somebody else has changed one of them there since the
        last fetch.

    Raises:
        TransientError: Origin cannot be reached.
        TerminalError: Origin declines the push: a hook, a protected branch, missing rights.
    """
    for last in (False, True):
        result = await workspace.git(git.push(refspecs), ok=(0, 1))
        if not result.code:
            return True
        refused = git.refused_refs(result.stdout)
        if not refused:
            raise _git_failed(result)
        if not all(refused.values()) or await _has_changed(workspace, refused):
            return False
        if not last:
            await asyncio.sleep(_REF_LOCK_SECONDS)
    raise TerminalError(
        f"origin declined the push of {', '.join(refused)}: {result.stderr.strip()}",
        state="origin is unchanged",
        next_step=_CHECK_ORIGIN,
    )


async def _has_changed(workspace: Workspace, refs: Collection[str]) -> bool:
    """Check whether a ref on origin is another than at the last fetch."""
    output = (await workspace.git(git.list_refs(list(refs)))).stdout
    on_origin = {ref: commit for commit, ref in (line.split("\t") for line in output.splitlines())}
    for ref in refs:
        before = None
        if not ref.startswith("refs/tags/"):  # only tags that origin did not have are pushed
            tracking = git.tracking_ref(ref)
            result = await workspace.git(git.resolve(tracking), ok=(0, 1, 128))
            before = result.stdout.strip() or None
        if on_origin.get(ref) != before:
            return True
    return False


@asynccontextmanager
async def open_workspace(
    ref: str, *, signed_tags: bool = False, whole: bool = True
) -> AsyncIterator[Workspace]:
    """Clone origin at a ref into a new folder, and remove the folder at the end.

    The next run removes a folder that a killed run left behind.

    Args:
        ref: Branch, tag or commit on origin.
        signed_tags: Whether tags count only if an allowed signer has signed them.
        whole: Whether to check every file out, or what a release reads.

    Raises:
        TerminalError: The ref does not exist, or origin denies access.
        TransientError: Origin cannot be reached.
    """
    async with take_folder() as path:
        yield await check_out(ref, path, Settings().origin, signed_tags=signed_tags, whole=whole)


async def _is_untouched(clone: Workspace, *, whole: bool) -> bool:
    """Check for a clone in which nothing was changed or added, not even what Git ignores."""
    # An earlier try may have been ended at any moment.
    if (clone.path / git.SPARSE_FILE).exists() == whole:
        return False
    if not (clone.path / ".git").is_dir() or not clone.tool_cache.is_dir():
        return False
    if any(clone.tool_cache.iterdir()):
        return False
    index = await clone.git(git.reread(), ok=(0, 1, 128))
    status = await clone.git(git.list_all_changes(), ok=(0, 1, 128))
    return index.code == status.code == 0 and not status.stdout


@capability("check out", run_name=run_name("check out {ref}"), timeout=2 * _GIT_SECONDS)
async def check_out(
    ref: str, path: Path, origin: str, *, signed_tags: bool = False, whole: bool = True
) -> Workspace:
    """Clone origin and check a ref out: a branch, tag or commit.

    A clone that an earlier flow of the run has left as it was is used again.

    Raises:
        TerminalError: The ref does not exist, leads outside, or origin denies access.
        TransientError: Origin cannot be reached.
    """
    clone = Workspace(path, "", ref, signed_tags)
    if await _is_untouched(clone, whole=whole):
        await clone.git(git.fetch())
    else:
        remove(path)
        result = await run_git(git.clone(origin, path, whole=whole), timeout=_GIT_SECONDS)
        if result.code:
            raise _git_failed(result)
        if not whole:
            (path / git.SPARSE_FILE).parent.mkdir(exist_ok=True)
            (path / git.SPARSE_FILE).write_text(git.SPARSE)
        clone.tool_cache.mkdir(mode=0o700)
    commit = await resolve(clone, ref)
    await clone.git(git.checkout(commit))
    await asyncio.to_thread(refuse_escapes, path, f"the commit {commit[:7]}")
    workspace = replace(clone, commit=commit)
    commands.run_logger().info("checked out %s: %s", ref, workspace.label)
    return workspace


async def move_workspace(workspace: Workspace, commit: str) -> Workspace:
    """Check another commit out in a workspace in which nothing was changed.

    Args:
        workspace: The workspace; it must not be used any more.
        commit: A commit that it has.
    """
    await workspace.git(git.checkout(commit))
    await asyncio.to_thread(refuse_escapes, workspace.path, f"the commit {commit[:7]}")
    return replace(workspace, commit=commit, ref=commit)


async def resolve(workspace: Workspace, ref: str) -> str:
    """Return the full commit of a branch, tag or (short) commit on origin.

    Args:
        workspace: Any workspace.
        ref: Branch, tag or commit.

    Raises:
        TerminalError: There is no such ref.
    """
    for name in (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", ref):
        result = await workspace.git(git.resolve(name), ok=(0, 1, 128))
        if result.code == 0:
            return result.stdout.strip()
    raise TerminalError(
        f"ref {ref!r} does not exist on origin; {await _alternatives(workspace, ref)}",
        state="nothing was started",
        next_step="run `git ls-remote` to see what exists; push the branch or commit first",
    )


async def _alternatives(workspace: Workspace, ref: str) -> str:
    """List names similar to a ref, and the branches."""
    branches = (await workspace.git(git.names(git.remote_head("*")))).stdout.split()
    branches = [name.removeprefix("origin/") for name in branches if name not in _HEADS]
    tags = (await workspace.git(git.names("refs/tags"))).stdout.split()
    near = get_close_matches(ref, [*branches, *tags], n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    more = f" and {len(branches) - _NAMED} more" if len(branches) > _NAMED else ""
    return f"{hint}branches: {', '.join(branches[:_NAMED])}{more}"


async def is_ancestor(workspace: Workspace, older: str, newer: str) -> bool:
    """Check that `newer` contains `older` (a commit contains itself); False if one is unknown."""
    result = await workspace.git(git.is_ancestor(older, newer), ok=(0, 1, 128))
    return result.code == 0


async def is_older(workspace: Workspace, commit: str, other: str) -> bool:
    """Check that `other` contains `commit` and more."""
    return commit != other and await is_ancestor(workspace, commit, other)
