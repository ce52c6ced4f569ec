"""The history of an environment: every release that went live, from the tags on origin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks import git, report
from tasks.registry import version_of
from tasks.workspace import Workspace

_SHOWN = 25
_FACT = re.compile(r"^(Before|Approval|Flow-Run): (.+)$", re.MULTILINE)


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
    """

    version: str
    commit: str
    at: datetime
    before: str
    approval: str
    run: str


def tag_message(*, before: str, approval: str, run: str) -> str:
    """The message of a release's tag; `read_history` takes it apart again.

    Args:
        before: Label of what was live before.
        approval: What the person who was asked has answered, if anybody was.
        run: Id of the flow run.

    Returns:
        The message.
    """
    facts = {"Before": before, "Approval": " ".join(approval.split()), "Flow-Run": run}
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
            )
        )
    return entries


def timeline(entries: list[Entry], *, ui: str, origin: str) -> str:
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
            f"{entry.at:%Y-%m-%d %H:%M} UTC",
            f"**{entry.version}**" if entry is entries[0] else entry.version,
            report.commit_link(origin, entry.commit, short=True),
            "live" if entry is entries[0] else "was live",
            f"[run]({ui}/runs/flow-run/{entry.run})" if entry.run else "-",
            entry.approval,
        ]
        for entry in entries
    ]
    return report.markdown_table(["when", "version", "commit", "", "by", "approval"], rows)
