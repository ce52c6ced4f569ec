"""Progress of flow runs on a terminal, in place."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deployments.prefect_api.models import FlowRun, Progress
from deployments.prefect_api.watching import Show, describe_line, show_lines

_COLOURS = {"COMPLETED": "green", "FAILED": "red", "CRASHED": "red", "RUNNING": "cyan"}


def state_text(run: FlowRun) -> Text:
    """Return the state of a run in its colour."""
    return Text(run.label, style=_COLOURS.get(run.state, "yellow"))


def show_progress(console: Console) -> Show:
    """Return the way to show progress that fits a console: in place, or line by line."""
    if console.is_terminal:
        return show_live(console)
    return show_lines(lambda line: console.print(line, markup=False))


def show_live(console: Console) -> Show:
    """Return a function that shows progress on a terminal, in place."""

    def show(steps: Iterator[Progress]) -> Progress:
        step: Progress | None = None
        spinner = Spinner("dots")
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            for step in steps:
                line = describe_line(step.line, step.runs) if step.line else ""
                last = Text(line, style="dim", no_wrap=True, overflow="ellipsis")
                live.update(Group(_runs_table(step.runs), last, spinner))
        assert step is not None
        console.print(_runs_table(step.runs))
        return step

    return show


def _runs_table(runs: tuple[FlowRun, ...]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for depth, run in enumerate(runs):
        name = ("  " if depth else "") + run.flow
        table.add_row(name, state_text(run), f"{run.seconds:.1f} s")
    return table
