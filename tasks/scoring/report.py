"""The report on a job: an artifact, and the judgement on the rows that were rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.errors import DataRejected
from tasks.runs.artifacts import artifact_key, publish_markdown
from tasks.scoring.boxed import Totals

_SHOWN = 3


def require_few_rejected(totals: Totals, most: float) -> None:
    """Refuse a result with too many rejected rows.

    Args:
        totals: The numbers of rows.
        most: The greatest share of rejected rows.

    Raises:
        DataRejected: There are more.
    """
    if totals.rejected <= most * totals.rows:
        return
    frequent = sorted(totals.problems.items(), key=lambda item: -item[1][0])[:_SHOWN]
    reasons = "; ".join(
        f"{reason} ({count:,} rows, such as {', '.join(rows)})"
        for reason, (count, rows) in frequent
    )
    raise DataRejected(
        f"{totals.rejected:,} of {totals.rows:,} rows are rejected, more than max_rejected ="
        f" {most:g} allows: {reasons}",
        state="nothing was published",
        next_step="correct the source, or raise `max_rejected`, then run the flow again",
    )


async def publish_report(model: str, facts: Mapping[str, Any]) -> None:
    """Show a job as an artifact of its run."""
    title = f"Scores of {model}"
    keys = ("source", "target", "method", "version", "commit", "time", "rows", "rejected")
    lines = [f"# {title}", "", "| fact | value |", "|---|---|"]
    lines += [f"| {key} | {_write(facts[key])} |" for key in keys]
    if facts["problems"]:
        lines += ["", "| rejected rows | reason | first |", "|---:|---|---|"]
        lines += [
            f"| {count:,} | {_escape(reason)} | {_escape(', '.join(rows))} |"
            for reason, (count, rows) in facts["problems"].items()
        ]
    await publish_markdown(artifact_key(model, "scores"), "\n".join(lines), title)


def _write(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _escape(str(value))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
