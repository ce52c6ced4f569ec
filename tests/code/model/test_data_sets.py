"""Other data: only params.yaml and the data change."""

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.training.evidence import compare, parse_evaluation
from tasks.training.probabilities import measure_probabilities, parse_probabilities
from tests.code.model import support


def customers(path: Path) -> None:
    """Text, numbers, missing values of both, truth values, decimal commas, labels of text."""
    draw = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "age", "income", "city", "is_member", "visits", "churn"])
        for i in range(200):
            age = draw.randint(18, 80)
            city = draw.choice(["Ulm", "Köln", "Bonn, am Rhein"])
            churn = "stays" if age + 20 * (city == "Ulm") + draw.gauss(0, 5) > 55 else "leaves"
            income = f"{draw.uniform(1, 5):.2f}".replace(".", ",")
            writer.writerow(
                [
                    i,
                    age,
                    "" if i % 9 == 0 else income,
                    "" if i % 7 == 0 else city,
                    "" if i % 50 == 0 else draw.choice(["True", "False"]),
                    draw.randint(0, 9),
                    "" if i == 5 else churn,
                ]
            )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("data_sets")
    made = {
        "cancer": support.workspace(
            base / "cancer",
            name="cancer",
            data={"source": "sklearn.datasets.load_breast_cancer"},
            train={"grid": {"C": [1.0]}, "cv": 3},
        ),
        "diabetes": support.workspace(
            base / "diabetes",
            name="diabetes",
            data={"source": "sklearn.datasets.load_diabetes", "task": "regression"},
            train={"estimator": "sklearn.linear_model.Ridge", "scoring": "r2"}
            | {"params": {}, "grid": {"alpha": [0.1, 1.0]}},
            gate={"metric": "r2", "minimum": 0.3},
        ),
        "churn": support.workspace(
            base / "churn",
            name="churn",
            data={"source": "data/source/my.csv", "separator": ";", "decimal": ","}
            | {"target": "churn", "drop": ["id"]},
            train={"cv": 3, "grid": {"C": [1.0, 10.0]}},
        ),
    }
    customers(made["churn"] / "data/source/my.csv")
    support.run_stages(*made.values())
    return made


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_classification_of_two_classes(folders: dict[str, Path]) -> None:
    assert read(folders["cancer"] / "reports/metrics.json")["f1_macro"] > 0.93


def test_regression_on_numbers(folders: dict[str, Path]) -> None:
    folder = folders["diabetes"]
    metrics = read(folder / "reports/metrics.json")
    assert set(metrics) == {"mae", "rmse", "r2"}
    assert metrics["r2"] > 0.35
    assert set(read(folder / "model/diabetes.golden.json")["outputs"]) == {"predict"}
    assert read(folder / "model/diabetes.runtime.json")["classes"] is None
    header = (folder / "data/predictions.csv").read_text().splitlines()[0]
    assert header == "actual,predicted"
    support.dvc("plots", "show", "--out", ".dvc/tmp/plots", cwd=folder)
    page = (folder / ".dvc/tmp/plots/index.html").read_text()
    assert '"mark": {"type": "point"' in page, "not the scatter plot"


@pytest.mark.parametrize("name", ["cancer", "diabetes", "churn"])
def test_gate_finds_the_metrics_in_the_answers(folders: dict[str, Path], name: str) -> None:
    metrics = read(folders[name] / "reports/metrics.json")
    answers = (folders[name] / "data/predictions.csv").read_text()
    lock = "stages: {evaluate: {deps: [{path: data/test.csv, md5: a0}]}}"
    model = parse_evaluation(metrics, answers, lock)
    comparable = {
        metric for metric in metrics if compare(model, model, metric, more_is_better=True)
    }
    assert comparable == set(metrics) - {"log_loss"}
    actual, probabilities = parse_probabilities(answers)
    assert bool(probabilities.rows) == ("log_loss" in metrics)
    if probabilities.rows:
        assert actual == model.actual
        assert probabilities.classes == sorted(set(model.actual))
        losses, _ = measure_probabilities(probabilities.classes, model.actual, probabilities.rows)
        assert sum(losses) / len(losses) == pytest.approx(metrics["log_loss"], rel=1e-4)
    dummy = read(folders[name] / "reports/evaluation.json")["dummy"]
    constant = replace(
        model, metrics=dummy["metrics"], predicted=[str(dummy["answer"])] * len(model.actual)
    )
    metric = "rmse" if "rmse" in metrics else "f1_macro"
    comparison = compare(model, constant, metric, more_is_better=metric != "rmse")
    assert comparison
    assert comparison.word(0) == "better", "its metrics are those of its one answer"


def test_text_and_missing_values(folders: dict[str, Path]) -> None:
    folder = folders["churn"]
    data = read(folder / "reports/data.json")
    assert data["rows"]["used"] == 199
    assert {name: column["dtype"] for name, column in data["columns"].items()} == {
        "age": "int64",
        "income": "float64",
        "city": "object",
        "is_member": "boolean",
        "visits": "int64",
    }
    runtime = read(folder / "model/churn.runtime.json")
    assert runtime["classes"] == ["leaves", "stays"]
    assert runtime["nullable"] == ["income", "city", "is_member"]
    golden = read(folder / "model/churn.golden.json")
    assert any(row["city"] is None for row in golden["inputs"])
    assert any(row["income"] is None for row in golden["inputs"])
    assert read(folder / "reports/metrics.json")["accuracy"] > 0.75


def test_missing_text_may_be_none_or_nan(folders: dict[str, Path]) -> None:
    script = """
import json, sys
import numpy as np, pandas as pd
sys.path.insert(0, ".")
from pathlib import Path
from model import mlem_api
model = mlem_api.load(Path("model/churn"))
golden = json.load(open("model/churn.golden.json"))
for missing in (None, np.nan):
    frame = pd.DataFrame(golden["inputs"]).astype({"is_member": "boolean"})
    values = [missing if pd.isna(v) else v for v in frame["city"]]
    frame["city"] = pd.Series(values, dtype=object)
    assert model.predict(frame).tolist() == golden["outputs"]["predict"], missing
    proba = np.array(golden["outputs"]["predict_proba"])
    assert np.allclose(model.predict_proba(frame), proba), missing
"""
    support.model_python("-c", script, cwd=folders["churn"])


def test_probabilities_of_many_rows_are_those_of_a_share() -> None:
    script = """
import sys
import numpy, pandas
from model.evaluate import write_probabilities
shares = numpy.full((25_000, 2), [1 / 3, 2 / 3])
table = pandas.DataFrame({"actual": ["a"] * 25_000, "predicted": ["b"] * 25_000})
table.join(write_probabilities(shares, ["a", "b"], table.index)).to_csv(sys.stdout, index=False)
"""
    text = support.model_python("-c", script, cwd=support.ROOT).stdout
    actual, probabilities = parse_probabilities(text)
    assert len(actual) == len(probabilities.rows) == 8_334
    assert probabilities.rows[0] == [0.333333, 0.666667]
    assert len(parse_evaluation({}, text, "").predicted) == 25_000
