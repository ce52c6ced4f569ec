"""Tables that people have go from the file as it is to served answers, by params.yaml alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.code.model.public_tables import TABLES, make_request
from tests.code.model.tables import run_cases, write_case
from tests.code.serving.running import ask_models

CLASSIFIED = {"penguins", "actg175"}


@pytest.fixture(scope="module")
def answers(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name of the table -> what its server answers to all of its rows."""
    base = tmp_path_factory.mktemp("public")
    folders = [
        write_case(base / name, table.target, public=table.file, data=table.data, is_trained=True)
        for name, table in TABLES.items()
    ]
    former = base / "tips" / "reports" / "predictions.csv"
    former.parent.mkdir()
    former.write_text("actual,predicted\n1,1\n")
    outcomes = run_cases(folders)
    assert not former.exists(), "Git has no row of the data"
    assert (base / "tips" / "data" / "predictions.csv").exists()
    assert not any(outcome["refused"] for outcome in outcomes.values())
    questions = []
    for name, table in TABLES.items():
        model = base / name / "model"
        types = json.loads((model / "paper.runtime.json").read_text())["columns"]
        rows = make_request(table.read_rows(), types)
        unseen = {
            column: "Atlantis" if types[column] == "text" else rows[0][column] for column in types
        }
        questions += [[str(model), "predict", rows], [str(model), "predict", [unseen]]]
    answered = ask_models(runtime, questions)
    pairs = zip(answered[::2], answered[1::2], strict=True)
    return dict(zip(TABLES, pairs, strict=True)) | {"base": base}


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_a_public_table_are_answered(answers: dict[str, Any], name: str) -> None:
    answer = answers[name][0]["answer"]
    assert isinstance(answer, list), answer
    assert TABLES[name].score(answer) >= TABLES[name].least


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
        assert sum(group["rows"] for group in bins) == evaluation["rows"]
        assert all(0 <= group["right"] <= 1 for group in bins)


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
