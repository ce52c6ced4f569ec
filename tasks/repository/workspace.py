"""Workspaces: private Git clones at one ref, in which a flow run works; they vanish after it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from filelock import FileLock, Timeout
from prefect.runtime import flow_run

from tasks.core import commands
from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.core.settings import Settings
from tasks.repository import git
from tasks.runs.retrying import capability
from tasks.runs.run_names import named

# The ref of origin's default branch, whatever it is called.
DEFAULT_BRANCH = "HEAD"
_GIT_SECONDS = 300.0
# Said by Git when asking again would be told the same.
_HOPELESS = (
    "does not appear to be a git repository",
    "repository not found",
    "does not exist",
    "authentication failed",
    "permission denied",
    "could not read username",
    "declined",
    "protected branch",
    "already exists",
)
_NAMED = 5
_HEADS = {"origin", "origin/HEAD"}  # what versions of Git call the default branch
_NETWORK = ("clone", "fetch", "push")
# What becomes a path, a ref and an argument must not be more than a name.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,39}")
_IDENTITY = {
    "GIT_AUTHOR_NAME": "Slipway",
    "GIT_AUTHOR_EMAIL": "slipway@localhost",
    "GIT_COMMITTER_NAME": "Slipway",
    "GIT_COMMITTER_EMAIL": "slipway@localhost",
    "GIT_TERMINAL_PROMPT": "0",
}


@dataclass(frozen=True)
class Workspace:
    """A clone of origin at one commit.

    Attributes:
        path: Its folder.
        commit: The commit that was checked out.
        ref: The ref that was asked for.
    """

    path: Path
    commit: str
    ref: str

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """`params.yaml` as it was when first asked for."""
        path = self.path / "params.yaml"
        try:
            values = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"params.yaml at {self.ref} cannot be read: {error}",
                state="nothing was started",
                next_step="mend params.yaml, commit, and run the flow at that commit",
            ) from error
        name = values.get("name") if isinstance(values, dict) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"params.yaml: name: {name!r} at {self.ref} is not a name of a model: 2 to 40"
                " lower-case letters, digits and hyphens",
                state="nothing was started",
                next_step="set `name` in params.yaml, commit, and run the flow at that commit",
            )
        return dict(values)

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.parameters["name"])

    @property
    def label(self) -> str:
        """Model and commit, for names of runs."""
        return f"{self.model}@{self.commit[:7]}"

    async def head(self) -> str:
        """The commit that the workspace is at now."""
        return (await self.git(git.resolve("HEAD"))).stdout.strip()

    async def git(self, argv: commands.Argv, *, ok: tuple[int, ...] = (0,)) -> commands.Finished:
        """Run a Git (or GTO) command in the workspace.

        Args:
            argv: The command.
            ok: Exit codes that are not failures.

        Returns:
            Its output.

        Raises:
            TransientError: Origin cannot be reached, or has moved meanwhile.
            TerminalError: Origin refuses, or the command failed in the workspace itself.
        """
        finished = await commands.run(
            argv, timeout=_GIT_SECONDS, cwd=self.path, env=_IDENTITY, log=False
        )
        if finished.code not in ok:
            raise _git_failed(finished)
        return finished


def _git_failed(finished: commands.Finished) -> TerminalError | TransientError:
    said, command = finished.tail(), " ".join(finished.argv[:2])
    if finished.argv[1] not in _NETWORK:
        return TerminalError(
            f"`{command}` failed in a workspace: {said}",
            state="origin is as it was",
            next_step="look at the worker's disk and at the commit, then run the flow again",
        )
    hopeless = any(words in said.lower() for words in _HOPELESS)
    kind = TerminalError if hopeless else TransientError
    return kind(
        f"`{command}` failed: {said}",
        state="origin is as it was",
        next_step="check SLIPWAY_ORIGIN and what the worker may do there, then run the flow again",
    )


@asynccontextmanager
async def open_workspace(ref: str) -> AsyncIterator[Workspace]:
    """Clone origin at a ref into a folder of its own, removed at the end.

    A folder that a killed run left behind is removed by the next one.

    Args:
        ref: Branch, tag or commit on origin.

    Yields:
        The workspace.

    Raises:
        TerminalError: The ref does not exist, or origin refuses access.
        TransientError: Origin cannot be reached.
    """
    settings = Settings()
    settings.workspaces.mkdir(parents=True, exist_ok=True)
    path = settings.workspaces / f"{flow_run.get_id() or 'by-hand'}-{uuid4().hex[:4]}"
    with FileLock(f"{path}.lock"):
        await asyncio.to_thread(_remove_abandoned, settings.workspaces)
        try:
            yield await check_out(ref, path, settings.origin)
        finally:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            Path(f"{path}.lock").unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    for marker in folder.glob("*.lock"):
        try:
            # The kernel let go of the lock if its holder died.
            with FileLock(marker, blocking=False):
                folder_left = marker.with_suffix("")
                commands.end_processes_in(folder_left)
                shutil.rmtree(folder_left, ignore_errors=True)
                marker.unlink(missing_ok=True)
        except Timeout:
            continue


@capability("check out", run_name=named("check out {ref}"), timeout=2 * _GIT_SECONDS)
async def check_out(ref: str, path: Path, origin: str) -> Workspace:
    """Clone origin and check a ref out.

    Args:
        ref: Branch, tag or commit on origin.
        path: Folder to make.
        origin: Git URL or path.

    Returns:
        The workspace.

    Raises:
        TerminalError: The ref does not exist, or origin refuses access.
        TransientError: Origin cannot be reached.
    """
    shutil.rmtree(path, ignore_errors=True)  # what an earlier try left
    cloned = await commands.run(
        git.clone(origin, path), timeout=_GIT_SECONDS, env=_IDENTITY, log=False
    )
    if cloned.code:
        raise _git_failed(cloned)
    clone = Workspace(path, "", ref)
    await clone.git(git.fetch())
    commit = await resolve(clone, ref)
    await clone.git(git.checkout(commit))
    workspace = Workspace(path, commit, ref)
    commands.run_logger().info("checked out %s: %s", ref, workspace.label)
    return workspace


async def resolve(workspace: Workspace, ref: str) -> str:
    """The commit that a branch, tag or (short) commit on origin stands for.

    Args:
        workspace: Any workspace.
        ref: Branch, tag or commit.

    Returns:
        The commit, 40 hexadecimal digits.

    Raises:
        TerminalError: There is no such ref.
    """
    for name in (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", ref):
        found = await workspace.git(git.resolve(name), ok=(0, 1, 128))
        if found.code == 0:
            return found.stdout.strip()
    raise TerminalError(
        f"ref {ref!r} does not exist on origin; {await _named_on_origin(workspace, ref)}",
        state="nothing was started",
        next_step="run `git ls-remote` to see what exists; push the branch or commit first",
    )


async def _named_on_origin(workspace: Workspace, ref: str) -> str:
    """What there is instead of a ref: names that look like it, and the branches."""
    branches = (await workspace.git(git.names(git.remote_head("*")))).stdout.split()
    branches = [name.removeprefix("origin/") for name in branches if name not in _HEADS]
    tags = (await workspace.git(git.names("refs/tags"))).stdout.split()
    near = get_close_matches(ref, [*branches, *tags], n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    more = f" and {len(branches) - _NAMED} more" if len(branches) > _NAMED else ""
    return f"{hint}branches: {', '.join(branches[:_NAMED])}{more}"


async def is_ancestor(workspace: Workspace, older: str, newer: str) -> bool:
    """Whether `newer` contains `older` (a commit contains itself); False if one is unknown."""
    answer = await workspace.git(git.is_ancestor(older, newer), ok=(0, 1, 128))
    return answer.code == 0


async def is_older(workspace: Workspace, commit: str, other: str) -> bool:
    """Whether `other` contains `commit` and more."""
    return commit != other and await is_ancestor(workspace, commit, other)
