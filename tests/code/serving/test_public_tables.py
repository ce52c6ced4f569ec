"""Tables that people have go from the file as it is to served answers, by params.yaml alone."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.code.model.tables import PUBLIC, run_cases, write_case
from tests.code.serving.running import ask_models

NA = {"missing": ["NA"]}
REGRESSION = {"task": "regression"}
# name: the file, the target, keys of `data`, and the least score of the served answers on all rows
TABLES: dict[str, tuple[str, str, dict[str, Any], float]] = {
    "penguins": ("penguins.csv", "species", NA, 0.97),
    "penguins-raw": (
        "penguins-raw.csv",
        "Body Mass (g)",
        REGRESSION
        | NA
        | {"drop": ["Individual ID", "Comments"], "schema": {"Date Egg": {"type": "date"}}},
        0.8,
    ),
    "tips": ("tips.csv.gz", "tip", REGRESSION, 0.4),
    "gapminder": (
        "gapminder.csv.gz",
        "lifeExp",
        REGRESSION | {"drop": ["country", "iso_alpha", "iso_num"], "split": {"group": "country"}},
        0.6,
    ),
    "actg175": ("actg175.csv", "cens", {"drop": ["Unnamed: 0", "pidnum"]}, 0.8),
    "cars": (
        "cars.csv",
        "Miles_per_Gallon",
        REGRESSION | {"drop": ["Name"], "schema": {"Year": {"type": "date"}}},
        0.8,
    ),
}
CLASSIFIED = {"penguins", "actg175"}


def read_rows(file: str) -> list[dict[str, str]]:
    """Read a table as it stands; a header without a name is called as pandas calls it."""
    path = PUBLIC / file
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
    return [dict(zip(names, row, strict=True)) for row in rows]


def make_request(rows: list[dict[str, str]], types: dict[str, str]) -> list[dict[str, Any]]:
    """Make requests of cells by the types that the model states."""

    def convert(cell: str, kind: str) -> Any:
        if cell in ("", "NA") and kind != "text":
            return None
        return float(cell) if kind in ("number", "integer") else cell or None

    return [{name: convert(row[name], kind) for name, kind in types.items()} for row in rows]


@pytest.fixture(scope="module")
def answers(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name of the table -> what its server answers to all of its rows."""
    base = tmp_path_factory.mktemp("public")
    folders = [
        write_case(base / name, target, public=file, data=data, is_trained=True)
        for name, (file, target, data, _) in TABLES.items()
    ]
    former = base / "tips" / "reports" / "predictions.csv"
    former.parent.mkdir()
    former.write_text("actual,predicted\n1,1\n")
    outcomes = run_cases(folders)
    assert not former.exists(), "Git has no row of the data"
    assert (base / "tips" / "data" / "predictions.csv").exists()
    assert not any(outcome["refused"] for outcome in outcomes.values())
    questions = []
    for name, (file, *_) in TABLES.items():
        model = base / name / "model"
        types = json.loads((model / "paper.runtime.json").read_text())["columns"]
        rows = make_request(read_rows(file), types)
        unseen = {
            column: "Atlantis" if types[column] == "text" else rows[0][column] for column in types
        }
        questions += [[str(model), "predict", rows], [str(model), "predict", [unseen]]]
    answered = ask_models(runtime, questions)
    pairs = zip(answered[::2], answered[1::2], strict=True)
    return dict(zip(TABLES, pairs, strict=True)) | {"base": base}


def score(name: str, answers: list[Any], actual: list[str]) -> float:
    """Return the share of right classes, or the determination."""
    if name in CLASSIFIED:
        pairs = zip(map(str, answers), actual, strict=True)
        return sum(a == b for a, b in pairs) / len(actual)
    values = [
        (answer, float(value))
        for answer, value in zip(answers, actual, strict=True)
        if value not in ("", "NA")
    ]
    mean = sum(value for _, value in values) / len(values)
    errors = sum((answer - value) ** 2 for answer, value in values)
    return 1 - errors / sum((value - mean) ** 2 for _, value in values)


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_a_public_table_are_answered(answers: dict[str, Any], name: str) -> None:
    file, target, _, least = TABLES[name]
    answer = answers[name][0]["answer"]
    assert isinstance(answer, list), answer
    assert score(name, answer, [row[target] for row in read_rows(file)]) >= least


UNSEEN = {
    "penguins": {"island", "sex"},
    "penguins-raw": {"studyName", "Species", "Island", "Clutch Completion", "Sex"},
    "tips": {"sex", "smoker", "day", "time"},
    "gapminder": {"continent"},
    "actg175": set(),
    "cars": {"Origin"},
}


@pytest.mark.parametrize("name", TABLES)
def test_categories_that_a_public_table_lacks_are_said(answers: dict[str, Any], name: str) -> None:
    unseen = answers[name][1]
    assert len(unseen["answer"]) == 1
    assert UNSEEN[name] <= set(unseen["unseen"])


@pytest.mark.parametrize("name", TABLES)
def test_evaluation_has_intervals_and_importance(answers: dict[str, Any], name: str) -> None:
    reports = answers["base"] / name / "reports"
    metrics = json.loads((reports / "metrics.json").read_text())
    evaluation = json.loads((reports / "evaluation.json").read_text())
    assert set(evaluation["intervals"]) >= ({"accuracy"} if name in CLASSIFIED else {"mae", "r2"})
    for metric, (low, high) in evaluation["intervals"].items():
        assert low <= metrics[metric] <= high
        assert low < high, "no certainty"
    columns = [column["name"] for column in evaluation["importance"]["columns"]]
    assert MATTERS[name] in columns[:3]
    if name in CLASSIFIED:
        bins = evaluation["calibration"]["bins"]
        assert sum(one["rows"] for one in bins) == evaluation["rows"]
        assert all(0 <= one["right"] <= 1 for one in bins)


MATTERS = {
    "penguins": "bill_length_mm",
    "penguins-raw": "Sex",
    "tips": "total_bill",
    "gapminder": "continent",
    "actg175": "days",
    "cars": "Weight_in_lbs",
}


def test_data_of_a_public_table_have_a_period(answers: dict[str, Any]) -> None:
    data = json.loads((answers["base"] / "cars" / "reports" / "data.json").read_text())
    year = data["columns"]["Year"]
    assert (year["first"][:10], year["last"][:10]) == ("1970-01-01", "1982-01-01")
