"""Nested estimators, weights, thresholds, metrics and searches, as params.yaml writes them."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.code.model.tables import run_cases, write_case

LINEAR = "sklearn.linear_model.LogisticRegression"
TREE = "sklearn.tree.DecisionTreeClassifier"
STACK = {
    "estimator": "sklearn.ensemble.StackingClassifier",
    "params": {
        "cv": 3,
        "estimators": {
            "tree": {"estimator": TREE, "params": {"max_depth": 3}},
            "line": {"estimator": LINEAR},
        },
        "final_estimator": {"estimator": LINEAR},
    },
    "grid": {"tree__max_depth": [2, 4], "final_estimator": [{"estimator": LINEAR}]},
    "cv": 3,
}


def make_table() -> str:
    draw = random.Random(2)
    lines = ["person,x,z,town,copies,answer,grade"]
    for i in range(300):
        x, z = draw.randint(0, 99), draw.randint(0, 99)
        answer = "yes" if x + draw.gauss(0, 30) > 80 else "no"
        town = draw.choice(["Ulm", "Bonn", ""])
        grade = "c" if i % 150 == 0 else "ab"[x > 50]
        lines.append(f"P{i % 80},{x},{z},{town},{1 + 20 * (answer == 'yes')},{answer},{grade}")
    return "\n".join(lines) + "\n"


def make_ids() -> str:
    """A text column that is all distinct: one column for each would not fit into the memory."""
    draw = random.Random(1)
    ages = [draw.randint(18, 90) for _ in range(30_000)]
    rows = [f"C-{i:06},{age},{int(draw.random() < age / 120)}\n" for i, age in enumerate(ages)]
    return "customer_id,age,churned\n" + "".join(rows)


DROP = {"drop": ["person", "grade"], "weights": "copies"}
PLAIN = {"drop": ["person", "grade", "copies"]}
GRADES = {"drop": ["person", "answer", "copies"], "merge_classes": {"other": ["b", "c"]}}
TRAINED: dict[str, dict[str, Any]] = {
    "plain": {"data": PLAIN, "train": {"cv": 3}},
    "weights": {"data": DROP, "train": {"cv": 3}},
    # A classifier without probabilities, calibrated on folds that keep people together.
    "weights-groups": {
        "data": DROP | {"split": {"group": "person"}},
        "train": {"estimator": "sklearn.svm.SVC", "cv": 3, "grid": {"C": [0.1, 1.0]}},
    },
    "fixed": {"data": PLAIN | {"positive": "yes"}, "train": {"cv": 3, "threshold": 0.05}},
    "tuned": {
        "data": PLAIN | {"positive": "yes", "split": {"stable": "person"}},
        "train": {"cv": 3, "threshold": "tuned", "scoring": "f1", "grid": {"C": [0.1, 1.0]}},
    },
    "metrics": {
        "data": PLAIN | {"positive": "no"},
        "train": {"cv": 3, "metrics": ["roc_auc", "recall", "neg_brier_score"]},
        "gate": {"metric": "roc_auc", "minimum": 0.5},
    },
    "random-search": {
        "data": PLAIN | {"positive": "no"},
        "train": {
            "search": "random",
            "candidates": 2,
            "grid": {"C": {"loguniform": [0.1, 10]}, "max_iter": {"randint": [90, 110]}},
            "threshold": "tuned",
            "scoring": "balanced_accuracy",
            "cv": 3,
        },
    },
    "halving": {
        "data": PLAIN,
        "train": {"cv": 3, "search": "halving", "grid": {"C": [0.1, 1.0, 10.0]}},
    },
    "merged": {"target": "grade", "data": GRADES, "train": {"cv": 3}},
    "stack": {"data": PLAIN, "train": STACK},
    "vote": {
        "data": PLAIN,
        "train": {
            "estimator": "sklearn.ensemble.VotingClassifier",
            "params": {"voting": "soft", "estimators": STACK["params"]["estimators"]},
            "grid": {"estimators": [STACK["params"]["estimators"]]},
            "cv": 3,
        },
    },
    "as-it-is": {
        "data": {"drop": ["person", "grade", "town", "copies"]},
        "train": {"estimator": TREE, "params": {"max_depth": 3}, "preparation": False, "cv": 3},
    },
    "chosen-step": {
        "data": PLAIN | {"drop": [*PLAIN["drop"], "town"]},
        "train": {
            "transformers": [
                {
                    "name": "curve",
                    "transformer": "sklearn.preprocessing.PolynomialFeatures",
                    "params": {"include_bias": False},
                }
            ],
            "grid": {"curve__degree": [1, 2], "C": [1.0]},
            "cv": 3,
        },
    },
}
TRAINED["ids"] = {
    "target": "churned",
    "csv": make_ids(),
    "train": {"cv": 2, "probabilities": False},
    "gate": {"metric": "accuracy", "minimum": 0.5},
}
MISSPELT = {"estimator": LINEAR, "parms": {}}
RANDOM = {"search": "random"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-weights": (
        {"data": DROP, "train": {"estimator": "sklearn.neighbors.KNeighborsClassifier"}},
        "data.weights: sklearn.neighbors.KNeighborsClassifier takes no weights",
    ),
    "weights-of-text": (
        {"data": {"drop": ["person"], "weights": "town"}},
        "data.weights: column 'town' has text, not numbers",
    ),
    "weights-dropped": (
        {"data": PLAIN | {"weights": "copies"}},
        "data.weights: 'copies' is in data.drop, too",
    ),
    "no-such-class": (
        {"data": PLAIN | {"positive": "maybe"}},
        "data.positive: 'maybe' is not a class of 'answer'",
    ),
    "three-classes": (
        {"target": "grade", "data": {"drop": ["person"], "positive": "a"}, "train": {"cv": 2}},
        "data.positive: needs a classification of two classes, and there are 3",
    ),
    "unnamed-class": (
        {"data": PLAIN, "train": {"scoring": "f1"}},
        "train.scoring: 'f1' does not suit this classification: ",
    ),
    "threshold-of-none": (
        {"data": PLAIN, "train": {"threshold": 0.3}},
        "train.threshold: name the class that is answered above it in data.positive",
    ),
    "threshold-of-area": (
        {"data": PLAIN, "train": {"threshold": "tuned", "scoring": "roc_auc"}},
        "train.threshold: 'roc_auc' does not depend on a threshold: set train.scoring",
    ),
    "measured-twice": (
        {"data": PLAIN, "train": {"metrics": ["accuracy"]}},
        "train.metrics[0]: 'accuracy' is measured already",
    ),
    "unknown-metric": (
        {"data": PLAIN, "train": {"metrics": ["roc_acu"]}},
        "train.metrics[0]: unknown scorer 'roc_acu'; did you mean 'roc_auc'?",
    ),
    "unmeasured": (
        {"data": PLAIN, "gate": {"metric": "roc_auc"}},
        "gate.metric: 'roc_auc' is not measured for classification",
    ),
    "no-such-class-to-merge": (
        {"target": "grade", "data": GRADES | {"merge_classes": {"other": ["d"]}}},
        "data.merge_classes.other: 'd' is not a class of 'grade'",
    ),
    "nested": (
        {"data": PLAIN, "train": STACK | {"params": {"estimators": {"a": {"estimator": "x.Y"}}}}},
        "train.params.estimators.a.estimator: 'x.Y': the model environment has no package for 'x'",
    ),
    "nested-typo": (
        {"data": PLAIN, "train": STACK | {"params": {"final_estimator": MISSPELT}}},
        "train.params.final_estimator.parms: unknown key; did you mean 'params'?",
    ),
    "stack-without-an-end": (
        {
            "data": PLAIN,
            "train": {
                "estimator": STACK["estimator"],
                "params": {"estimators": {"line": {"estimator": LINEAR}}},
            },
        },
        "train.probabilities: sklearn.ensemble.StackingClassifier cannot be calibrated: use false, "
        "or name train.params.final_estimator",
    ),
    "unknown-distribution": (
        {"data": PLAIN, "train": RANDOM | {"grid": {"C": {"loguniforn": [1, 2]}}}},
        "train.grid.C.loguniforn: unknown distribution; did you mean 'loguniform'? Allowed: logun",
    ),
    "limits": (
        {"data": PLAIN, "train": RANDOM | {"grid": {"C": {"loguniform": [0, 1]}}}},
        "train.grid.C.loguniform: the first has to be more than 0 and less than the second",
    ),
    "one-limit": (
        {"data": PLAIN, "train": RANDOM | {"grid": {"max_iter": {"randint": [1.5]}}}},
        "train.grid.max_iter.randint: needs two whole numbers, [low, high], not [1.5]",
    ),
    "drawn-out-of-range": (
        {"data": PLAIN, "train": RANDOM | {"grid": {"l1_ratio": {"uniform": [0, 2]}}}},
        "train.grid.l1_ratio: The 'l1_ratio' parameter of LogisticRegression must be",
    ),
    "drawn-of-another-type": (
        {"data": PLAIN, "train": RANDOM | {"grid": {"max_iter": {"uniform": [50, 60]}}}},
        "train.grid.max_iter: The 'max_iter' parameter of LogisticRegression must be an int",
    ),
    "drawn-by-a-grid": (
        {"data": PLAIN, "train": {"grid": {"C": {"uniform": [1, 2]}}}},
        "train.grid: C is a distribution, which only `search: random` draws from",
    ),
    "no-list": (
        {"data": PLAIN, "train": {"grid": {"C": 1.0}}},
        "train.grid: C has to be a list of values, or a distribution",
    ),
    "unknown-step": (
        {"data": PLAIN, "train": {"grid": {"curve__degree": [1]}}},
        "train.grid.curve__degree: sklearn.linear_model.LogisticRegression has no parameter",
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def outcomes(base: Path) -> dict[str, dict[str, Any]]:
    given = {"target": "answer", "csv": make_table()}
    cases = {name: case | {"is_trained": True} for name, case in TRAINED.items()}
    cases |= {name: case for name, (case, _) in REFUSED.items()}
    return run_cases([write_case(base / name, **given | case) for name, case in cases.items()])


def read(base: Path, name: str, report: str) -> dict[str, Any]:
    return dict(json.loads((base / name / f"reports/{report}.json").read_text()))


def recall(base: Path, name: str, label: str) -> float:
    classes = read(base, name, "evaluation")["per_class"]
    return float(next(row["recall"] for row in classes if row["label"] == label))


@pytest.mark.parametrize("name", TRAINED)
def test_it_trains(base: Path, outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name]["refused"] == ""
    assert read(base, name, "metrics")["accuracy"] > 0.4


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name]["refused"].startswith(f"params.yaml: {REFUSED[name][1]}")


@pytest.mark.usefixtures("outcomes")
def test_heavy_rows_win(base: Path) -> None:
    assert recall(base, "plain", "yes") < 0.9
    assert recall(base, "weights", "yes") > 0.95
    assert "copies" not in read(base, "weights", "data")["columns"]


@pytest.mark.usefixtures("outcomes")
def test_threshold_moves_the_answers(base: Path) -> None:
    assert recall(base, "fixed", "yes") > 0.95
    assert 0 < read(base, "tuned", "cv")["threshold"] < 1
    golden = json.loads((base / "fixed/model/paper.golden.json").read_text())["outputs"]
    assert golden["predict"] == ["yes" if p[1] >= 0.05 else "no" for p in golden["predict_proba"]]


@pytest.mark.usefixtures("outcomes")
def test_threshold_is_told_of_the_positive_class(base: Path) -> None:
    threshold = read(base, "random-search", "cv")["threshold"]
    assert threshold > 0.6, "most rows are of the class"
    golden = json.loads((base / "random-search/model/paper.golden.json").read_text())["outputs"]
    answers = ["no" if p[0] > threshold else "yes" for p in golden["predict_proba"]]
    assert golden["predict"] == answers


@pytest.mark.usefixtures("outcomes")
def test_metrics_are_of_the_positive_class(base: Path) -> None:
    metrics = read(base, "metrics", "metrics")
    assert metrics["recall"] == recall(base, "metrics", "no")
    assert metrics["neg_brier_score"] < 0 < metrics["roc_auc"]
    assert read(base, "metrics", "evaluation")["dummy"]["metrics"]["roc_auc"] == 0.5


@pytest.mark.usefixtures("outcomes")
def test_searches_try_what_they_say(base: Path) -> None:
    drawn = read(base, "random-search", "cv")
    assert drawn["candidates"] == 2
    assert 0.1 <= drawn["best_params"]["C"] <= 10
    assert drawn["best_params"]["max_iter"] in range(90, 110)
    assert read(base, "halving", "cv")["candidates"] == 3
    assert set(read(base, "chosen-step", "cv")["best_params"]) == {"curve__degree", "C"}
    assert "LogisticRegression" in read(base, "stack", "cv")["best_params"]["final_estimator"]
    assert read(base, "vote", "cv")["best_params"]["estimators"][0][0] == "tree"


@pytest.mark.usefixtures("outcomes")
def test_classes_are_merged(base: Path) -> None:
    assert [row["label"] for row in read(base, "merged", "data")["target"]["classes"]] == [
        "a",
        "other",
    ]
