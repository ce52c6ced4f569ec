"""The report on a window: what was found, and whether it is an alarm. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.monitoring.drift import Facts, Finding, Reference, describe_columns, find_drift
from tasks.monitoring.labels import Labels
from tasks.monitoring.quality import (
    Labelled,
    Quality,
    join_labels,
    join_probabilities,
    measure_quality,
)
from tasks.monitoring.settings import MonitorRules
from tasks.monitoring.window import Span, Window, find_percentile
from tasks.training.rules import Rules

Outcome = Literal["no traffic", "too few rows", "no profile", "no difference", "differs"]
JUDGED: tuple[Outcome, ...] = ("no difference", "differs")
_SHOWN = 3
_MOST_LISTED = 20  # versions, and problems of requests: a client could invent more


class Report(BaseModel):
    """The report of `monitor` on a window, as it is stored.

    Attributes:
        start: Start of the window.
        end: Its end.
        outcome: What was found; only a window that differs counts towards an alarm.
        reasons: What differs, in words, the greatest difference first.
        alarm: Whether enough of the newest windows differ.
        acts: Whether this alarm notifies people and starts a retrain: its version was live, and no
            other alarm had acted within the cool-down.
        log: What the window's records add up to.
        service: Requests, failures, and times in milliseconds.
        findings: The comparisons.
        columns: What the window has of each column.
        quality: Metrics on rows with labels.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1] = 1
    model: str
    environment: str
    version: str
    commit: str
    start: datetime
    end: datetime
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    alarm: bool = False
    acts: bool = False
    log: dict[str, Any] = {}
    service: dict[str, float] = {}
    findings: tuple[Finding, ...] = ()
    columns: dict[str, Facts] = {}
    quality: tuple[Quality, ...] = ()

    @property
    def span(self) -> Span:
        """The time of the window."""
        return Span(self.start, self.end)

    @property
    def rows(self) -> int:
        """The number of rows in the window."""
        return int(self.log.get("rows", 0))

    @property
    def summary(self) -> str:
        """The report in a line."""
        rows = f"{self.rows:,} rows"
        if self.outcome == "differs":
            shown = ", ".join(self.reasons[:_SHOWN])
            more = len(self.reasons) - _SHOWN
            text = f"{shown}{f' and {more} more' if more > 0 else ''}"
            return f"{'ALARM: ' if self.alarm else ''}{text} ({rows})"
        return f"{self.outcome} ({rows})"


def parse_report(text: bytes) -> Report | None:
    """Parse a stored report; None if it is none of this version."""
    try:
        return Report.model_validate_json(text)
    except ValidationError:
        return None


@dataclass(frozen=True)
class Release:
    """The version that a window is compared with.

    Attributes:
        model: Name of the model.
        environment: Name of the environment.
        version: Name of the version.
        commit: Its commit.
        reference: What it learnt from; None if its commit has no profile.
        answers: Labels and answers of its test rows.
        likely: The same of `predict_proba`; without rows if they are not known.
        rules: The rules of the gate.
    """

    model: str
    environment: str
    version: str
    commit: str
    reference: Reference | None
    answers: Labelled
    likely: Labelled
    rules: Rules


def judge_window(window: Window, release: Release, rules: MonitorRules, table: Labels) -> Report:
    """Judge a window on its own, without those before it.

    Args:
        window: The records.
        release: The version that they are compared with.
        rules: When a difference is one.
        table: Labels of its rows from a table.
    """
    answers = window.answers
    are_numbers = release.reference is not None and release.reference.is_regression
    sources = answers, window.labels, table.by_row
    labelled = join_labels(*sources, are_numbers=are_numbers)
    likely = join_probabilities(*sources, release.likely.probabilities.classes)
    log = _describe_log(window) | {
        "compared_rows": len(answers),
        "labels": len(labelled.actual) + len(likely.actual),
        "labels_invalid": labelled.invalid + likely.invalid,
        "feedback_unmatched": window.unknown_labels,
        "labels_unmatched": table.unmatched,
        "labels_replaced": table.replaced,
    }
    common: dict[str, Any] = {
        "model": release.model,
        "environment": release.environment,
        "version": release.version,
        "commit": release.commit,
        "start": window.span.start,
        "end": window.span.end,
        "log": log,
        "service": _describe_service(window),
    }
    if not window.tally.requests:
        return Report(**common, outcome="no traffic")
    if release.reference is None:
        return Report(**common, outcome="no profile")
    columns = describe_columns(release.reference.profile, answers)
    if len(answers) < rules.least_rows:
        return Report(**common, outcome="too few rows", columns=columns)
    findings = find_drift(release.reference, answers, rules.distance)
    quality: list[Quality] = []
    for live, then in ((labelled, release.answers), (likely, release.likely)):
        if len(live.actual) >= rules.least_rows:
            quality += measure_quality(release.rules, live, then)
    differing = sorted(
        (finding for finding in findings if finding.differs), key=lambda finding: -finding.distance
    )
    worse = [measured.text for measured in quality if measured.is_worse]
    reasons = worse + [finding.text for finding in differing]
    return Report(
        **common,
        outcome="differs" if reasons else "no difference",
        reasons=tuple(reasons),
        findings=tuple(findings),
        columns=columns,
        quality=tuple(quality),
    )


def raise_alarm(
    report: Report,
    former: Report | None,
    others: Sequence[Report],
    rules: MonitorRules,
    *,
    is_live: bool,
) -> Report:
    """Return a report with its alarm, if enough of the newest windows of its version differ.

    Windows of other versions or without enough rows do not count, so a release ends an alarm. Nor
    do windows that overlap, so no request counts twice. An alarm that has acted keeps that mark
    when its report is made again.

    Args:
        report: The report.
        former: The stored report on the same window, if there is one.
        others: Reports on other windows, the newest first.
        rules: The rules of the alarm.
        is_live: Whether its version is still live; the alarm of another one does not act.
    """
    has_acted = former is not None and former.acts
    if report.outcome != "differs":
        return report.model_copy(update={"acts": has_acted})
    judged = [report]
    for other in others:
        is_like = (
            other.version == report.version and other.end - other.start == report.end - report.start
        )
        if is_like and other.outcome in JUDGED and other.end <= judged[-1].start:
            judged.append(other)
    newest = judged[: rules.alarm.of]
    alarm = sum(other.outcome == "differs" for other in newest) >= rules.alarm.windows
    rest = timedelta(hours=rules.cool_down_hours)
    is_resting = any(other.acts and abs(report.end - other.end) < rest for other in others)
    acts = has_acted or (alarm and is_live and not is_resting)
    return report.model_copy(update={"alarm": alarm, "acts": acts})


def _describe_log(window: Window) -> dict[str, Any]:
    tally = window.tally
    problems = sorted(tally.problems.items(), key=lambda problem: (-problem[1], problem[0]))
    return {
        **vars(tally),
        "other_versions": dict(sorted(tally.other_versions.items())[:_MOST_LISTED]),
        "problems": [
            {"column": column, "reason": reason, "requests": number}
            for (column, reason), number in problems[:_MOST_LISTED]
        ],
    }


def _describe_service(window: Window) -> dict[str, float]:
    times, requests = window.milliseconds, window.tally.requests
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    values = {name: find_percentile(times, share) for name, share in shares.items()}
    service = {f"milliseconds_{name}": value for name, value in values.items() if value is not None}
    if requests:
        service["failed_share"] = window.tally.failed / requests
        service["refused_share"] = window.tally.refused / requests
    return service
