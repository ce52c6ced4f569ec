"""Slices: parts of the rows, in each of which a candidate must not be worse. Pure."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import NormalDist
from typing import Any

from tasks.training.evidence import Comparison, Evaluation, measure, weigh_answers
from tasks.training.intervals import Z
from tasks.training.multiple_tests import find_small
from tasks.training.rows import Row, normalize
from tasks.training.rules import Rules

_MOST_VALUES = 20  # of a column; one with more is meant to be cut by a condition
_LEVEL = 0.05
_CONDITION = re.compile(r"^(?P<column>.+?) *(?P<sign><=|>=|==|!=|<|>) *(?P<value>.+)$")
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """A part of the rows.

    Attributes:
        name: Its condition.
        rows: Number of its rows.
        comparison: Both models on them; None if they are too few, or cannot be compared.
        problem: Why they cannot be compared, however many they are; empty if they can.
    """

    name: str
    rows: int
    comparison: Comparison | None
    problem: str = ""


def cut(
    rules: Rules,
    rows: Sequence[Row],
    candidate: Evaluation,
    champion: Evaluation,
    private: Collection[str] = (),
) -> list[Slice]:
    """Compare two models on each slice of the rows that both answered.

    Args:
        rules: The rules, with the slices.
        rows: The rows.
        candidate: The candidate's answers to them.
        champion: The champion's.
        private: Columns whose values no report shows.
    """
    slices = []
    for name, positions in choose(rules.slices, rows, private):
        comparison, problem = None, ""
        if len(positions) >= rules.slice_rows:
            comparison = weigh_answers(
                take(candidate, positions),
                take(champion, positions),
                rules.metric,
                more_is_better=rules.more_is_better,
                source=f"{len(positions)} rows",
            )
            problem = "" if comparison else f"{rules.metric} does not follow from answers"
        slices.append(Slice(name, len(positions), comparison, problem))
    return slices + [
        Slice(name, 0, None, f"{name} has more than {_MOST_VALUES} values: write conditions")
        for name in rules.slices
        if rows and name in rows[0] and len({row.get(name, "") for row in rows}) > _MOST_VALUES
    ]


def measure_slices(
    rules: Rules, rows: Sequence[Row], model: Evaluation, private: Collection[str] = ()
) -> list[tuple[str, int, float | None]]:
    """Measure one model on each slice that has enough rows.

    Returns:
        Name and rows of each slice, and the metric there; None if it does not follow from answers.
    """
    return [
        (name, len(positions), measure(rules.metric, take(model, positions)))
        for name, positions in choose(rules.slices, rows, private)
        if len(positions) >= rules.slice_rows
    ]


def choose(
    conditions: Iterable[str], rows: Sequence[Row], private: Collection[str]
) -> Iterator[tuple[str, list[int]]]:
    """Yield the name of each slice, and the numbers of its rows."""
    for condition in conditions:
        if rows and condition in rows[0]:
            # A record of live requests may lack a column that others have.
            values = Counter(row.get(condition, "") for row in rows)
            listed = sorted(values) if len(values) <= _MOST_VALUES else []
            for number, value in enumerate(listed, 1):
                name = f"{condition} == {value}" if value else f"{condition} is missing"
                if condition in private:
                    name = f"{condition} (private), value {number} of {len(listed)}"
                yield name, [at for at, row in enumerate(rows) if row.get(condition, "") == value]
        elif parsed := _CONDITION.match(condition):
            column, sign, value = parsed.group("column", "sign", "value")
            yield (
                condition,
                [at for at, row in enumerate(rows) if _holds(row.get(column, ""), sign, value)],
            )
        else:
            yield condition, []  # a column that the rows do not have


def _holds(text: str, sign: str, value: str) -> bool:
    if sign in ("==", "!="):
        return (normalize(text) == normalize(value)) == (sign == "==")
    for parse in (float, datetime.fromisoformat):
        try:
            return _SIGNS[sign](parse(text), parse(value))
        except (ValueError, TypeError):  # a time zone on one side is a TypeError
            continue
    return False


def take(model: Evaluation, chosen: Sequence[int]) -> Evaluation:
    """Return the answers of a model to some of its rows, given by their positions."""
    return replace(
        model,
        actual=[model.actual[at] for at in chosen],
        predicted=[model.predicted[at] for at in chosen],
        losses=[model.losses[at] for at in chosen] if model.losses else None,
        squares=[model.squares[at] for at in chosen] if model.squares else None,
        groups=[model.groups[at] for at in chosen] if model.groups else None,
        shares=[model.shares[at] for at in chosen] if model.shares else None,
    )


def find_losses(slices: Sequence[Slice]) -> list[bool]:
    """Return, for each slice, whether it shows a loss, corrected for the number of slices.

    The probability of so great a loss by luck follows from the interval: its upper end is as many
    standard errors from the gain as the level of the interval says.
    """
    return find_small([_chance(part.comparison) for part in slices], _LEVEL)


def _chance(comparison: Comparison | None) -> float:
    """Return the two-sided probability of such a loss if there is none."""
    if comparison is None or comparison.interval is None or comparison.gain >= 0:
        return 1.0
    error = (comparison.interval[1] - comparison.gain) / Z
    return 2 * NormalDist().cdf(comparison.gain / error) if error else 0.0
