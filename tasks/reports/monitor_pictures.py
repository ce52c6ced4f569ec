"""Pictures of a report of `monitor`: distances of all columns, and those that differ most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tasks.monitoring.drift import Finding
from tasks.monitoring.profile import Column
from tasks.monitoring.records import Value
from tasks.reports.pictures import draw

_MOST_BARS = 30
_MOST_POINTS = 200
_MOST_CATEGORIES = 12
_LEAST_ROWS = 5  # of a category that is named, as in the profile
_BEFORE, _NOW = "training", "window"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_COLOURS = {"domain": [_BEFORE, _NOW], "range": ["steelblue", "darkorange"]}


def draw_distances(findings: Sequence[Finding], least_distance: float) -> bytes:
    """Draw the distances of a window from the training rows, the greatest first.

    Args:
        findings: The comparisons.
        least_distance: From which distance one counts.

    Returns:
        A PNG.
    """
    ordered = sorted(findings, key=lambda finding: -finding.distance)[:_MOST_BARS]
    rows = [
        {
            "name": _name_bar(finding),
            "distance": finding.distance,
            "verdict": "differs" if finding.differs else "no difference",
        }
        for finding in ordered
    ]
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    bars = {
        "data": {"values": rows},
        "mark": "bar",
        "encoding": {
            "y": y,
            "x": {
                "field": "distance",
                "type": "quantitative",
                "scale": {"domain": [0, 1]},
                "title": "distance from the training rows; red: from there on it counts",
            },
            "color": {
                "field": "verdict",
                "type": "nominal",
                "title": None,
                "scale": {
                    "domain": ["no difference", "differs"],
                    "range": ["steelblue", "crimson"],
                },
            },
        },
    }
    limit = {
        "data": {"values": [{"limit": least_distance}]},
        "mark": {"type": "rule", "color": "crimson", "strokeDash": [4, 4]},
        "encoding": {"x": {"field": "limit", "type": "quantitative"}},
    }
    return draw({"$schema": _SCHEMA, "width": 420, "height": {"step": 18}, "layer": [bars, limit]})


def _name_bar(finding: Finding) -> str:
    if finding.subject == "values":
        return finding.column
    return f"{finding.subject} {finding.column}".rstrip()


def draw_column(name: str, column: Column, values: Sequence[Value]) -> bytes:
    """Draw the values of a column in the training rows and in a window.

    Args:
        name: Name of the column.
        column: Its profile.
        values: Its values in the window.

    Returns:
        A PNG.
    """
    chart = _draw_curves if column.kind == "number" else _draw_bars
    return draw({"$schema": _SCHEMA, "title": name, **chart(column, values)})


def _draw_curves(column: Column, values: Sequence[Value]) -> dict[str, Any]:
    """Return the cumulated shares of numbers."""
    numbers = sorted(float(v) for v in values if isinstance(v, (int, float)))
    rows = [
        {"value": points[at], "share": (at + 1) / len(points), "of": label}
        for label, points in ((_BEFORE, column.points), (_NOW, numbers))
        for at in range(0, len(points), max(1, len(points) // _MOST_POINTS))
    ]
    return {
        "data": {"values": rows},
        "width": 420,
        "height": 160,
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"zero": False},
            },
            "y": {"field": "share", "type": "quantitative", "title": "share of rows up to it"},
            "color": {"field": "of", "type": "nominal", "title": None, "scale": _COLOURS},
        },
    }


def _draw_bars(column: Column, values: Sequence[Value]) -> dict[str, Any]:
    """Return the shares of categories."""
    counts = Counter(str(value) for value in values if value is not None)
    before = Counter(column.counts)
    # What few clients have sent may be a name: the report is read by more people than the log.
    shown = before + Counter({name: n for name, n in counts.items() if n >= _LEAST_ROWS})
    names = [name for name, _ in shown.most_common(_MOST_CATEGORIES)]
    rows = [
        {"value": name, "share": part[name] / max(1, total), "of": label}
        for label, part, total in (
            (_BEFORE, before, before.total() + column.others),
            (_NOW, counts, counts.total()),
        )
        for name in names
    ]
    return {
        "data": {"values": rows},
        "width": 420,
        "height": {"step": 12},
        "mark": "bar",
        "encoding": {
            "y": {"field": "value", "type": "nominal", "sort": None, "title": None},
            "yOffset": {"field": "of"},
            "x": {"field": "share", "type": "quantitative", "title": "share of rows"},
            "color": {"field": "of", "type": "nominal", "title": None, "scale": _COLOURS},
        },
    }
