"""A model answers rows as they stand in its table: classes, codes, names, truth values."""

import csv
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.code.model.tables import CASES, run_cases, write_case
from tests.code.serving.running import ask_models

# A name, an income and a membership of each person, none of which may leave the data.
INCOMES = [40_000.13 + 7.77 * number for number in range(60)]
PEOPLE = "name,income,member,born,x,y\n" + "".join(
    f"Alice-{number % 6},{income:.2f},{number % 3 == 0},19{number + 20}-05-17,"
    f"{number % 2 - 0.5},{'ab'[number % 2]}\n"
    for number, income in enumerate(INCOMES)
)
PRIVATE = ["name", "income", "member", "born"]
# A shop that is busy at weekends; of some days the date is not known.
DAYS = "day,x,busy\n" + "".join(
    f"{day.strftime('%d.%m.%Y') if day.day != 13 else ''},{day.day},{day.weekday() > 4}\n"
    for day in (date(2024, 1, 1) + timedelta(number) for number in range(120))
)
TRAINED: dict[str, dict[str, Any]] = {
    "private": {
        "target": "y",
        "csv": PEOPLE,
        "data": {"private": PRIVATE, "schema": {"x": {"maximum": 1}, "born": {"type": "date"}}},
    },
    "class-named-none": {"target": "severity"},
    "category-na": {"target": "price", "data": {"task": "regression"}},
    "leading-zeros": {"target": "agent"},
    "column-named-1": {"target": "target"},
    "boolean-with-holes": {"target": "bought"},
    "nearly-empty-text": {"target": "target"},
    "dates": {
        "target": "busy",
        "csv": DAYS,
        "data": {"schema": {"day": {"type": "date", "format": "%d.%m.%Y"}}},
        "train": {"estimator": "sklearn.tree.DecisionTreeClassifier"},
    },
}


@pytest.fixture(scope="module")
def answers(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All answers, from one process: name of the question -> answer."""
    base = tmp_path_factory.mktemp("tables")
    folders = [
        write_case(
            base / name, is_trained=True, **(case if "csv" in case else case | {"case": name})
        )
        for name, case in TRAINED.items()
    ]
    outcomes = run_cases(folders)
    assert not any(outcome["refused"] for outcome in outcomes.values())
    questions = [[str(base / name / "model"), *question] for name, *question in QUESTIONS.values()]
    results = dict(zip(QUESTIONS, ask_models(runtime, questions), strict=True))
    answered = {name: result["answer"] for name, result in results.items()}
    return answered | {"folders": base, "unseen": results["private"]["unseen"]}


def read_rows(name: str) -> list[dict[str, str]]:
    with (CASES / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


QUESTIONS: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "classes": (
        "class-named-none",
        "predict",
        [{"x1": float(r["x1"]), "x2": float(r["x2"])} for r in read_rows("class-named-none")],
    ),
    "category": (
        "category-na",
        "predict",
        [{"area": float(r["area"]), "basement": r["basement"]} for r in read_rows("category-na")],
    ),
    "code": ("leading-zeros", "predict", [{"zip": "01234", "x": 1.9}, {"zip": "00501", "x": -1.9}]),
    "code as a number": ("leading-zeros", "predict", [{"zip": 1234, "x": 1.9}]),
    "name of digits": ("column-named-1", "predict", [{"1": 2, "y": 2.0}, {"1": -2.5, "y": -2.0}]),
    "truth values": (
        "boolean-with-holes",
        "predict_proba",
        [{"member": m, "x": 0.1} for m in (True, False, None)],
    ),
    "truth as text": ("boolean-with-holes", "predict", [{"member": "true", "x": 0.1}]),
    "private": (
        "private",
        "predict",
        [
            {"name": name, "income": 4e4, "member": True, "born": "1950-01-01", "x": x}
            for name, x in (("Alice-1", -0.5), ("Bob", 0.5))
        ],
    ),
    "dates": (
        "dates",
        "predict",
        [{"day": day, "x": 1} for day in ("2024-06-01", "2024-06-03T12:00:00Z", None)],
    ),
    "no date": ("dates", "predict", [{"day": "20240601", "x": 1}]),
    "nearly empty": (
        "nearly-empty-text",
        "predict",
        [{"note": None, "x": 2.0}, {"note": "new", "x": -2.0}],
    ),
}


def test_class_named_none_is_a_class(answers: dict[str, Any]) -> None:
    labels = [row["severity"] for row in read_rows("class-named-none")]
    assert set(answers["classes"]) == {"None", "Mild", "Severe"}
    right = sum(a == b for a, b in zip(answers["classes"], labels, strict=True))
    assert right > 80, "of 90"


def test_category_named_na_is_a_category(answers: dict[str, Any]) -> None:
    rows = read_rows("category-na")
    errors = [
        abs(answer - float(row["price"]))
        for answer, row in zip(answers["category"], rows, strict=True)
        if row["basement"] == "NA"
    ]
    assert len(errors) > 20
    assert max(errors) < 30


def test_dates_are_their_parts(answers: dict[str, Any]) -> None:
    assert answers["dates"][:2] == [True, False]
    assert answers["dates"][2] in (True, False)
    assert answers["no date"] == (
        "Row 1, column 'day': must be a date, such as 2026-01-31 or 2026-01-31T12:00:00Z, or null"
        " for a missing value."
    )


def test_leading_zeros_are_kept(answers: dict[str, Any]) -> None:
    assert set(answers["code"]) <= {"007", "042"}
    assert answers["code as a number"] == "Row 1, column 'zip': must be text."


def test_column_may_be_named_by_digits(answers: dict[str, Any]) -> None:
    assert answers["name of digits"] == [1, 0]


def test_truth_value_may_be_missing(answers: dict[str, Any]) -> None:
    true, false, missing = answers["truth values"]
    assert true != false
    assert missing in (true, false), "the median"
    expected = "must be true or false, or null for a missing value."
    assert answers["truth as text"] == f"Row 1, column 'member': {expected}"


def test_nearly_empty_text_is_trained_on(answers: dict[str, Any]) -> None:
    assert answers["nearly empty"] == [1, 0]


def test_private_values_are_in_no_file_of_git_and_no_message(answers: dict[str, Any]) -> None:
    assert answers["private"] == ["a", "b"]
    assert answers["unseen"] == {}, "nobody is told that Bob is not among the people"
    folder = answers["folders"] / "private"
    inputs = json.loads((folder / "model" / "paper.golden.json").read_text())["inputs"]
    assert {row["name"] for row in inputs} == {"(private)"}
    assert not {row["income"] for row in inputs} & set(INCOMES)
    assert all(40_000 <= row["income"] <= 41_000 for row in inputs), "usual for the model"
    stored = [folder / "data", folder / "model" / "paper", folder / "model" / "estimator.pkl"]
    for path in folder.rglob("*"):
        if path.is_file() and not any(path.is_relative_to(other) for other in stored):
            text = path.read_text()
            assert "Alice" not in text, path
            assert "-05-17" not in text, path
            assert not any(f"{income:.2f}" in text for income in INCOMES), path
