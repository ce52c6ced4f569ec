"""Costs of what is done in turn with something beside it: rows of a table, ratios pair by pair."""

import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.meter import Cost, Meter
from benchmarks.report import Bars, Goal
from tasks.core.errors import TransientError

COLUMNS = ("", "CPU s", "beside", "ratio", "seconds", "beside", "ratio")
_ATTRIBUTES = {"CPU": "cpu", "seconds": "wall"}  # of a cost, by their names in reports

Costs = Mapping[str, Sequence[Cost]]


@dataclass(frozen=True)
class Comparison:
    """Something and what is beside it.

    Attributes:
        name: What was measured.
        row: Of a table with `COLUMNS`.
        ratios: Medians, by `CPU` and `seconds`.
    """

    name: str
    row: Sequence[str]
    ratios: Mapping[str, float]

    def make_goal(self, bound: float, kind: str) -> Goal:
        """Return a goal: the bound of a ratio, of `CPU` or `seconds`."""
        ratio = self.ratios[kind]
        return Goal(f"{self.name}, {kind}", f"<= {bound:g} x", f"{ratio:.2f} x", ratio <= bound)


def compare(costs: Costs, name: str, beside: str) -> Comparison:
    """Compare two things that were measured equally often, in turn."""
    row, medians = [f"{name} / {beside}"], {}
    for kind, attribute in _ATTRIBUTES.items():
        own, other = ([getattr(cost, attribute) for cost in costs[side]] for side in (name, beside))
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        medians[kind] = statistics.median(ratios)
        row += [f"{statistics.median(values):.1f}" for values in (own, other)]
        row.append(f"{medians[kind]:.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return Comparison(name, row, medians)


def make_bars(costs: Costs) -> Bars:
    """Return a chart of the CPU seconds."""
    medians = {name: statistics.median(c.cpu for c in several) for name, several in costs.items()}
    return Bars("CPU", "CPU s", medians)


def collect(costs: dict[str, list[Cost]], measured: Iterable[tuple[str, Cost]]) -> None:
    """Add costs to those of the same name, and print each at once."""
    for name, cost in measured:
        costs[name].append(cost)
        print(f"{name}: {cost.cpu:.1f} CPU s, {cost.wall:.1f} s", flush=True)


def run_script(script: str, folder: Path | str, environment: Mapping[str, str]) -> Cost:
    """Run shell commands in a folder, and return their cost.

    Raises:
        TransientError: One of them failed.
    """
    meter = Meter()
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise TransientError(f"the commands failed: {done.stdout[-2000:]}")
    return meter.stop()
