"""The report of `monitor` as people read it: markdown in the Prefect UI, a page in the bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from html import escape

from tasks.monitoring.drift import Finding
from tasks.monitoring.evidently import EvidentlyPage
from tasks.monitoring.profile import Profile
from tasks.monitoring.report import Report
from tasks.monitoring.store import evidently_key, page_key
from tasks.monitoring.window import Answer
from tasks.reports import markdown
from tasks.reports.monitor_pictures import draw_column, draw_distances
from tasks.runs import artifacts

_DRAWN = 2  # columns, those that differ most
_MOST_TEXT = 60
_OUTCOMES = {
    "no traffic": "The log has no request of this version in the window: no alarm from it.",
    "too few rows": "The window has too few rows to be judged: no alarm from it.",
    "no profile": "The commit of this version has no profile of its training rows: retrain.",
    "no difference": "Nothing differs from the training rows by more than luck.",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border:1px solid #ccc;padding:.2rem .6rem}"
    "img{max-width:100%}"
)


def artifact_key(model: str, environment: str) -> str:
    """Return the key of the artifact with the newest report on an environment."""
    return artifacts.artifact_key(model, environment, "monitor")


async def write_report(
    report: Report, profile: Profile | None, answers: Sequence[Answer], least_distance: float
) -> str:
    """Write a report in markdown, with its pictures inside.

    Args:
        report: The report.
        profile: The training rows.
        answers: The rows of the window.
        least_distance: Distance from which a difference counts.
    """
    pictures: list[str] = []
    if report.findings and profile:
        pictures = await asyncio.to_thread(_draw_pictures, report, profile, answers, least_distance)
    summary = _quote(report.summary)
    title = f"{report.model} {report.version} in {report.environment}: {report.span.text}"
    parts = [
        f"# {title}",
        f"**{summary}**" if report.alarm else summary,
        _OUTCOMES.get(report.outcome, ""),
        # The summary has the first ones.
        "\n".join(
            f"- {_quote(reason)}" for reason in report.reasons if _quote(reason) not in summary
        ),
        *pictures,
        _findings_table(report.findings),
        _quality_table(report),
        _columns_table(report),
        "## Log and service",
        markdown.markdown_table(["what", "value"], _log_rows(report)),
        _problems_table(report),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _draw_pictures(
    report: Report, profile: Profile, answers: Sequence[Answer], least_distance: float
) -> list[str]:
    pictures = [
        markdown.picture(
            "distances from the training rows",
            lambda: draw_distances(report.findings, least_distance),
        )
    ]
    differing = sorted(
        (finding for finding in report.findings if finding.differs and finding.subject == "values"),
        key=lambda finding: -finding.distance,
    )
    for finding in differing[:_DRAWN]:
        values = [answer.inputs.get(finding.column) for answer in answers]
        draw = partial(draw_column, finding.column, profile.columns[finding.column], values)
        pictures.append(markdown.picture(f"values of {_quote(finding.column)}", draw))
    return pictures


def _findings_table(findings: Sequence[Finding]) -> str:
    ordered = sorted(findings, key=lambda finding: (not finding.differs, -finding.distance))
    rows = [
        [
            _quote(finding.column) or "-",
            finding.subject,
            finding.distance,
            f"{finding.chance:.2g}",
            "**differs**" if finding.differs else "no difference",
        ]
        for finding in ordered
    ]
    header = ["column", "compared", "distance", "chance", "verdict"]
    return f"## Compared with the training rows\n\n{markdown.markdown_table(header, rows)}" * bool(
        rows
    )


def _quality_table(report: Report) -> str:
    rows = [
        [
            f"{quality.metric}, {_quote(quality.part)}" if quality.part else quality.metric,
            quality.value,
            "{:.4g} to {:.4g}".format(*quality.interval)
            if quality.interval
            else "too few wrong answers",
            "-" if quality.before is None else quality.before,
            quality.rows,
            "**worse**" if quality.is_worse else "",
        ]
        for quality in report.quality
    ]
    header = ["metric", "live", "95 % interval", "at the release", "rows with labels", ""]
    return f"## Quality\n\n{markdown.markdown_table(header, rows)}" if rows else ""


def _columns_table(report: Report) -> str:
    """Return the columns with missing, new or invalid values."""
    rows = [
        [_quote(name), f"{facts.missing:.1%}", f"{facts.missing_before:.1%}", f"{facts.new:.1%}",
         f"{facts.invalid:.1%}"]
        for name, facts in report.columns.items()
        if facts.missing or facts.missing_before or facts.new or facts.invalid
    ]  # fmt: skip
    header = ["column", "missing", "missing in training", "new categories", "of another type"]
    return f"## Columns\n\n{markdown.markdown_table(header, rows)}" if rows else ""


def _log_rows(report: Report) -> list[list[object]]:
    log, service = report.log, report.service
    names = {
        "requests": "requests of this version",
        "rows": "rows",
        "compared_rows": "rows compared",
        "labels": "rows with a label",
        "feedback_unmatched": "feedback on no request of the window, left out",
        "feedback_replaced": "feedback, replaced by a newer one on the same request",
        "labels_unmatched": "labels of the table for no row of the window",
        "labels_invalid": "labels that are no number, or of no class of the model, left out",
        "labels_replaced": "labels, replaced by a later one on the same row",
        "refused": "requests refused",
        "failed": "requests failed in the server",
        "proofs": "golden predictions of deploys, left out",
        "repeated": "records of a request counted already, left out",
        "invalid": "lines that are no record, left out",
        "foreign": "records of another model or environment, left out",
        "ahead": "records from the future, left out",
        "damaged_files": "files that are damaged",
    }
    rows: list[list[object]] = [[text, log[key]] for key, text in names.items() if log.get(key)]
    rows += [
        [f"requests of {_quote(version)}, left out", number]
        for version, number in log.get("other_versions", {}).items()
    ]
    rows += [
        [f"milliseconds, {name}", service[key]]
        for name in ("p50", "p95", "p99")
        if (key := f"milliseconds_{name}") in service
    ]
    return rows or [["requests", 0]]


def _problems_table(report: Report) -> str:
    rows = [
        [_quote(problem["column"]) or "-", _quote(problem["reason"]), problem["requests"]]
        for problem in report.log.get("problems", [])
    ]
    header = ["column", "reason", "requests"]
    return f"## Refused requests\n\n{markdown.markdown_table(header, rows)}" if rows else ""


def _quote(text: str) -> str:
    """Return a text of the log, shortened and escaped."""
    short = text if len(text) <= _MOST_TEXT * 4 else f"{text[: _MOST_TEXT * 4]}…"
    return markdown.escape(short)


def make_page(report: Report, text: str) -> str:
    """Make an HTML page of a report; it loads nothing, and runs no script.

    Args:
        report: The report.
        text: Its markdown.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    title = escape(f"{report.model} in {report.environment}, {report.span.text}")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def describe_evidently(report: Report, page: EvidentlyPage) -> str:
    """Describe in markdown where Evidently's report is, or why there is none."""
    if page.problem:
        return f"\nEvidently's report was not made: {_quote(page.problem)}\n"
    return (
        f"\nEvidently's report on this window is in the bucket, `{evidently_key(report)}`; to open"
        f" it: `slipway open evidently {report.environment}`.\n"
    )


async def publish_report(report: Report, text: str, *, has_evidently: bool = False) -> None:
    """Publish the artifacts of a report: markdown for people, and JSON for programs."""
    key = artifact_key(report.model, report.environment)
    window = report.span.text
    place, command = page_key(report), f"slipway open report {report.environment}"
    link = f"The page of this report is in the bucket, `{place}`; to open it: `{command}`."
    await artifacts.publish_markdown(key, f"{text}\n{link}\n", f"{window}: {report.summary}")
    data = {
        "environment": report.environment,
        "summary": f"{window}: {report.summary}",
        "page": place,
        "evidently": evidently_key(report) if has_evidently else None,
        "report": report.model_dump(mode="json"),
    }
    await artifacts.publish_json(f"{key}-data", data, f"{window}: {report.summary}")
