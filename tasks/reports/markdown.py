"""Markdown of the Prefect artifacts: tables, links and the release note."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.reports.pictures import as_data_uri
from tasks.repository.forge import Forge
from tasks.runs.artifacts import best_effort
from tasks.training.findings import Finding

Number = int | float


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a markdown table, with floats cut to four digits."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def escape(text: str) -> str:
    """Return a text in one line, of which markdown takes nothing as its own."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]<>!#~" else letter for letter in text)
    return " ".join(escaped.split())


def comparison(
    candidate: Mapping[str, Number], champion: Mapping[str, Number] | None
) -> list[dict[str, Any]]:
    """Return a row per metric of the candidate, beside that of the champion if there is one."""
    rows: list[dict[str, Any]] = []
    for name, value in candidate.items():
        row: dict[str, Any] = {"metric": name, "candidate": round(value, 6)}
        if champion is not None:
            old = champion.get(name)
            row["champion"] = "-" if old is None else round(old, 6)
            row["change"] = "-" if old is None else f"{value - old:+.4f}"
        rows.append(row)
    return rows


def comparison_table(candidate: Mapping[str, Number], champion: Mapping[str, Number] | None) -> str:
    """Return `comparison` as a markdown table; empty if the candidate has no metrics."""
    rows = comparison(candidate, champion)
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def findings_table(findings: Sequence[Finding]) -> str:
    """Return the comparisons of a verdict as a markdown table; empty if there is none."""
    rows = [
        [
            finding.metric,
            finding.word,
            *(finding.comparison.values or ("-", "-")),
            f"{finding.comparison.gain:+z.4f}",
            "{:+.4f} to {:+.4f}".format(*finding.comparison.interval)
            if finding.comparison.interval
            else "too few rows differ",
            f"{finding.accepted:.4g}",
            finding.comparison.rows,
            finding.comparison.disagreeing,
        ]
        for finding in findings
    ]
    header = (
        "rule", "verdict", "candidate", "champion", "gain", "95 % interval", "accepted loss",
        "rows", "answered differently",
    )  # fmt: skip
    return markdown_table(header, rows) if rows else ""


def picture(title: str, draw: Callable[[], bytes]) -> str:
    """Return a picture as a markdown image with its data inside; empty if drawing fails.

    Args:
        title: What the picture shows.
        draw: Returns it as a PNG.
    """
    with best_effort(title):
        return f"![{title}]({as_data_uri(draw())})"
    return ""


def commit_link(forge: Forge | None, commit: str, *, short: bool = False) -> str:
    """Return a commit as a link, or as code where there are no pages of commits.

    Args:
        forge: The site that hosts origin, None if there is none.
        commit: The commit.
        short: Show its first seven digits only.
    """
    label = commit[:7] if short else commit
    return f"[`{label}`]({forge.commit_page(commit)})" if forge else f"`{label}`"


def nested_table(values: Mapping[str, Any]) -> str:
    """Return a markdown table of nested values: one row per leaf, dots between levels."""
    return markdown_table(["", "value"], _flat(values))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[list[object]]:
    rows: list[list[object]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append([f"{prefix}{key}", value])
    return rows


def release_note(
    *,
    title: str,
    facts: Mapping[str, str],
    metrics: Mapping[str, Number],
    before: Mapping[str, Number] | None,
    reason: str = "",
    more: str = "",
) -> str:
    """Return the note of a release, in markdown.

    Args:
        title: Model, version, environment and outcome.
        facts: Cells of the table, by name; the first is its head.
        metrics: Metrics of the released model on the test split.
        before: Metrics of what was live before, None if nothing was.
        reason: Why the release ended so.
        more: Further sections.
    """
    first, *others = facts.items()
    parts = [f"# {title}", reason, markdown_table(first, others)]
    if metrics:
        parts += ["## Metrics", comparison_table(metrics, before)]
    return "\n\n".join(filter(None, [*parts, more])) + "\n"
