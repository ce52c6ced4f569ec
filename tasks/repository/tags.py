"""Tags that can be believed: annotated, under their own name, signed where that is required."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core import commands
from tasks.core.settings import Settings
from tasks.repository import git, git_signatures
from tasks.repository.signing_key import signing_key
from tasks.repository.workspace import Workspace

# Verdicts by tag object and allowed signers: neither can change under its name, and a deploy reads
# the same history several times.
_verdicts: dict[tuple[str, str], bool] = {}


@dataclass(frozen=True)
class Tag:
    """A tag that can be believed.

    Attributes:
        commit: The commit that it names.
        at: When it was made, in ISO format.
        message: Its message, without the signature.
    """

    name: str
    commit: str
    at: str
    message: str


async def read_tags(
    workspace: Workspace, pattern: str, *, commit: str | None = None, count: int = 0
) -> list[Tag]:
    """Return the tags that can be believed, highest number first; name the others in the log.

    Args:
        workspace: Any workspace.
        pattern: Names of tags.
        commit: Only tags of that commit.
        count: At most so many; 0 is all.
    """
    lines = (await workspace.git(git_signatures.tags(pattern, commit))).stdout.split("\0")
    width = len(git_signatures.TAG_FIELDS)
    tags: list[Tag] = []
    for start in range(0, len(lines) - width, width):
        name, identifier, own_name, kind, target, at, subject, body, signature = (
            field.strip("\n") for field in lines[start : start + width]
        )
        fault = ""
        if not own_name or kind != "commit":
            fault = "it is no annotated tag of a commit"
        elif workspace.signed_tags:
            if own_name != name:  # a signature says nothing of the ref under which it was pushed
                fault = f"it was made as {own_name}"
            elif not signature or not await _is_signed(workspace, identifier):
                fault = "no allowed signer has signed it"
        if fault:
            commands.run_logger().warning("stepped over tag %s: %s", name, fault)
            continue
        tags.append(Tag(name, target, at, f"{subject}\n\n{body}"))
        if len(tags) == count:
            break
    return tags


async def _is_signed(workspace: Workspace, identifier: str) -> bool:
    allowed = Settings().allowed_signers
    key = (identifier, allowed.read_text() if allowed.is_file() else "")
    if key not in _verdicts:
        result = await workspace.git(git_signatures.verify_tag(identifier), ok=(0, 1))
        _verdicts[key] = result.code == 0
    return _verdicts[key]


async def sign_tag(workspace: Workspace, name: str, message: str) -> None:
    """Sign a tag of the workspace with the worker's key, if it has one."""
    async with signing_key() as key:
        if key:
            commit = (await workspace.git(git.resolve(f"refs/tags/{name}"))).stdout.strip()
            await workspace.git(git_signatures.sign_tag(name, commit, message, key))
