from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from tasks.training.dossier import Evidence
from tasks.training.evidence import (
    Comparison,
    Evaluation,
    compare,
    measure,
    parse_evaluation,
    sum_losses,
    weigh_answers,
)
from tasks.training.gate import judge
from tasks.training.intervals import bootstrap_classes, tango_interval
from tasks.training.rules import Rules

_LOCK = """\
stages:
  evaluate:
    deps:
    - {path: data/test.csv, md5: SPLIT}
"""


def _evaluation(
    metric: str,
    value: float,
    actual: Sequence[object],
    predicted: Sequence[object],
    split: str = "1",
) -> Evaluation:
    rows = "".join(f'"{a}",{b}\n' for a, b in zip(actual, predicted, strict=True))
    lock = _LOCK.replace("SPLIT", split)
    return parse_evaluation({metric: value}, f"actual,predicted\n{rows}", lock)


def test_tango_interval_is_the_published_one() -> None:
    # Airway hyper-responsiveness before and after a transplantation: M. Fagerland, S. Lydersen,
    # P. Laake, "Recommended tests and confidence intervals for paired binomial proportions",
    # Statistics in Medicine 33 (2014), 2850-2875.
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert tango_interval(7, 1, 21) == pytest.approx((0.026, 0.517), abs=5e-4)


def test_rows_of_a_group_are_one_draw() -> None:
    """Twenty customers with fifty rows each say no more than twenty rows do."""
    random = Random(3)
    actual, old, new, customers = [], [], [], []
    for customer in range(20):
        gains = random.random() < 0.6  # the candidate is right about all of a customer's rows
        for _ in range(50):
            actual.append("1")
            old.append("3" if gains else "1")
            new.append("1" if gains else "3")
            customers.append(str(customer))
    champion, candidate = (Evaluation({}, "", actual, side) for side in (old, new))
    grouped = replace(candidate, groups=customers)
    for metric in ("accuracy", "f1_macro", "mae"):
        widths = []
        for model in (candidate, grouped):
            comparison = weigh_answers(model, champion, metric, more_is_better=metric != "mae")
            assert comparison
            assert comparison.interval
            widths.append(comparison.interval[1] - comparison.interval[0])
        assert widths[1] > 3 * widths[0]
    few = replace(candidate, groups=["one"] * 500 + ["other"] * 500)
    comparison = weigh_answers(few, champion, "accuracy", more_is_better=True)
    assert comparison
    assert comparison.interval is None


def test_rows_without_a_difference_are_no_certainty() -> None:
    assert tango_interval(0, 0, 36) == pytest.approx((-0.0964, 0.0964), abs=1e-4)
    assert tango_interval(5, 0, 5)[1] == 1
    labels = ["a", "b"] * 18
    same = _evaluation("f1_macro", 1.0, labels, labels)
    comparison = compare(same, same, "f1_macro", more_is_better=True)
    assert comparison == Comparison(0.0, None, 36, 0)
    assert comparison.word(0.01) == "inconclusive"


def test_accuracy_of_the_same_rows_is_compared_by_tango() -> None:
    actual = ["a, b"] * 21
    old = _evaluation("accuracy", 8 / 21, actual, ['"a, b"'] * 8 + ["c"] * 13)
    new = _evaluation("accuracy", 2 / 21, actual, ['"a, b"'] + ["c"] * 19 + ['"a, b"'])
    comparison = compare(new, old, "accuracy", more_is_better=True)
    assert comparison
    assert comparison.interval == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert (comparison.rows, comparison.disagreeing) == (21, 8)
    assert comparison.word(0.01) == "worse"


# The values are scikit-learn's for these answers.
_ACTUAL = ["a", "a", "a", "b", "b", "c"] * 20
_FAIR = ["a", "a", "b", "b", "c", "c"] * 20
_POOR = ["a", "c", "b", "b", "c", "a"] * 20


def test_drawing_rows_in_blocks_changes_little() -> None:
    """Many classes make too many kinds of rows to draw each."""
    random = Random(5)
    actual = [str(random.randrange(4)) for _ in range(4000)]
    old, new = (
        [label if random.random() < share else str(random.randrange(4)) for label in actual]
        for share in (0.8, 0.77)
    )
    for metric in ("f1_macro", "balanced_accuracy"):
        cells = bootstrap_classes(metric, actual, old, new)
        blocks = bootstrap_classes(metric, actual, old, new, [n % 200 for n in range(4000)])
        assert blocks == pytest.approx(cells, abs=0.004)


