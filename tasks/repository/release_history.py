"""The history of an environment: every release that went live, from the tags on origin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.repository import git
from tasks.repository.versions import version_of
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability

_SHOWN = 25
_FACT = re.compile(r"^(Before|Approval|Flow-Run|Kind): (.+)$", re.MULTILINE)
_ROLLBACK = "rollback"


@dataclass(frozen=True)
class Entry:
    """One release that went live.

    Attributes:
        version: Name of the model version, "-" if its tag was deleted.
        commit: The commit that was released.
        at: When.
        before: Label of what was live before.
        approval: What the person who was asked has answered.
        run: Id of the flow run, empty if the tag was made by hand.
        rollback: Whether it was a rollback, which takes back what was live before.
    """

    version: str
    commit: str
    at: datetime
    before: str
    approval: str
    run: str
    rollback: bool = False

    @property
    def rollback_note(self) -> str:
        """What a rollback did to what was live before, in words."""
        return f"it was taken back at {format_minute(self.at)} by a rollback to {self.version}"


def tag_message(*, before: str, approval: str, run: str, rollback: bool) -> str:
    """The message of a release's tag; `read_history` takes it apart again.

    Args:
        before: Label of what was live before.
        approval: What the person who was asked has answered, if anybody was.
        run: Id of the flow run.
        rollback: Whether it is a rollback.

    Returns:
        The message.
    """
    facts = {
        "Before": before,
        "Approval": " ".join(approval.split()),
        "Flow-Run": run,
        "Kind": _ROLLBACK if rollback else "",
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    return "\n".join(["Released by Slipway", "", *lines])


async def read_history(workspace: Workspace, environment: str) -> list[Entry]:
    """The newest releases to an environment, newest first.

    Args:
        workspace: Any workspace of the model.
        environment: Name of the environment.

    Returns:
        The releases, as far as origin has their tags.
    """
    pattern = f"{workspace.model}#{environment}#*"
    said = (await workspace.git(git.annotated(pattern, _SHOWN))).stdout.split("\0")
    entries = []
    for line, at, message in zip(said[::3], said[1::3], said[2::3], strict=False):
        commit = line.strip()
        version = await version_of(workspace, commit)
        facts = dict(_FACT.findall(message))
        entries.append(
            Entry(
                version=version.name if version else "-",
                commit=commit,
                at=datetime.fromisoformat(at).astimezone(UTC),
                before=facts.get("Before", "-"),
                approval=facts.get("Approval", ""),
                run=facts.get("Flow-Run", ""),
                rollback=facts.get("Kind") == _ROLLBACK,
            )
        )
    return entries


@capability("read history", run_name="read the history of {environment}", timeout=300)
async def fetch_history(workspace: Workspace, environment: str) -> list[Entry]:
    """The newest releases to an environment, with those made since the workspace was cloned.

    The workspace then knows the commits that were pushed since, too.

    Args:
        workspace: Any workspace of the model.
        environment: Name of the environment.

    Returns:
        The releases, newest first.

    Raises:
        TransientError: Origin cannot be reached.
    """
    await workspace.git(git.fetch())
    return await read_history(workspace, environment)


def not_rolled_back(entries: Sequence[Entry]) -> list[Entry]:
    """The releases that nobody has taken back.

    A rollback takes back what was live, with all that went live after the version that it goes
    back to.

    Args:
        entries: The releases, newest first.

    Returns:
        Those that stand, newest first: what is live, then what a rollback goes back to.
    """
    stand: list[Entry] = []
    for entry in reversed(entries):
        if entry.rollback:
            again = [number for number, each in enumerate(stand) if each.commit == entry.commit]
            del stand[again[-1] if again else -1 :]
        elif stand and stand[-1].commit == entry.commit:
            stand.pop()  # released once more
        stand.append(entry)
    return stand[::-1]


def rollback_of(entries: Sequence[Entry], commit: str) -> Entry | None:
    """The rollback that took a commit back, None if it was not released or still stands.

    Args:
        entries: The releases, newest first.
        commit: The commit.
    """
    if any(entry.commit == commit for entry in not_rolled_back(entries)):
        return None
    by = None
    for entry in entries:
        if entry.commit == commit:
            return by
        if entry.rollback:
            by = entry
    return None


def format_minute(moment: datetime) -> str:
    """A moment, as people read it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
