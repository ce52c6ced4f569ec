"""Rows are split by the rule of `data.split`, and what has to stay together stays together."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.code.model.support import ROOT, model_python
from tests.code.model.tables import run_cases, write_case

COLUMNS = ["customer", "day", "x", "z", "weight", "answer"]
TREE = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3}, "cv": 3}
SVC = {"estimator": "sklearn.svm.SVC", "cv": 3}
# It passes no groups on, and need not: only a calibration divides rows once more.
BOOST = {
    "estimator": "sklearn.ensemble.AdaBoostClassifier",
    "params": {"n_estimators": 5},
    "cv": 3,
}


def make_rows(count: int) -> list[list[Any]]:
    """Make rows of which the first are the same whatever the count; every fifth repeats another."""
    draw = random.Random(1)
    rows: list[list[Any]] = []
    for i in range(count):
        customer, x, z = draw.randint(0, 59), draw.randint(0, 99), draw.randint(0, 99)
        answer = "yes" if x + customer + draw.gauss(0, 20) > 90 else "no"
        day = f"2026-{1 + i // 28 % 12:02}-{1 + i % 28:02}"
        row = [f"C{customer}", day, x, z, 1 + i % 3, answer]
        rows.append([*rows[i - 3][:1], day, *rows[i - 3][2:]] if i % 5 == 4 else row)
    return rows


def to_csv(rows: list[list[Any]]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in [COLUMNS, *rows])


def _turn(day: str) -> str:
    return "".join(reversed(day.split("-")))


SMALL, LARGE = make_rows(300), make_rows(600)
DROP = ["customer", "day", "weight"]
RULES: dict[str, dict[str, Any]] = {
    "stable": {"data": {"drop": DROP}, "train": TREE},
    "stable-key": {"data": {"drop": DROP, "split": {"stable": "customer"}}, "train": SVC},
    "time": {"data": {"drop": DROP, "split": {"time": "day"}}, "train": SVC},
    # In an order that neither text nor numbers have.
    "time-written-otherwise": {
        "csv": to_csv([[row[0], _turn(row[1]), *row[2:]] for row in SMALL]),
        "data": {
            "drop": DROP,
            "split": {"time": "day"},
            "schema": {"day": {"type": "date", "format": "%d%m%Y"}},
        },
        "train": TREE,
    },
    "group": {"data": {"drop": DROP, "split": {"group": ["customer"]}}, "train": BOOST},
    "random": {"data": {"drop": DROP, "split": "random"}, "train": TREE},
    "file": {
        "data": {"drop": DROP, "split": {"file": "data/source/later.csv"}},
        "train": TREE,
    },
}
ROWS = {"target": "answer", "csv": to_csv(SMALL)}
FEW_CONTENTS = "x,answer\n" + "".join(f"{i % 20},{'no' if i % 2 else 'yes'}\n" for i in range(200))
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"split": "chance"}, "data.split: name one of stable, random, time, group, file"),
    "no-group": ({"split": "group"}, "data.split: name the column of groups"),
    "no-time": ({"split": {"time": ["day", "x"]}}, "data.split: name the column of times"),
    "no-column": ({"split": {"time": "dya"}}, "data.split: 'dya' is not a column"),
    "target": ({"split": {"group": "answer"}}, "data.split: 'answer' is the target"),
    "not-a-time": ({"split": {"time": "customer"}}, "data.split: column 'customer': 'C8', "),
    "no-file": ({"split": {"file": "data/source/no.csv"}}, "data.split: no such file"),
    "few-moments": ({"split": {"time": "weight"}}, "train.cv: 5 folds need more than 5 moments"),
    "one-row": (
        {"split": "random", "target": "z", "task": "regression", "test_size": 0.001},
        "data.split: 'random' leaves 1 row of 300 to test on, and r2 needs 2",
    ),
    "one-side": (
        {"split": {"stable": "x"}, "test_size": 0.001},
        "data.split: 'stable' leaves no row of 300 to test on",
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("splits")


@pytest.fixture(scope="module")
def outcomes(base: Path) -> dict[str, dict[str, Any]]:
    folders = []
    for name, case in RULES.items():
        given = {**case, "is_trained": True, "has_size": False}
        folders.append(write_case(base / name, **ROWS | given))
        if name.startswith("stable"):
            large = write_case(base / f"{name}-large", "answer", to_csv(LARGE), **given)
            folders.append(large)
    # The columns of a file of test rows may be in another order.
    later = [COLUMNS[::-1], *(row[::-1] for row in LARGE[-50:])]
    text = "".join(",".join(map(str, row)) + "\n" for row in later)
    (base / "file/data/source/later.csv").write_text(text)
    folders += [write_case(base / name, **ROWS, data=data) for name, (data, _) in REFUSED.items()]
    folders.append(write_case(base / "rough", "answer", FEW_CONTENTS, has_size=False))
    return run_cases(folders)


def test_split_of_few_contents_is_called_rough(outcomes: dict[str, dict[str, Any]]) -> None:
    warning = "params.yaml: data.split: 180 rows repeat others and stay with them, so the shares"
    assert any(line.startswith(warning) for line in outcomes["rough"]["warnings"])


def read_split(folder: Path, name: str) -> list[tuple[str, ...]]:
    with (folder / f"data/{name}.csv").open(newline="") as file:
        return [(row["x"], row["z"]) for row in csv.DictReader(file)]


def read_column(folder: Path, split: str, name: str) -> list[str]:
    with (folder / f"data/{split}.csv").open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", RULES)
def test_rule_trains(base: Path, outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name]["refused"] == ""
    data = json.loads((base / name / "reports/data.json").read_text())
    assert list(data["columns"]) == ["x", "z"]
    rows = data["rows"]
    assert rows["train"] + rows["test"] == rows["used"] == (350 if name == "file" else 300)
    assert 0.1 < rows["test"] / rows["used"] < 0.3
    assert (base / name / "reports/metrics.json").is_file()


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize("name", ["stable", "stable-key"])
def test_row_stays_on_its_side_when_the_data_grow(base: Path, name: str) -> None:
    trained, tested = (set(read_split(base / name, split)) for split in ("train", "test"))
    later = {split: set(read_split(base / f"{name}-large", split)) for split in ("train", "test")}
    assert trained <= later["train"]
    assert tested <= later["test"]
    if name == "stable":
        assert not later["train"] & later["test"], "rows of equal content are on both sides"


def test_random_split_has_repeated_rows_on_both_sides(
    base: Path, outcomes: dict[str, dict[str, Any]]
) -> None:
    warning = "rows repeat others, so some may be trained and tested on: set it to stable"
    assert any(line.endswith(warning) for line in outcomes["random"]["warnings"])
    assert not any("data.split" in line for line in outcomes["stable"]["warnings"])
    assert set(read_split(base / "random", "train")) & set(read_split(base / "random", "test"))


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize("name", ["group", "stable-key"])
def test_customers_are_on_one_side(base: Path, name: str) -> None:
    customers = [read_column(base / name, split, "customer") for split in ("train", "test")]
    assert not set(customers[0]) & set(customers[1])


@pytest.mark.usefixtures("outcomes")
def test_test_rows_are_the_latest(base: Path) -> None:
    days = {split: read_column(base / "time", split, "day") for split in ("train", "test")}
    assert days["train"] == sorted(days["train"])
    assert max(days["train"]) < min(days["test"])
    for split, iso in days.items():
        assert read_column(base / "time-written-otherwise", split, "day") == list(map(_turn, iso))


@pytest.mark.usefixtures("outcomes")
def test_test_rows_are_those_of_the_file(base: Path) -> None:
    tested = read_split(base / "file", "test")
    assert tested == [(str(row[2]), str(row[3])) for row in LARGE[-50:]]


@pytest.mark.parametrize("name", REFUSED)
def test_rule_that_does_not_fit_is_refused(outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name]["refused"].startswith(f"params.yaml: {REFUSED[name][1]}")


FOLDS = """
from model import files, params, splits
given = params.load()
rows = files.read_split(files.TRAIN, given.data.target)
pairs, groups = splits.make_folds(rows, given)
assert len(pairs) == given.train.cv
kind, keys = given.data.split.kind, rows.keys
for fitted, scored in pairs:
    assert not set(fitted) & set(scored)
    if kind == "time":
        assert keys.iloc[fitted, 0].max() < keys.iloc[scored, 0].min()
    elif len(keys.columns):
        assert not set(keys.iloc[fitted, 0]) & set(keys.iloc[scored, 0])
    else:
        rows_of = rows.features.apply(tuple, axis=1)
        assert not set(rows_of[fitted]) & set(rows_of[scored])
"""


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize("name", ["stable", "stable-key", "time", "group"])
def test_folds_follow_the_rule(base: Path, name: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FOLDS}"
    model_python("-c", code, cwd=base / name)