@pytest.mark.parametrize(
    ("metric", "fair", "poor"),
    [
        ("f1_macro", (0.8 + 0.5 + 2 / 3) / 3, (0.4 + 0.5 + 0) / 3),
        ("balanced_accuracy", (2 / 3 + 1 / 2 + 1) / 3, (1 / 3 + 1 / 2 + 0) / 3),
    ],
)
def test_classes_are_compared_by_paired_bootstrap(metric: str, fair: float, poor: float) -> None:
    new = _evaluation(metric, poor, _ACTUAL, _POOR)
    old = _evaluation(metric, fair, _ACTUAL, _FAIR)
    comparison = compare(new, old, metric, more_is_better=True)
    assert comparison
    assert comparison.interval
    lower, upper = comparison.interval
    assert lower < comparison.gain < upper < 0
    assert comparison.gain == pytest.approx(poor - fair)
    assert comparison == compare(new, old, metric, more_is_better=True), "who asks again, hears it"
    assert comparison.disagreeing == 40


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    random = Random(4)
    actual = [1e6 + number for number in range(900)]
    errors = [abs(random.gauss(0, 1)) for _ in actual]
    predicted = [value + error for value, error in zip(actual, errors, strict=True)]
    mean = sum(abs(b - a) for a, b in zip(actual, predicted, strict=True)) / 900
    deviation = (sum((error - mean) ** 2 for error in errors) / 900) ** 0.5
    old = _evaluation("mae", 0.0, actual, actual)
    new = _evaluation("mae", mean, actual, predicted)
    comparison = compare(new, old, "mae", more_is_better=False)
    assert comparison
    assert comparison.interval
    lower, upper = comparison.interval
    assert upper - lower == pytest.approx(2 * 1.96 * deviation / 30, rel=0.12)
    assert (lower + upper) / 2 == pytest.approx(-mean, rel=0.02)
    assert comparison.word(0.01) == "worse"
    rows = comparison.enough_rows(0.01)
    assert rows == pytest.approx(900 * (3.6 * deviation / 30 / 0.02) ** 2, rel=0.25)


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_squares_are_compared_by_paired_bootstrap(metric: str) -> None:
    actual, error = [1.0, 2.0, 3.0, 4.0] * 25, {"rmse": 0.5, "r2": 1 - 0.25 / 1.25}
    perfect = {"rmse": 0.0, "r2": 1.0}
    old = _evaluation(metric, perfect[metric], actual, actual)
    new = _evaluation(metric, error[metric], actual, [value + 0.5 for value in actual])
    comparison = compare(new, old, metric, more_is_better=metric == "r2")
    assert comparison
    assert comparison.gain == pytest.approx(-abs(error[metric] - perfect[metric]))
    assert comparison.word(0.01) == "worse"


def test_without_the_same_rows_there_is_no_comparison() -> None:
    def is_comparable(new: Evaluation, metric: str = "f1_macro") -> bool:
        return compare(new, fair, metric, more_is_better=True) is not None

    value = (0.8 + 0.5 + 2 / 3) / 3
    fair = _evaluation("f1_macro", value, _ACTUAL, _FAIR)
    assert is_comparable(fair)
    assert not is_comparable(_evaluation("f1_macro", value, _ACTUAL, _FAIR, split="2"))
    assert not is_comparable(_evaluation("f1_macro", value, _FAIR, _ACTUAL)), "another target"
    assert not is_comparable(_evaluation("f1_macro", 0.99, _ACTUAL, _FAIR)), "other answers"
    assert not is_comparable(fair, "log_loss"), "it does not follow from the answers"
    for predictions, lock in (("", _LOCK), ("x\n1\n", _LOCK), ("actual,predicted\na,a\n", "{")):
        assert not is_comparable(parse_evaluation({"f1_macro": 1.0}, predictions, lock))


def test_losses_add_up_until_a_release_is_better() -> None:
    loss = Comparison(-0.004, (-0.008, 0.001), 900, 20)
    gain = Comparison(0.003, (-0.001, 0.007), 900, 20)
    better = Comparison(0.02, (0.01, 0.03), 900, 40)
    assert sum_losses([loss, gain, loss]) == pytest.approx(0.008)
    assert sum_losses([loss, better, loss]) == pytest.approx(0.004)
    assert sum_losses([loss, None, loss]) == pytest.approx(0.004)
    assert sum_losses([]) == 0


@pytest.mark.parametrize("answer", ["1e200", "1.7e308", "nan", "inf", "x"])
def test_model_that_has_diverged_is_no_crash_of_the_gate(answer: str) -> None:
    actual = [str(row) for row in range(40)]
    old = Evaluation({}, "", actual, [f"{row}.5" for row in range(40)])
    new = replace(old, predicted=[answer] * 40)
    for metric in ("mae", "rmse", "r2"):
        comparison = weigh_answers(new, old, metric, more_is_better=metric == "r2")
        if comparison:
            rules = Rules(metric=metric, tolerance=0.1)
            measured = {metric: measure(metric, new) or 0.0}
            evidence = Evidence({metric: comparison}, needs_scores=True, measured=measured)
            assert not judge(measured, {metric: 0.5}, rules, evidence=evidence).passed
