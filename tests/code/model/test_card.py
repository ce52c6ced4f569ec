"""Intervals of a model card hold what they claim, and claim nothing from few rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.code.model import support


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    script = Path(__file__).with_name("measure_card.py")
    done = support.model_python(script, cwd=support.ROOT)
    return dict(json.loads(done.stdout))


def test_intervals_cover_the_truth_as_often_as_they_say(measured: dict[str, Any]) -> None:
    assert all(0.88 <= share <= 0.99 for share in measured["covered"].values())


def test_rows_of_a_group_are_one_draw(measured: dict[str, Any]) -> None:
    assert all(0.88 <= share <= 0.99 for share in measured["covered by groups"].values())
    assert measured["few groups"] == {}


def test_four_times_the_rows_halve_the_interval(measured: dict[str, Any]) -> None:
    assert measured["ratio"] == pytest.approx([0.5] * 3, rel=0.2)


def test_no_certainty_from_rows_without_mistakes(measured: dict[str, Any]) -> None:
    assert set(measured["all right"]) == {"accuracy"}, "the others need wrong answers"
    assert measured["all right"]["accuracy"] == pytest.approx([0.9036, 1.0], abs=1e-4)
    assert measured["few"] == {}
    assert measured["constant"] == ["mae", "rmse"]


def test_intervals_of_classes_take_a_class_without_rows(measured: dict[str, Any]) -> None:
    intervals = measured["some wrong"]
    assert set(intervals) == {"accuracy", "balanced_accuracy", "f1_macro"}
    assert all(0.8 < low < high < 0.97 for low, high in list(intervals.values())[:2])
