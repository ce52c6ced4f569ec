"""Tests of behaviour: what answers must do when one column of a row is changed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from tasks.training.rules import Behaviour

_ROUNDING = 1e-9  # sums in another order differ in the last digits

Answer = Any


def change_rows(
    test: Behaviour, rows: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pair each row with a copy of which one column is changed.

    The column gets the next greater of its values; of what must stay the same, the greatest value
    gets the least.

    Args:
        test: The test.
        rows: Rows as a client sends them, by column.

    Returns:
        Pairs of a row and the changed row; none if the column has one value only.
    """
    values = sorted({row[test.column] for row in rows if row[test.column] is not None}, key=_order)
    following = dict(pairwise(values))
    if test.expect == "same" and len(values) > 1:
        following[values[-1]] = values[0]
    return [
        (row, {**row, test.column: following[row[test.column]]})
        for row in rows
        if row[test.column] in following
    ]


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def share_broken(test: Behaviour, before: Sequence[Answer], after: Sequence[Answer]) -> float:
    """Return the share of rows whose answers break the rule.

    Args:
        test: The test.
        before: Answers to the rows: numbers, or anything where they must stay the same.
        after: Answers to the changed rows.
    """
    holds: Callable[[Answer, Answer], bool] = {
        "same": _is_same,
        "not lower": lambda old, new: new >= old - _ROUNDING,
        "not higher": lambda old, new: new <= old + _ROUNDING,
    }[test.expect]
    broken = sum(not holds(old, new) for old, new in zip(before, after, strict=True))
    return broken / len(before) if before else 0.0


def _is_same(old: Answer, new: Answer) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return abs(new - old) <= _ROUNDING * max(1.0, abs(old))
    return bool(old == new)
