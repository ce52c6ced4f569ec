"""Model versions and what is live per environment, as GTO tags on origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.repository import git, gto
from tasks.repository.tags import make_tag, read_tags, tag_names
from tasks.repository.workspace import Workspace, push
from tasks.runs.retrying import capability

_PUSH_TRIES = 5
_NAMED = 5
_REGISTERED = "Registered by Slipway"


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
    newest = await read_tags(workspace, f"{workspace.model}#{environment}#*", count=1)
    return await version_of(workspace, newest[0].commit) if newest else None


async def version_of(workspace: Workspace, commit: str) -> Version | None:
    """Return the version registered at a commit, None if there is none."""
    return (await versions_of(workspace, [commit])).get(commit)


async def versions_of(workspace: Workspace, commits: Sequence[str]) -> dict[str, Version]:
    """Return the versions registered at some commits, by commit."""
    # The names are GTO's contract: model@version, model#environment#count.
    tags = await read_tags(workspace, f"{workspace.model}@v*", commits=commits) if commits else []
    # The highest of a commit comes first, and stays.
    return {
        tag.commit: Version(tag.name.rpartition("@")[2], tag.commit)
        for tag in reversed(tags)
        if not tag.name.endswith("!")
    }


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
    if tags := await read_tags(workspace, tag):
        return Version(number, tags[0].commit)
    known = (await workspace.git(git.names(f"refs/tags/{model}@v*"))).stdout.split()
    raise TerminalError(
        f"version {tag} was never registered, or its tag does not count; the newest:"
        f" {', '.join(known[:_NAMED]) or 'none'}",
        state="nothing was started",
        next_step=f"run `git ls-remote --tags origin '{model}@*'` to see all, and name one",
    )


async def expected_version(workspace: Workspace) -> str:
    """Return the name that the workspace's commit has as a version, or would get next.

    Another model version may be registered meanwhile: only `register_version` gives it the name.
    """
    if version := await version_of(workspace, workspace.commit):
        return version.name
    tag = gto.next_version(workspace.model, await tag_names(workspace))
    return tag.rpartition("@")[2]


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
        await _require_own_tags(workspace)
        tag = gto.next_version(workspace.model, await tag_names(workspace))
        await make_tag(workspace, tag, workspace.commit, _REGISTERED)
        version = Version(tag.rpartition("@")[2], workspace.commit)
        if await _push_tag(workspace, tag):
            commands.run_logger().info("%s is %s", workspace.label, version.name)
            return version
    raise _crowded(
        workspace,
        "the commit has no version yet; the live model is unchanged",
        "run the same flow again",
    )


@capability("record release", run_name="record {version.name} in {environment}", timeout=300)
async def record_release(
    workspace: Workspace,
    version: Version,
    environment: str,
    message: str,
    *,
    again: bool = False,
) -> None:
    """Tag a version as live in an environment, unless it is recorded as live already.

    Args:
        workspace: The workspace of the released commit.
        version: The version that is live now.
        environment: Name of the environment.
        message: Message of the tag.
        again: Record it also if it is the newest release, unless by this very message: a forced
            release has a reason of its own.

    Raises:
        TransientError: Origin cannot be reached, or others kept releasing at the same time.
        TerminalError: Origin declines the tag.
    """
    for _ in range(_PUSH_TRIES):
        await workspace.git(git.fetch())
        if await champion_of(workspace, environment) == version:
            if not again:
                return
            newest = await read_tags(workspace, f"{workspace.model}#{environment}#*", count=1)
            if newest[0].message.strip() == message.strip():
                return
        tag = gto.next_release(workspace.model, environment, await tag_names(workspace))
        await make_tag(workspace, tag, version.commit, message)
        if await _push_tag(workspace, tag):
            commands.run_logger().info("recorded as %s", tag)
            return
    raise _crowded(
        workspace,
        "the model is live but its release is not recorded",
        "run the deploy flow again; it releases the model anew and records it",
    )


async def _require_own_tags(workspace: Workspace) -> None:
    """Refuse a commit that has a version tag which does not count: GTO would count it."""
    pattern = f"refs/tags/{workspace.model}@v*"
    listed = await workspace.git(git.refs_at(workspace.commit, pattern))
    if names := listed.stdout.split():
        tag = names[0].removeprefix("refs/tags/")
        raise TerminalError(
            f"tag {tag} at {workspace.label} does not count: it is lightweight, or no allowed"
            " signer has signed it",
            state="the commit has no version; the live model is unchanged",
            next_step=f"run `slipway sign --history`, or `git push --delete origin {tag}`,"
            " then run the flow again",
        )


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
