"""What we trust about the model. Yours to change: see docs/your-tests.md."""

import random
from collections import Counter
from statistics import fmean, median

import pytest

# How much better than a guess the model has to be: of the recall of classes, or of the mean error.
BETTER_THAN_A_GUESS = 0.05


@pytest.fixture(scope="module")
def rows(trained):
    return trained.rows("test")


@pytest.fixture(scope="module")
def predictions(served, rows):
    return served.predict(rows)


def test_model_beats_a_guess(trained, rows, predictions):
    actual = [row[trained.target] for row in rows]
    if trained.is_classification:
        hits = Counter(a for a, p in zip(actual, predictions, strict=True) if a == p)
        counts = Counter(actual)
        recall = fmean(hits[label] / count for label, count in counts.items())
        assert recall > 1 / len(counts) + BETTER_THAN_A_GUESS
    else:
        guess = median(row[trained.target] for row in trained.rows("train"))
        error = fmean(abs(a - p) for a, p in zip(actual, predictions, strict=True))
        assert error < (1 - BETTER_THAN_A_GUESS) * fmean(abs(a - guess) for a in actual)


def test_model_keeps_the_bounds_of_the_gate(trained):
    gate = trained.params["gate"]
    value = trained.metrics[gate["metric"]]
    if gate.get("minimum") is not None:
        assert value >= gate["minimum"]
    if gate.get("maximum") is not None:
        assert value <= gate["maximum"]


def test_predictions_are_possible(trained, predictions):
    known = [row[trained.target] for row in trained.rows("train")]
    if trained.is_classification:
        assert {*predictions} <= {*known}
    else:
        low, high = min(known), max(known)
        for prediction in predictions:
            assert low - (high - low) <= prediction <= high + (high - low)


def test_other_rows_have_no_influence(served, rows, predictions):
    order = random.Random(0).sample(range(len(rows)), len(rows))
    shuffled = served.predict([rows[i] for i in order])
    assert shuffled == pytest.approx([predictions[i] for i in order], rel=1e-9)
    alone = [served.predict([row])[0] for row in rows[:10]]
    assert alone == pytest.approx(predictions[:10], rel=1e-9)


def test_probabilities_add_up(trained, served, rows):
    if "predict_proba" not in trained.golden["outputs"]:
        pytest.skip("the model has no probabilities")
    for probabilities in served.predict_proba(rows):
        assert sum(probabilities) == pytest.approx(1)
        assert min(probabilities) >= 0
