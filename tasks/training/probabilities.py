"""Probabilities of classes: those of a model's test rows, and how good some are. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.training.rows import normalize

LEAST_PROBABILITY = 1e-15  # scikit-learn's log_loss clips there, too
_PREFIX = "probability_"  # of the columns that `model/evaluate.py` writes, before the class


@dataclass(frozen=True)
class Probabilities:
    """The probabilities of rows.

    Attributes:
        classes: The classes, in the order of the model's answers.
        rows: Of each row, one for each class.
    """

    classes: Sequence[str] = ()
    rows: Sequence[Sequence[float]] = ()


def parse_probabilities(predictions: str) -> tuple[list[str], Probabilities]:
    """Parse the classes and the probabilities of those test rows that have probabilities.

    Args:
        predictions: Text of a commit's predictions; where nothing can be read, there are no rows.
    """
    header, *rows = list(csv.reader(io.StringIO(predictions, newline=""))) or [[]]
    classes = [name.removeprefix(_PREFIX) for name in header[2:] if name.startswith(_PREFIX)]
    is_known = header[:2] == ["actual", "predicted"] and len(classes) == len(header) - 2
    if not (is_known and classes):
        return [], Probabilities()
    rows = [row for row in rows if any(row[2:])]  # of very many, `evaluate` writes a share
    try:
        values = [list(map(float, row[2:])) for row in rows]
    except ValueError:
        return [], Probabilities()
    if any(len(row) != len(classes) or not all(map(math.isfinite, row)) for row in values):
        return [], Probabilities()
    return [row[0] for row in rows], Probabilities(classes, values)


def round_probability(value: float) -> float:
    """Round a probability as those of test rows are, to six digits."""
    return float(f"{value:.6g}")


def measure_probabilities(
    classes: Sequence[Any], actual: Sequence[str], rows: Sequence[Sequence[float]]
) -> tuple[list[float], list[float]]:
    """Measure the probabilities of each row: by their logarithm, and by Brier's score.

    Source: G. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
    Review 78 (1950), 1-3; halved, so that for two classes it is (p - y)^2.

    Args:
        classes: The classes.
        actual: The class of each row.
        rows: The probabilities of each row.
    """
    labels = {normalize(label): position for position, label in enumerate(classes)}
    losses, squares = [], []
    for text, shares in zip(actual, rows, strict=True):
        position = labels.get(normalize(text))
        share = 0.0 if position is None else shares[position]
        losses.append(-math.log(min(1.0, max(share, LEAST_PROBABILITY))))
        # Of the row's class (p - 1)^2, of each other one p^2.
        squares.append((math.fsum(other * other for other in shares) - 2 * share + 1) / 2)
    return losses, squares
