"""The timeline: releases of an environment as a markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.reports import markdown
from tasks.repository.forge import Forge
from tasks.repository.release_history import Entry, format_minute, rollback_of


def timeline(entries: Sequence[Entry], *, ui: str, forge: Forge | None) -> str:
    """Return the releases as a markdown table, or a hint where there are none.

    Args:
        entries: The releases, newest first.
        ui: Address of the Prefect UI, for links to the runs.
        forge: The site that hosts origin, for links to the commits.
    """
    if not entries:
        return "Nothing was released yet."
    rows = [
        [
            format_minute(entry.at),
            f"**{entry.version}**" if entry is entries[0] else entry.version,
            markdown.commit_link(forge, entry.commit, short=True),
            _status(entries, entry),
            f"[run]({ui}/runs/flow-run/{entry.run})" if entry.run else "-",
            entry.approval,
        ]
        for entry in entries
    ]
    return markdown.markdown_table(["when", "version", "commit", "status", "by", "approval"], rows)


def _status(entries: Sequence[Entry], entry: Entry) -> str:
    status = "was live"
    if entry is entries[0]:
        status = "live"
    elif rollback_of(entries, entry.commit):
        status = "rolled back"
    if entry.force_reason:
        status += f", forced: {entry.force_reason}"
    reason = f": {entry.rollback_reason}" if entry.rollback_reason else ""
    return f"{status}, by a rollback{reason}" if entry.rollback else status
