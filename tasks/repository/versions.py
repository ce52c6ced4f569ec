"""Model versions and what is live per environment, as GTO tags on origin."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.repository import git, gto
from tasks.repository.workspace import Workspace, push
from tasks.runs.retrying import capability

_PUSH_TRIES = 5
_NAMED = 5


@dataclass(frozen=True)
class Version:
    """A registered model version.

    Attributes:
        name: Semantic version, `v0.0.1`.
        commit: The commit it names.
    """

    name: str
    commit: str


async def champion_of(workspace: Workspace, environment: str) -> Version | None:
    """Return the version last recorded as live in an environment, None before the first release.

    Args:
        workspace: Any workspace of the model.
        environment: Name of the environment.
    """
    newest = await workspace.git(git.newest_tag(f"{workspace.model}#{environment}#*"))
    commit = newest.stdout.strip()
    return await version_of(workspace, commit) if commit else None


async def version_of(workspace: Workspace, commit: str) -> Version | None:
    """Return the version registered at a commit, None if there is none."""
    # The names are GTO's contract: model@version, model#environment#count.
    refs = await workspace.git(git.refs_at(commit, f"refs/tags/{workspace.model}@v*"))
    names = [name.rpartition("@")[2] for name in refs.stdout.split() if not name.endswith("!")]
    return Version(names[-1], commit) if names else None


async def named_version(workspace: Workspace, name: str) -> Version:
    """Return the version of a name.

    Args:
        workspace: Any workspace.
        name: `wine@v0.0.3`, or `v0.0.3` of the workspace's model.

    Raises:
        TerminalError: There is no version of that name.
    """
    model, _, number = name.rpartition("@")
    model = model or workspace.model
    tag = f"{model}@{number}"
    result = await workspace.git(git.resolve(f"refs/tags/{tag}"), ok=(0, 1, 128))
    if result.code == 0:
        return Version(number, result.stdout.strip())
    known = (await workspace.git(git.names(f"refs/tags/{model}@v*"))).stdout.split()
    raise TerminalError(
        f"version {tag} was never registered; the newest: {', '.join(known[:_NAMED]) or 'none'}",
        state="nothing was started",
        next_step=f"run `git ls-remote --tags origin '{model}@*'` to see all, and name one",
    )


@capability("register version", run_name="register {workspace.label}", timeout=300)
async def register_version(workspace: Workspace) -> Version:
    """Tag the workspace's commit as the next version of its model, unless it has one.

    Raises:
        TransientError: Origin cannot be reached, or others kept registering at the same time.
        TerminalError: Origin declines the tag.
    """
    for _ in range(_PUSH_TRIES):
        await workspace.git(git.fetch())
        if version := await version_of(workspace, workspace.commit):
            return version
        argv = gto.register(workspace.model, workspace.commit, "Registered by Slipway")
        await workspace.git(argv)
        version = await version_of(workspace, workspace.commit)
        assert version
        if await _push_tag(workspace, f"{workspace.model}@{version.name}"):
            commands.run_logger().info("%s is %s", workspace.label, version.name)
            return version
    raise _crowded(
        workspace,
        "the commit has no version yet; the live model is unchanged",
        "run the same flow again",
    )


@capability("record release", run_name="record {version.name} in {environment}", timeout=300)
async def record_release(
    workspace: Workspace, version: Version, environment: str, message: str
) -> None:
    """Tag a version as live in an environment, unless it is recorded as live already.

    Args:
        workspace: The workspace of the released commit.
        version: The version that is live now.
        environment: Name of the environment.
        message: Message of the tag.

    Raises:
        TransientError: Origin cannot be reached, or others kept releasing at the same time.
        TerminalError: Origin declines the tag.
    """
    for _ in range(_PUSH_TRIES):
        await workspace.git(git.fetch())
        if await champion_of(workspace, environment) == version:
            return
        before = await _tags(workspace, environment)
        await workspace.git(gto.assign(workspace.model, version.name, environment, message))
        (tag,) = await _tags(workspace, environment) - before
        if await _push_tag(workspace, tag):
            commands.run_logger().info("recorded as %s", tag)
            return
    raise _crowded(
        workspace,
        "the model is live but its release is not recorded",
        "run the deploy flow again; it releases the model anew and records it",
    )


async def _tags(workspace: Workspace, environment: str) -> set[str]:
    pattern = f"refs/tags/{workspace.model}#{environment}#*"
    listed = await workspace.git(git.refs(pattern))
    return {name.removeprefix("refs/tags/") for name in listed.stdout.split()}


async def _push_tag(workspace: Workspace, tag: str) -> bool:
    """Push a tag; return False if origin has another one of that name."""
    on_origin = False
    try:
        on_origin = await push(workspace, [f"refs/tags/{tag}"])
    finally:
        if not on_origin:  # else the next try takes it for recorded; a fetch restores origin's own
            await workspace.git(git.delete_tag(tag))
    return on_origin


def _crowded(workspace: Workspace, state: str, next_step: str) -> TransientError:
    return TransientError(
        f"other runs kept tagging {workspace.model} at the same time",
        state=state,
        next_step=next_step,
    )
