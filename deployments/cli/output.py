"""Printing: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from deployments.diagnosis.finding import Finding

# In a file, lines as long as links are.
_FILE_WIDTH = 140


def open_console(*, stderr: bool = False) -> Console:
    """Return a console, which has colours only on a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _FILE_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as JSON, and nothing else, on standard output."""
    print(json.dumps(value, indent=2, default=str))


def print_error(error: Exception) -> None:
    """Print an error with its kind, state and next step on standard error."""
    open_console(stderr=True).print(
        f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True
    )


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings as a table, and how many are problems."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("", no_wrap=True)
    for title in ("checked", "finding", "how to fix it"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("problem", "red")
        table.add_row(mark, Text(finding.thing), Text(finding.text), Text(finding.fix))
    console = open_console()
    console.print(table)
    problems = sum(not finding.ok for finding in findings)
    console.print(f"problems: {problems}" if problems else "all is well")


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without lines; without a heading if no column has a name."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title,
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        show_header=any(columns),
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    open_console().print(table)
