"""Drift: how the rows of a window differ from those that the version learnt from. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from tasks.monitoring.profile import OTHERS, Column, Profile
from tasks.monitoring.records import Value
from tasks.monitoring.two_samples import Difference, compare_categories, compare_numbers
from tasks.monitoring.window import Answer
from tasks.training.multiple_tests import find_small
from tasks.training.probabilities import Probabilities, round_probability
from tasks.training.rows import normalize

# Of all findings of a window together: two windows in 100 differ by luck. An alarm takes two of
# three; they are not independent, as all are compared with the same training rows, and still far
# fewer than one window in 100 raises one (benchmarks/drift.py).
LEVEL = 0.02
Subject = Literal["values", "missing", "predictions", "probabilities"]
_MISSING = "(missing)"


@dataclass(frozen=True)
class Finding:
    """One comparison of a window with the training rows.

    Attributes:
        column: Name of the column; empty for the predictions, the class for probabilities.
        subject: What was compared.
        distance: See `Difference`.
        chance: Probability of so great a difference by luck.
        differs: Whether it is more than luck, and more than the least distance.
    """

    column: str
    subject: Subject
    distance: float
    chance: float
    differs: bool

    @property
    def text(self) -> str:
        """The finding in words."""
        name = f"{self.subject} of {self.column}" if self.column else self.subject
        return f"{name} differ by {self.distance:.2f}"


@dataclass(frozen=True)
class Facts:
    """The values of a column in a window.

    Attributes:
        missing: Share of missing values.
        missing_before: The same of the training rows.
        new: Share of the values that are categories which the training rows lack.
        invalid: Share of the values that are of another type.
    """

    missing: float
    missing_before: float
    new: float
    invalid: float


@dataclass(frozen=True)
class Reference:
    """The data that a window is compared with.

    Attributes:
        profile: The training rows.
        predicted: The version's answers to its test rows, as texts; empty if they are not known.
        is_regression: Whether the answers are numbers.
        probabilities: Those of its test rows; none if they are not known.
    """

    profile: Profile
    predicted: Sequence[str]
    is_regression: bool
    probabilities: Probabilities = field(default_factory=Probabilities)


def find_drift(
    reference: Reference, answers: Sequence[Answer], least_distance: float
) -> list[Finding]:
    """Compare the rows of a window with those that the version learnt from.

    Args:
        reference: The training rows, and the version's answers to its test rows.
        answers: The rows of the window, with the answers.
        least_distance: Distance from which a difference counts.
    """
    compared: list[tuple[str, Subject, Difference]] = []
    profile = reference.profile
    for name, column in profile.columns.items():
        values = _list_values(name, answers)
        compared += [
            (name, subject, difference)
            for subject, difference in _compare_column(column, profile.rows, values)
        ]
    outputs = [answer.output for answer in answers if answer.output is not None]
    if reference.predicted and outputs:
        difference = _compare_outputs(reference, outputs)
        compared.append(("", "predictions", difference))
    compared += _compare_probabilities(reference.probabilities, answers)
    surprises = find_small([difference.chance for *_, difference in compared], LEVEL)
    return [
        Finding(
            column,
            subject,
            difference.distance,
            difference.chance,
            is_surprise and difference.distance >= least_distance,
        )
        for (column, subject, difference), is_surprise in zip(compared, surprises, strict=True)
    ]


def _compare_column(
    column: Column, rows: int, values: Sequence[Value]
) -> list[tuple[Subject, Difference]]:
    """Compare values and missing values of a column; leave out what cannot differ."""
    if not values:
        return []
    missing = sum(value is None for value in values)
    compared: list[tuple[Subject, Difference]] = []
    if column.kind == "category":
        after = _count(column, values)
        compared.append(("values", compare_categories(column.categories, after)))
    elif column.kind == "number":
        present = _select_numbers(values)
        difference = compare_numbers(column.points, rows - column.missing, present)
        compared.append(("values", difference))
    if missing or column.missing:
        before = {_MISSING: column.missing, "": rows - column.missing}
        after = {_MISSING: missing, "": len(values) - missing}
        compared.append(("missing", compare_categories(before, after)))
    return compared


def _list_values(name: str, answers: Sequence[Answer]) -> list[Value]:
    """List the values of a column; none if the log leaves it out, as it does private ones."""
    return [answer.inputs[name] for answer in answers if name in answer.inputs]


def _count(column: Column, values: Sequence[Value]) -> Mapping[str, int]:
    """Count the categories of present values; those without a count of their own together."""
    counts = Counter(str(value) for value in values if value is not None)
    others = sum(number for name, number in counts.items() if name not in column.counts)
    return {name: counts[name] for name in column.counts} | {OTHERS: others}


def _select_numbers(values: Sequence[Value]) -> list[float]:
    return [float(value) for value in values if _is_number(value)]  # type: ignore[arg-type]


def _is_number(value: Value) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return isfinite(float(value))
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _compare_outputs(reference: Reference, outputs: Sequence[Value]) -> Difference:
    if reference.is_regression:
        points = sorted(_select_numbers([to_number(text) for text in reference.predicted]))
        return compare_numbers(points, len(points), _select_numbers(outputs))
    before = Counter(map(normalize, reference.predicted))
    return compare_categories(before, Counter(map(normalize, outputs)))


def _compare_probabilities(
    reference: Probabilities, answers: Sequence[Answer]
) -> list[tuple[str, Subject, Difference]]:
    """Compare the probabilities of each class."""
    classes = reference.classes
    rows = [answer.probabilities for answer in answers if len(answer.probabilities) == len(classes)]
    if not rows or not reference.rows:
        return []
    # Of two classes, one says all.
    chosen = range(1 if len(classes) == 2 else 0, len(classes))
    compared: list[tuple[str, Subject, Difference]] = []
    for position in chosen:
        points = sorted(row[position] for row in reference.rows)
        # A tree has few different ones: those of test rows are equal only in their first digits.
        values = [round_probability(row[position]) for row in rows]
        difference = compare_numbers(points, len(points), values)
        compared.append((classes[position], "probabilities", difference))
    return compared


def to_number(value: Value) -> float | None:
    """Return a number, or a text that has one, as a number; None if it is none."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except ValueError:
        return None


def describe_columns(profile: Profile, answers: Sequence[Answer]) -> dict[str, Facts]:
    """Describe each column that the log has: what is missing, new or of another type."""
    facts = {}
    for name, column in profile.columns.items():
        values = _list_values(name, answers)
        if not values:
            continue
        present = [value for value in values if value is not None]
        new = invalid = 0
        if column.kind == "category":
            invalid = sum(not isinstance(value, (str, bool)) for value in present)
            if not column.others:  # else what is rare in the training rows is not known here
                new = sum(str(value) not in column.counts for value in present)
        elif column.kind == "number":
            invalid = sum(not _is_number(value) for value in present)
        count = max(1, len(present))
        facts[name] = Facts(
            (len(values) - len(present)) / len(values),
            column.missing / profile.rows,
            new / count,
            invalid / count,
        )
    return facts
