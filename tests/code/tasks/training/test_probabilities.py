"""Probabilities of test rows are read from a commit's predictions, whatever a commit has there."""

from __future__ import annotations

import pytest

from tasks.training.evidence import parse_evaluation
from tasks.training.probabilities import (
    Probabilities,
    measure_probabilities,
    parse_probabilities,
)

TEXT = "actual,predicted,probability_a,probability_b\na,a,0.75,0.25\nb,a,0.5,0.5\n"


def test_probabilities_are_read_beside_the_answers() -> None:
    both = Probabilities(["a", "b"], [[0.75, 0.25], [0.5, 0.5]])
    assert parse_probabilities(TEXT) == (["a", "b"], both)
    assert parse_probabilities(f"{TEXT}c,a,,\n") == (["a", "b"], both), "a row without any"
    answers = parse_evaluation({}, TEXT, "")
    assert (answers.actual, answers.predicted) == (["a", "b"], ["a", "a"])
    losses, squares = measure_probabilities(["a", "b"], ["b", "c"], [[0.75, 0.25], [0.5, 0.5]])
    assert losses == pytest.approx([1.386294, 34.538776])
    assert squares == [0.5625, 0.75]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "actual,predicted\na,a\n",
        TEXT.replace("actual", "else"),
        TEXT.replace("probability_b", "note"),
        TEXT.replace("0.25", "much"),
        TEXT.replace("0.25", "nan"),
        TEXT.replace(",0.25", ""),
    ],
)
def test_predictions_without_probabilities_have_none(text: str) -> None:
    assert parse_probabilities(text) == ([], Probabilities())
