"""The history of an environment: every release that went live, from the tags on origin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks import git, report
from tasks.capability import capability
from tasks.registry import version_of
from tasks.targets.protocol import Live
from tasks.workspace import Workspace

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
    def told(self) -> str:
        """What a rollback did to what was live before, in words."""
        return f"it was taken back at {minute(self.at)} by a rollback to {self.version}"


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


def standing(entries: Sequence[Entry]) -> list[Entry]:
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


def settled(entries: Sequence[Entry], live: Live) -> bool:
    """Whether what is live serves, and its deploy came to its end: it is recorded after all proofs.

    Args:
        entries: The releases, newest first.
        live: What the platform says is live.
    """
    return live.healthy and bool(entries) and entries[0].commit == live.commit


def taken_back(entries: Sequence[Entry], commit: str) -> Entry | None:
    """The rollback that took a commit back, None if it was not released or still stands.

    Args:
        entries: The releases, newest first.
        commit: The commit.
    """
    if any(entry.commit == commit for entry in standing(entries)):
        return None
    by = None
    for entry in entries:
        if entry.commit == commit:
            return by
        if entry.rollback:
            by = entry
    return None


def minute(moment: datetime) -> str:
    """A moment, as people read it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def timeline(entries: Sequence[Entry], *, ui: str, origin: str) -> str:
    """The releases as a markdown table.

    Args:
        entries: The releases, newest first.
        ui: Address of the Prefect UI, for links to the runs.
        origin: Git URL, for links to the commits.

    Returns:
        The table; a hint where there are none yet.
    """
    if not entries:
        return "Nothing was released yet."
    rows = [
        [
            minute(entry.at),
            f"**{entry.version}**" if entry is entries[0] else entry.version,
            report.commit_link(origin, entry.commit, short=True),
            _fate(entries, entry),
            f"[run]({ui}/runs/flow-run/{entry.run})" if entry.run else "-",
            entry.approval,
        ]
        for entry in entries
    ]
    return report.markdown_table(["when", "version", "commit", "", "by", "approval"], rows)


def _fate(entries: Sequence[Entry], entry: Entry) -> str:
    fate = "was live"
    if entry is entries[0]:
        fate = "live"
    elif taken_back(entries, entry.commit):
        fate = "taken back"
    return f"{fate}, by a rollback" if entry.rollback else fate
