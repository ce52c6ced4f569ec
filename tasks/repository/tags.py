"""Tags that can be believed: annotated, under their own name, signed where that is required."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.core import commands
from tasks.core.settings import Settings
from tasks.repository import git, git_signatures
from tasks.repository.signing_key import signing_key
from tasks.repository.workspace import Workspace

# Verdicts by tag object and allowed signers: neither can change under its name, and a deploy reads
# the same history several times.
_verdicts: dict[tuple[str, str], bool] = {}
# Half of the time goes into starting Git; but a command line, and the time for it, have an end.
_VERIFIED_AT_ONCE = 1000


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
    workspace: Workspace, pattern: str, *, commits: Sequence[str] = (), count: int = 0
) -> list[Tag]:
    """Return the tags that can be believed, highest number first; name the others in the log.

    Args:
        workspace: Any workspace.
        pattern: Names of tags.
        commits: Only tags of these commits; all if there are none.
        count: At most so many; 0 is all.
    """
    lines = (await workspace.git(git_signatures.tags(pattern, commits))).stdout.split("\0")
    width = len(git_signatures.TAG_FIELDS)
    rest = [
        _Entry(*(field.strip("\n") for field in lines[start : start + width]))
        for start in range(0, len(lines) - width, width)
    ]
    tags: list[Tag] = []
    step = count or len(rest)
    while rest and (not count or len(tags) < count):
        batch, rest = rest[:step], rest[step:]
        for entry, fault in zip(batch, await _find_faults(workspace, batch), strict=True):
            if fault:
                commands.run_logger().warning("stepped over tag %s: %s", entry.name, fault)
            else:
                message = f"{entry.subject}\n\n{entry.body}"
                tags.append(Tag(entry.name, entry.target, entry.at, message))
    return tags[:count] if count else tags


class _Entry(NamedTuple):
    """The fields that Git prints of a tag: `git_signatures.TAG_FIELDS`."""

    name: str
    identifier: str
    own_name: str
    kind: str
    target: str
    at: str
    subject: str
    body: str
    signature: str


async def _find_faults(workspace: Workspace, entries: Sequence[_Entry]) -> list[str]:
    """Return why each tag cannot be believed; an empty text for one that can."""
    faults = []
    signed = await _list_signed(workspace, entries) if workspace.signed_tags else set()
    for entry in entries:
        fault = ""
        if not entry.own_name or entry.kind != "commit":
            fault = "it is no annotated tag of a commit"
        elif workspace.signed_tags:
            # A signature says nothing of the ref under which it was pushed.
            if entry.own_name != entry.name:
                fault = f"it was made under the name {entry.own_name}"
            elif entry.identifier not in signed:
                fault = "no allowed signer has signed it"
        faults.append(fault)
    return faults


async def _list_signed(workspace: Workspace, entries: Sequence[_Entry]) -> set[str]:
    """Return the tag objects among these that an allowed signer has signed."""
    allowed = Settings().allowed_signers
    signers = allowed.read_text() if allowed.is_file() else ""
    identifiers = [entry.identifier for entry in entries if entry.own_name and entry.signature]
    new = [identifier for identifier in identifiers if (identifier, signers) not in _verdicts]
    for start in range(0, len(new), _VERIFIED_AT_ONCE):
        some = new[start : start + _VERIFIED_AT_ONCE]
        result = await workspace.git(git_signatures.verify_tags(some), ok=(0, 1))
        valid = set(result.stdout.split())
        _verdicts.update({(identifier, signers): identifier in valid for identifier in some})
    return {identifier for identifier in identifiers if _verdicts[identifier, signers]}


async def make_tag(workspace: Workspace, name: str, commit: str, message: str) -> None:
    """Make a tag in the workspace, signed with the worker's key if it has one."""
    async with signing_key() as key:
        await workspace.git(git_signatures.make_tag(name, commit, message, key))


async def tag_names(workspace: Workspace) -> list[str]:
    """List the names of all tags, those that cannot be believed, too."""
    listed = (await workspace.git(git.refs("refs/tags"))).stdout.splitlines()
    return [name.removeprefix("refs/tags/") for name in listed]
