"""The history of an environment: every release that went live, from the tags on origin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.repository import git
from tasks.repository.tags import read_tags
from tasks.repository.versions import Version, versions_of
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability

_SHOWN = 25
_FACT = re.compile(r"^(Before|Approval|Forced|Flow-Run|Kind|Rollback-Reason): (.+)$", re.MULTILINE)
_ROLLBACK = "rollback"


@dataclass(frozen=True)
class Entry:
    """One release that went live.

    Attributes:
        version: Name of the model version, "-" if its tag was deleted.
        commit: The commit that was released.
        at: When.
        before: Label of what was live before.
        approval: The answer of the person who approved it; empty if no approval was needed.
        run: Id of the flow run, empty if the tag was made by hand.
        rollback: Whether it rolled back what was live before.
        force_reason: Why it was forced; empty if it was not.
        rollback_reason: Why it did; empty if nobody said.
    """

    version: str
    commit: str
    at: datetime
    before: str
    approval: str
    run: str
    rollback: bool = False
    force_reason: str = ""
    rollback_reason: str = ""

    @property
    def rollback_note(self) -> str:
        """A sentence on a release that this rollback undid."""
        return f"it was rolled back to {self.version} at {format_minute(self.at)}"


def tag_message(
    *,
    before: str,
    approval: str,
    run: str,
    rollback: bool,
    force_reason: str = "",
    rollback_reason: str = "",
) -> str:
    """Return the message of a release's tag, which `read_history` parses.

    Args:
        before: Label of what was live before.
        approval: The answer of the person who approved it; empty if no approval was needed.
        run: Id of the flow run.
        rollback: Whether it rolls back what was live before.
        force_reason: Why it was forced; empty if it was not.
        rollback_reason: Why it rolls back; empty if nobody said.
    """
    facts = {
        "Before": before,
        "Approval": " ".join(approval.split()),
        "Forced": " ".join(force_reason.split()),
        "Flow-Run": run,
        "Kind": _ROLLBACK if rollback else "",
        "Rollback-Reason": " ".join(rollback_reason.split()),
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    return "\n".join(["Released by Slipway", "", *lines])


async def read_history(workspace: Workspace, environment: str) -> list[Entry]:
    """Return the newest releases to an environment, newest first.

    Args:
        workspace: Any workspace of the model. What was tagged since it was cloned is missing.
        environment: Name of the environment.
    """
    pattern = f"{workspace.model}#{environment}#*"
    entries = []
    tags = await read_tags(workspace, pattern, count=_SHOWN)
    versions = await versions_of(workspace, [tag.commit for tag in tags])
    for tag in tags:
        version = versions.get(tag.commit)
        facts = dict(_FACT.findall(tag.message))
        entries.append(
            Entry(
                version=version.name if version else "-",
                commit=tag.commit,
                at=datetime.fromisoformat(tag.at).astimezone(UTC),
                before=facts.get("Before", "-"),
                approval=facts.get("Approval", ""),
                run=facts.get("Flow-Run", ""),
                rollback=facts.get("Kind") == _ROLLBACK,
                force_reason=facts.get("Forced", ""),
                rollback_reason=facts.get("Rollback-Reason", ""),
            )
        )
    return entries


@capability("read history", run_name="read the history of {environment}", timeout=300)
async def fetch_history(workspace: Workspace, environment: str) -> list[Entry]:
    """Return the newest releases to an environment, with those since the workspace was cloned.

    The workspace then has the commits that were pushed since, too.

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
    """Return the releases that were not rolled back.

    A rollback undoes what was live, with all that went live after the version that it returns to.

    Args:
        entries: The releases, newest first.

    Returns:
        Those not rolled back, newest first: what is live, then what a rollback returns to.
    """
    remaining: list[Entry] = []
    for entry in reversed(entries):
        if entry.rollback:
            again = [n for n, other in enumerate(remaining) if other.commit == entry.commit]
            del remaining[again[-1] if again else -1 :]
        elif remaining and remaining[-1].commit == entry.commit:
            remaining.pop()  # released once more
        remaining.append(entry)
    return remaining[::-1]


def champion_for(commit: str, history: Sequence[Entry]) -> Version | None:
    """Return the version that a commit is compared with, None before the first release.

    What is live may be released again, to mend it: it is judged as it was when it went live, by
    the version before it and not by itself.

    Args:
        commit: The commit that is to be released.
        history: The releases to its environment, newest first.
    """
    for entry in not_rolled_back(history):
        if entry.commit != commit:
            return Version(entry.version, entry.commit)
    return None


def rollback_of(entries: Sequence[Entry], commit: str) -> Entry | None:
    """Return the rollback that undid the release of a commit, None if none did.

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
    """Return a moment as people read it, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
