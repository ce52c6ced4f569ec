"""The tests of a model that the template ships can fail: each finds what it is about."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.template import is_template

pytestmark = pytest.mark.skipif(not is_template(), reason="tests/model and tests/data are a user's")

Row = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A stand-in for the fixtures `trained` and `served`: a class that follows from `size`."""

    train: list[Row] = field(default_factory=lambda: rows(80))
    test: list[Row] = field(default_factory=lambda: rows(20, 80))
    features: Sequence[str] = ("size", "town")
    target: str = "label"
    is_classification: bool = True
    metric: float = 0.95
    predictor: Callable[[Row], Any] = lambda row: row["size"] > 20
    probabilities: Sequence[float] = (0.25, 0.75)
    raw: int = 100

    @property
    def golden(self) -> dict[str, Any]:
        return {"outputs": {"predict": [], "predict_proba": []}}

    @property
    def params(self) -> dict[str, Any]:
        return {"gate": {"metric": "score", "minimum": 0.9, "maximum": None}}

    @property
    def metrics(self) -> dict[str, float]:
        return {"score": self.metric}

    @property
    def data(self) -> dict[str, Any]:
        return {"rows": {"raw": self.raw, "used": 100}}

    def rows(self, split: str) -> list[Row]:
        return {"train": self.train, "test": self.test}[split]

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        return [self.predictor(row) for row in rows]

    def predict_proba(self, rows: Sequence[Row]) -> list[list[float]]:
        return [list(self.probabilities) for _ in rows]


def rows(count: int, first: int = 0) -> list[Row]:
    """Make rows, every other one large."""
    return [
        {"size": 30 * (i % 2) + i * 7 % 11 + i / 1000, "town": "ABC"[i % 3], "label": i % 2 == 1}
        for i in range(first, first + count)
    ]


def changed(model: Model, **columns: Callable[[int, Row], Any]) -> Model:
    """Return the model with columns of its rows replaced, or further ones."""

    def change(rows: list[Row], first: int) -> list[Row]:
        return [
            {**row, **{name: value(first + i, row) for name, value in columns.items()}}
            for i, row in enumerate(rows)
        ]

    features = (*model.features, *(columns.keys() - {*model.features, model.target}))
    return replace(
        model, train=change(model.train, 0), test=change(model.test, 80), features=features
    )


GOOD = Model()
GOOD_REGRESSION = replace(
    changed(GOOD, label=lambda i, row: row["size"] * 10.0),
    is_classification=False,
    predictor=lambda row: row["size"] * 10.0 + 1,
)


def run(path: str, name: str, model: Model) -> None:
    """Run one of the shipped tests on a model."""
    test = getattr(importlib.import_module(path), name)
    given = {
        "trained": model,
        "served": model,
        "splits": {"train": model.train, "test": model.test},
        "rows": model.test,
        "predictions": model.predict(model.test),
    }
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    test(**{argument: given[argument] for argument in names})


DATA, MODEL = "tests.data.test_data", "tests.model.test_model"


@pytest.mark.parametrize("model", [GOOD, GOOD_REGRESSION], ids=["classes", "numbers"])
@pytest.mark.parametrize("path", [DATA, MODEL])
def test_good_model_passes(path: str, model: Model) -> None:
    names = [name for name in vars(importlib.import_module(path)) if name.startswith("test_")]
    assert names
    for name in names:
        run(path, name, model)


def grows(model: Model) -> Callable[[Row], Any]:
    """Make a predictor that depends on how often it was asked."""
    calls: list[Row] = []

    def predict(row: Row) -> Any:
        calls.append(row)
        return len(calls)

    return predict


@pytest.mark.parametrize(
    ("path", "name", "model"),
    [
        (DATA, "test_columns_are_those_described", replace(GOOD, features=("size",))),
        (DATA, "test_no_column_numbers_the_rows", changed(GOOD, number=lambda i, row: i)),
        (DATA, "test_every_row_is_in_one_split", replace(GOOD, test=GOOD.train[:20])),
        (DATA, "test_every_row_is_in_one_split", replace(GOOD, raw=99)),
        (DATA, "test_target_is_known_and_varies", changed(GOOD, label=lambda i, row: None)),
        (DATA, "test_target_is_known_and_varies", changed(GOOD, label=lambda i, row: True)),
        (DATA, "test_splits_are_alike", changed(GOOD, label=lambda i, row: i % 2 < (i < 80))),
        (DATA, "test_splits_are_alike",
         changed(GOOD_REGRESSION, label=lambda i, row: float(i > 79) * 9 + i % 3)),
        (DATA, "test_no_column_gives_the_target_away",
         changed(GOOD, code=lambda i, row: "yes" if row["label"] else "no")),
        (DATA, "test_no_column_gives_the_target_away",
         changed(GOOD_REGRESSION, cost=lambda i, row: row["label"])),
        (MODEL, "test_model_beats_a_guess", replace(GOOD, predictor=lambda row: True)),
        (MODEL, "test_model_beats_a_guess",
         replace(GOOD_REGRESSION, predictor=lambda row: 200.0)),
        (MODEL, "test_model_keeps_the_bounds_of_the_gate", replace(GOOD, metric=0.8)),
        (MODEL, "test_predictions_are_possible", replace(GOOD, predictor=lambda row: "other")),
        (MODEL, "test_predictions_are_possible",
         replace(GOOD_REGRESSION, predictor=lambda row: -500.0)),
        (MODEL, "test_other_rows_have_no_influence",
         replace(GOOD_REGRESSION, predictor=grows(GOOD_REGRESSION))),
        (MODEL, "test_probabilities_add_up", replace(GOOD, probabilities=(0.5, 0.6))),
    ],
)  # fmt: skip
def test_bad_model_or_data_fail(path: str, name: str, model: Model) -> None:
    with pytest.raises(AssertionError):
        run(path, name, model)
