"""Simulate windows of live requests: how often `monitor` raises a false alarm, or misses a shift.

    python -m benchmarks.drift [SEED]

Each world is 13 columns: normal, skewed, uniform, whole numbers with many ties, and categories. A
version learns from some of its rows, and each window is 500 rows more. All windows of a version are
compared with the same training rows, so worlds are drawn anew, not windows alone.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from tasks.monitoring.drift import Reference, find_drift
from tasks.monitoring.profile import Profile
from tasks.monitoring.records import Value
from tasks.monitoring.report import Report, raise_alarm
from tasks.monitoring.settings import MonitorRules
from tasks.monitoring.window import Answer

ROWS, COLUMNS = 500, 13
POINTS = 400  # as model/profile.py keeps
RULES = MonitorRules.model_validate({})
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Draw = Callable[[random.Random], Value]

KINDS: Sequence[Draw] = (
    lambda draws: draws.gauss(0, 1),
    lambda draws: draws.lognormvariate(0, 1),
    lambda draws: draws.uniform(0, 1),
    lambda draws: min(6, int(draws.expovariate(0.5))),
    lambda draws: draws.choices("abcde", (50, 25, 15, 8, 2))[0],
)


def draw_rows(draws: random.Random, count: int, shift: float) -> list[dict[str, Value]]:
    """Draw rows of 13 columns; the first, a normal one, is shifted by standard deviations."""
    rows = []
    for _ in range(count):
        row = {str(n): KINDS[n % len(KINDS)](draws) for n in range(COLUMNS)}
        row["0"] = draws.gauss(shift, 1)
        rows.append(row)
    return rows


def make_reference(rows: Sequence[dict[str, Value]]) -> Reference:
    """Describe training rows as model/profile.py does."""
    columns: dict[str, Any] = {}
    for name in rows[0]:
        values: list[Any] = sorted(row[name] for row in rows)  # type: ignore[type-var]
        if isinstance(values[0], str):
            counts = {value: number for value, number in Counter(values).items() if number >= 5}
            others = len(values) - sum(counts.values())
            columns[name] = {"kind": "category", "missing": 0, "counts": counts, "others": others}
        else:
            count = min(POINTS, len(values))
            points = [values[int((n + 0.5) / count * len(values))] for n in range(count)]
            columns[name] = {"kind": "number", "missing": 0, "points": points}
    profile = Profile.model_validate({"format": 1, "rows": len(rows), "columns": columns})
    return Reference(profile, (), is_regression=False)


def judge_windows(draws: random.Random, training: int, shifts: Sequence[float]) -> list[Report]:
    """Judge the windows of one version, each after those before it."""
    reference = make_reference(draw_rows(draws, training, 0.0))
    reports: list[Report] = []
    for day, shift in enumerate(shifts):
        rows = draw_rows(draws, ROWS, shift)
        answers = [Answer(str(n), 0, row, None) for n, row in enumerate(rows)]
        differing = [f for f in find_drift(reference, answers, RULES.distance) if f.differs]
        report = Report(
            model="wine", environment="local", version="v0.0.1", commit="",
            start=START + day * DAY, end=START + (day + 1) * DAY,
            outcome="differs" if differing else "no difference",
            reasons=tuple(finding.text for finding in differing),
        )  # fmt: skip
        reports.append(raise_alarm(report, None, reports[::-1], RULES, is_live=True))
    return reports


def main(seed: int) -> None:
    """Print a row per size of the training data."""
    began = time.process_time()
    print("| training rows | windows | differ | alarms | alarms begin | shift of 0.5 found in 3 |")
    print("|---|---|---|---|---|---|")
    for training in (142, 500, 1000, 5000):
        draws = random.Random(seed + training)
        still = [judge_windows(draws, training, [0.0] * 10) for _ in range(100)]
        windows = [report for reports in still for report in reports]
        differ = sum(report.outcome == "differs" for report in windows)
        alarms = sum(report.alarm for report in windows)
        begin = sum(b.alarm and not a.alarm for reports in still for a, b in pairwise(reports))
        moved = [judge_windows(draws, training, [0.5] * 3) for _ in range(200)]
        count = sum(any(report.alarm for report in reports) for reports in moved)
        print(
            f"| {training} | {len(windows)} | {differ} | {alarms} | {begin} |"
            f" {count / len(moved):.1%} of {len(moved)} |",
            flush=True,
        )
    print(f"\nseed {seed}, {time.process_time() - began:.0f} CPU s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
