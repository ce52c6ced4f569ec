"""The report of a benchmark: tables and goals as text, JSON and a picture."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tasks.reports.pictures import draw


@dataclass(frozen=True)
class Table:
    """Figures in rows and columns; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Goal:
    """A goal, and whether it was met in this run."""

    what: str
    goal: str
    measured: str
    is_met: bool


@dataclass(frozen=True)
class Bars:
    """A chart of the picture: one number for each name."""

    title: str
    unit: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """The results of a benchmark, and its method."""

    method: Sequence[str]  # sentences
    tables: Sequence[Table] = field(default_factory=list)
    goals: Sequence[Goal] = field(default_factory=list)
    bars: Sequence[Bars] = field(default_factory=list)


def describe_machine() -> str:
    """Describe processors, memory and load of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} x {' / '.join(sorted(models)) or platform.machine()}, "
        f"{pages >> 30} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load at the end {load}"
    )


def format_report(subject: str, report: Report, machine: str) -> str:
    """Format a report for a terminal."""
    lines = [f"{subject}, {datetime.now(UTC).date()}, {machine}", *report.method]
    for table in report.tables:
        lines += ["", table.title, *align_columns([table.columns, *table.rows])]
    if report.goals:
        rows = [(g.what, g.goal, g.measured, "yes" if g.is_met else "NO") for g in report.goals]
        lines += ["", *align_columns([("goal", "bound", "measured", "met"), *rows])]
    return "\n".join(lines) + "\n"


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Make lines of cells: names and texts on the left, numbers on the right."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [
        "  ".join(
            # Texts on the left, as the first column always is; numbers on the right.
            cell.rjust(width) if number and not cell[:1].isalpha() else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def write_report(folder: Path, subject: str, report: Report) -> str:
    """Write a report as `<subject>.txt`, `.json` and `.png`; return the text."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    text = format_report(subject, report, machine)
    (folder / f"{subject}.txt").write_text(text)
    content = {"date": datetime.now(UTC).isoformat(), "machine": machine, **asdict(report)}
    (folder / f"{subject}.json").write_text(json.dumps(content, indent=1))
    if report.bars:
        (folder / f"{subject}.png").write_bytes(draw(make_picture(report.bars)))
    return text


def make_picture(groups: Sequence[Bars]) -> dict[str, object]:
    """Make a Vega-Lite specification with one chart of bars for each group."""
    charts = []
    for group in groups:
        x = {"field": "value", "type": "quantitative", "title": group.unit}
        y = {"field": "name", "type": "nominal", "sort": "-x", "title": None}
        label = {"field": "value", "type": "quantitative", "format": ",.3~r"}
        charts.append(
            {
                "title": group.title,
                "width": 480,
                "height": {"step": 22},
                "data": {"values": [{"name": n, "value": v} for n, v in group.values.items()]},
                "encoding": {"x": x, "y": y},
                "layer": [
                    {"mark": {"type": "bar", "color": "steelblue"}},
                    {
                        "mark": {"type": "text", "align": "left", "dx": 4},
                        "encoding": {"text": label},
                    },
                ],
            }
        )
    return {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "vconcat": charts}
