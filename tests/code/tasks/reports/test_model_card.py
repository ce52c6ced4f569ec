"""The model card says what data, metrics and limits there are, in words."""

from __future__ import annotations

import copy
from typing import Any

from tasks.reports.model_card import list_changes, list_limits, model_card

DATA: dict[str, Any] = {
    "source": "data/source/penguins.csv",
    "task": "classification",
    "rows": {"raw": 344, "used": 344, "train": 275, "test": 69},
    "duplicate_rows": 0,
    "target": {
        "name": "species",
        "meaning": "the species of the bird",
        "unit": "",
        "classes": [{"label": "Adelie", "rows": 320}, {"label": "Gentoo", "rows": 24}],
    },
    "columns": {
        "mass": {"dtype": "float64", "missing": 2, "mean": 4200.0, "std": 800.0}
        | {"min": 2700.0, "max": 6300.0},
        "island": {"dtype": "object", "missing": 0, "distinct": 3},
        "ringed": {"dtype": "datetime64[ns]", "missing": 0}
        | {"first": "2007-11-09T00:00:00", "last": "2009-12-01T00:00:00"},
        "name": {"dtype": "object", "missing": 0, "private": True},
    },
}
EVALUATION: dict[str, Any] = {
    "rows": 69,
    "intervals": {"accuracy": [0.92, 1.0]},
    "calibration": {"bins": [{"rows": 69, "probability": 0.8, "right": 0.97}], "error": 0.17},
    "importance": {"metric": "balanced_accuracy", "rows": 69, "repeats": 5}
    | {"columns": [{"name": f"c{number}", "loss": 0.3, "std": 0.1} for number in range(25)]},
}


def write_card(**changes: Any) -> str:
    facts: dict[str, Any] = {
        "model": "penguins",
        "commit": "1234567890",
        "parameters": {"train": {"estimator": "sklearn.svm.SVC"}},
        "metrics": {"accuracy": 0.98, "log_loss": 0.1},
        "cross_validation": {"mean_score": 0.9},
        "evaluation": EVALUATION,
        "predictions": "",
        "data": DATA,
        "data_version": "0123456789abcdef",
        "runtime": {"python": "3.11.9", "packages": {"numpy": "2.4.6"}},
    }
    return model_card(**facts | changes)


def test_card_says_what_is_predicted_how_well_and_by_what() -> None:
    text = write_card()
    assert "Predicts `species`: the species of the bird (classification)." in text
    assert "| accuracy | 0.98 | 0.92 to 1 |" in text
    assert "| log_loss | 0.1 |  |" in text
    assert "is off by 17.0% on average" in text
    assert "| `c0` | 0.3000 ± 0.1000 |" in text
    assert "5 more columns lose less." in text
    assert "| `ringed` | date | 0 | 2007-11-09 to 2009-12-01 |" in text
    assert "| `name` | text | 0 | private |" in text
    assert "Changes since" not in text
    assert "## Slices" not in text
    slices = [("island == Dream", 40, 0.95), ("mass > 4000", 29, None)]
    text = write_card(slices=("accuracy", slices))
    assert "| rows where | rows | accuracy |\n" in text
    assert "| island == Dream | 40 | 0.95 |" in text
    assert "mass > 4000" not in text, "the metric does not follow from answers"


def test_card_of_a_model_of_an_earlier_version_is_shorter() -> None:
    text = write_card(evaluation={"rows": 69})
    assert "| accuracy | 0.98 |  |" in text
    assert "## Calibration" not in text
    assert "## Columns that matter" not in text


def test_card_lists_what_changed_in_the_data() -> None:
    new = copy.deepcopy(DATA)
    new["rows"] |= {"raw": 400, "used": 400}
    new["target"]["classes"] = [
        {"label": "Adelie", "rows": 300},
        {"label": "Chinstrap", "rows": 100},
    ]
    new["columns"]["mass"] |= {"mean": 3500.0, "missing": 60}
    new["columns"]["island"]["dtype"] = "int64"
    new["columns"]["ringed"]["last"] = "2010-01-05T00:00:00"
    new["columns"]["sex"] = new["columns"].pop("name")
    assert list_changes(DATA, new) == [
        "rows: 344, now 400 (+56)",
        "class `Adelie`: 93.0% of the rows, now 75.0%",
        "class `Gentoo`: 7.0% of the rows, now 0.0%",
        "class `Chinstrap`: 0.0% of the rows, now 25.0%",
        "column `mass`: 1% missing, now 15%",
        "column `mass`: mean 4200 ± 800, now 3500",
        "column `island`: type text, now integer",
        "column `ringed`: last 2009-12-01, now 2010-01-05",
        "column `name` is gone",
        "column `sex` is new",
    ]
    assert list_changes(DATA, DATA) == []
    text = write_card(former_data=DATA, former="main")
    assert "### Changes since the data of main\n\nNone that the summaries show." in text


def test_limits_follow_from_the_reports() -> None:
    limits = list_limits(EVALUATION, DATA)
    assert "69 test rows are few: see the intervals." in limits
    assert "Classes with few rows: `Gentoo` (24)." in limits
    assert any("probabilities are inaccurate" in limit for limit in limits)
    assert any("a text that it was not trained on" in limit for limit in limits)
