"""The report on scores, as an artifact of their flow run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.reports.markdown import escape, markdown_table
from tasks.runs.artifacts import artifact_key, publish_markdown

_FACTS = ("source", "target", "method", "version", "commit", "time", "rows", "rejected")


async def publish_report(model: str, facts: Mapping[str, Any]) -> None:
    """Show a job as an artifact of its run."""
    title = f"Scores of {model}"
    await publish_markdown(artifact_key(model, "scores"), write_report(title, facts), title)


def write_report(title: str, facts: Mapping[str, Any]) -> str:
    """Write the report in markdown; the reasons, which code of the model may write, are escaped."""
    parts = [
        f"# {title}",
        markdown_table(("fact", "value"), [(name, _write(facts[name])) for name in _FACTS]),
    ]
    problems = [
        (f"{count:,}", escape(reason), escape(", ".join(rows)))
        for reason, (count, rows) in facts["problems"].items()
    ]
    if problems:
        parts.append(markdown_table(("rejected rows", "reason", "first"), problems))
    return "\n\n".join(parts)


def _write(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
