"""Tables are read as what they are, and the check refuses what a stage would refuse later."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.code.model.tables import CASES, run_cases, write_case

REGRESSION = {"task": "regression"}
TRUTHS = "".join(f"{i},{i % 2 == 0}\n" for i in range(40))
ROWS = "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40))

# name: target, key of the file or its content, more of `data`, more of `train`
CHECKS: dict[str, dict[str, Any]] = {
    "question-mark": {"target": "mpg", "case": "question-mark", "data": REGRESSION},
    "question-mark-set": {
        "target": "mpg",
        "case": "question-mark",
        "data": REGRESSION | {"missing": ["?"]},
    },
    "thousands": {"target": "spent", "case": "thousands", "data": REGRESSION},
    "thousands-set": {
        "target": "spent",
        "case": "thousands",
        "data": REGRESSION | {"thousands": ","},
    },
    "semicolons": {"target": "quality", "case": "semicolons"},
    "semicolons-set": {"target": "quality", "case": "semicolons", "data": {"separator": ";"}},
    "cp1252": {"target": "klasse", "case": "cp1252"},
    "cp1252-set": {"target": "klasse", "case": "cp1252", "data": {"encoding": "cp1252"}},
    "header-only": {"target": "target", "case": "header-only"},
    "class-of-two": {"target": "grade", "case": "class-of-two"},
    "class-of-two-dropped": {
        "target": "grade",
        "case": "class-of-two",
        "data": {"drop_classes": ["c"]},
    },
    "tiny-regression": {"target": "y", "case": "tiny-regression", "data": REGRESSION},
    "empty": {"target": "y", "csv": ""},
    "ragged": {"target": "y", "csv": "x,y\n1,a\n2,b,c\n"},
    "one-class": {"target": "y", "csv": "x,y\n" + "1,a\n" * 20},
    "no-target": {"target": "y", "csv": "x,y\n" + "1,\n" * 10 + ROWS},
    "no-target-at-all": {"target": "y", "csv": "x,y\n" + "1,\n" * 20},
    "no-number-at-all": {"target": "y", "csv": "x,y\n" + "1,NA\n" * 20, "data": REGRESSION},
    "repeated-name": {"target": "y", "csv": "x,y,x\n1,a,2\n"},
    "long-cell": {"target": "y", "csv": f"x,y\n{ROWS}9,{'a' * 200_000}\n{ROWS}"},
    "open-quote": {"target": "y", "csv": f'x,y\n9,"a\n{ROWS * 1000}'},
    "infinite": {"target": "y", "csv": "x,y\ninf,a\n" + ROWS},
    "mixed-encodings": {"target": "y", "csv": b"x,y\n1,\xc3\xa9\n2,\xe9\n"},
    "beyond-64-bits": {"target": "y", "csv": "x,y\n" + f"{2**70},a\n" + ROWS},
    "schema-of-none": {
        "target": "y",
        "csv": "weight,y\n" + ROWS,
        "data": {"schema": {"wieght": {"type": "text"}}},
    },
    "words-in-numbers": {"target": "y", "csv": "x,y\nNA,a\nNULL,b\n" + ROWS},
    "dates": {
        "target": "y",
        "csv": "x,y\n" + "".join(f"2024-01-{i + 1:02},{'ab'[i % 2]}\n" for i in range(30)),
    },
    "dates-set": {
        "target": "y",
        "csv": "x,y\nNA,a\n" + "".join(f"{i % 28 + 1}.2.2024,{'ab'[i % 2]}\n" for i in range(30)),
        "data": {"schema": {"x": {"type": "date", "format": "%d.%m.%Y"}}},
    },
    "no-dates": {
        "target": "y",
        "csv": "x,y\n2024-01-01,a\n20240102,b\n2024-02-30,b\n",
        "data": {"schema": {"x": {"type": "date"}}},
    },
    "format-without-date": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"schema": {"x": {"format": "%Y"}}},
    },
    "date-to-predict": {
        "target": "x",
        "csv": "x,y\n" + "".join(f"2024-01-{i % 2 + 1:02},{i}\n" for i in range(30)),
        "data": {"schema": {"x": {"type": "date"}}},
    },
    "ids": {
        "target": "y",
        "csv": "x,y\n" + "".join(f"C-{i},{'ab'[i % 2]}\n" for i in range(300)),
    },
    "index": {
        "target": "y",
        "csv": "Unnamed: 0,x,y\n" + "".join(f"{i},1,{'ab'[i % 2]}\n" for i in range(40)),
    },
    "too-large": {"target": "y", "csv": "x,y\n" + "1e300,a\n1e299,b\n" * 20},
    "truth-to-predict": {"target": "y", "csv": f"x,y\n{TRUTHS}", "data": REGRESSION},
    "one-value": {"target": "y", "csv": "x,y\n" + "1,5\n2,5\n" * 20, "data": REGRESSION},
    "tabs": {"target": "y", "csv": f"x,y\n{ROWS}".replace(",", "\t")},
    "spellings": {"target": "y", "csv": "x,y\n" + "3, a\n4,B\n" * 9 + ROWS},
    "units": {"target": "y", "csv": "x,y\n" + "".join(f"{i} %,{'ab'[i % 2]}\n" for i in range(40))},
    "codes-with-a-word": {"target": "y", "csv": "x,y\nNA,a\n" + "01,a\n002,b\n" * 20},
    "range": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"schema": {"x": {"minimum": 3, "maximum": 30}}},
    },
    "categories": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"schema": {"y": {"categories": ["a"]}}},
    },
    "typed": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"schema": {"x": {"type": "boolean"}}},
    },
    "typed-text": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"schema": {"x": {"type": "text"}}},
    },
    "private-typed": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"private": ["x"], "schema": {"x": {"type": "boolean"}}},
    },
    "private-target": {"target": "y", "csv": "x,y\n" + ROWS, "data": {"private": ["y"]}},
    "private-unknown": {"target": "y", "csv": "x,y\n" + ROWS, "data": {"private": ["z"]}},
    "private-words": {
        "target": "mpg",
        "case": "question-mark",
        "data": REGRESSION | {"private": ["horsepower"]},
    },
    "unknown-key": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "data": {"schema": {"x": {"typ": "text"}}},
    },
    "gzip": {"target": "y", "csv": gzip.compress(f"x,y\n{ROWS}".encode()), "suffix": ".csv.gz"},
    "not-gzip": {"target": "y", "csv": f"x,y\n{ROWS}", "suffix": ".csv.gz"},
    "no-package": {
        "target": "y",
        "csv": "x,y\n" + ROWS,
        "train": {"estimator": "lightgbm.LGBMClassifier", "params": {"verbose": -1}},
    },
}
REFUSED = {
    "semicolons": "data.separator: data/source/table.csv, line 1: ',' expected after '\"'; is it "
    "';'?",
    "cp1252": "data.encoding: data/source/table.csv, line 1 is not utf-8 text; is it 'cp1252'?",
    "header-only": "data.source: data/source/table.csv has a header, but no rows",
    "class-of-two": "train.cv: class 'c' has 1 rows to train on, too few for 5 folds: use fewer",
    "tiny-regression": "train.cv: 5 folds of 6 rows are too small for r2: use fewer folds",
    "empty": "data.source: data/source/table.csv is empty",
    "ragged": "data.source: data/source/table.csv, line 3: 3 values, not 2",
    "one-class": "data.target: column 'y' has one class only",
    "no-target": "data.target: column 'y' is missing in 10 of 50 rows (rows 1, 2, 3, 4, 5 and 5",
    "no-target-at-all": "data.target: column 'y' has no values",
    "no-number-at-all": "data.target: column 'y' has no values",
    "repeated-name": "data.source: data/source/table.csv: two columns are called 'x'",
    "long-cell": "data.source: data/source/table.csv, line 42: a cell has more than 131,072 char",
    "open-quote": "data.source: data/source/table.csv, line 2: a cell has more than 131,072 char",
    "infinite": "data.source: column 'x' has infinite values in row 1",
    "mixed-encodings": "data.encoding: data/source/table.csv, line 3 is not utf-8 text",
    "too-large": "data.source: column 'x' has numbers beyond 1e+150, which cannot be scaled",
    "truth-to-predict": "data.task: regression needs numbers, and column 'y' has truth values",
    "one-value": "data.target: column 'y' has one value only",
    "tabs": "data.target: 'y' is not a column of data/source/table.csv; is data.separator '\\t'?",
    "range": "data.schema.x: '0', '1', '2', '31', '32', … (rows 1, 2, 3, 32, 33 and 7 more) is ",
    "categories": "data.schema.y.categories: 'b' (rows 2, 4, 6, 8, 10 and 15 more) is not among",
    "typed": "data.schema.x.type: '2', '3', '4', '5', '6', … (rows 3, 4, 5, 6, 7 and 33 more",
    "private-typed": "data.schema.x.type: 38 values (rows 3, 4, 5, 6, 7 and 33 more) is no boolean",
    "private-target": "data.private: 'y' is the target, which the model answers to everybody",
    "private-unknown": "data.private: 'z' is not a column of data/source/table.csv",
    "no-dates": "data.schema.x.type: '20240102', '2024-02-30' (rows 2, 3) is no date such as "
    "2024-01-31 (for others, set data.schema.x.format); if it stands for a missing value",
    "format-without-date": "data.schema.x.format: only a column of type date has a format",
    "date-to-predict": "data.target: column 'x' has dates: predict a number",
    "unknown-key": "data.schema.x.typ: unknown key; did you mean 'type'?",
    "not-gzip": "data.source: data/source/table.csv.gz cannot be unpacked",
    "no-package": "train.estimator: 'lightgbm.LGBMClassifier': the model environment has no "
    "package for 'lightgbm'; add it: uv add --project model --group custom lightgbm",
}
WARNED = {
    "schema-of-none": "data.schema.wieght: the data have no column 'wieght'; did you mean 'weight'",
    "question-mark": "data.schema.horsepower.missing: column 'horsepower' is text, as '?' "
    "(rows 18, 64) is no number",
    "private-words": "data.schema.horsepower.missing: column 'horsepower' is text, as 1 value ",
    "thousands": "data.thousands: column 'income' is text: '45,300', ",
    "words-in-numbers": "data.schema.x.missing: column 'x': 'NA' in 1 rows, 'NULL' in 1 rows is",
    "dates": "data.schema.x.type: column 'x' has dates, which are read as text: set it to date",
    "ids": "data.drop: x: 300 of 300 distinct, which looks like an id",
    "index": "data.drop: column 'Unnamed: 0' is an index",
    "class-of-two-dropped": "",
    "spellings": "data.merge_classes: column 'y': ' a', 'a' differ by spaces or capitals alone",
    "units": "data.source: column 'x' is text: '0 %', '1 %', '2 %' have '%' beside the number",
    "codes-with-a-word": "data.schema.x.type: column 'x' has leading zeros and stays text",
    "cp1252-set": "data.drop: column 'straße' gives 'klasse' away",
}
TYPES = {
    "question-mark-set": {"horsepower": "number", "weight": "integer", "mpg": "number"},
    "thousands-set": {"income": "integer", "age": "integer", "spent": "integer"},
    "semicolons-set": {
        "fixed acidity": "number",
        "volatile acidity": "number",
        "quality": "integer",
    },
    "beyond-64-bits": {"x": "text", "y": "text"},
    "words-in-numbers": {"x": "number", "y": "text"},
    "typed-text": {"x": "text", "y": "text"},
    "dates-set": {"x": "date", "y": "text"},
    "gzip": {"x": "integer", "y": "text"},
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    base = tmp_path_factory.mktemp("tables")
    return run_cases([write_case(base / name, **case) for name, case in CHECKS.items()])


@pytest.mark.parametrize("name", CHECKS)
def test_check_refuses_what_a_stage_would(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    refusal = outcomes[name]["refused"]
    if name in REFUSED:
        assert refusal.startswith(f"params.yaml: {REFUSED[name]}")
    else:
        assert refusal == ""


@pytest.mark.parametrize("name", WARNED)
def test_check_warns_of_likely_mistakes(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    warnings = outcomes[name]["warnings"]
    expected = f"params.yaml: {WARNED[name]}"
    assert any(line.startswith(expected) for line in warnings) if WARNED[name] else not warnings


@pytest.mark.parametrize("name", TYPES)
def test_types_of_columns(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    columns = {column["name"]: column["type"] for column in outcomes[name]["columns"]}
    assert columns == TYPES[name]


@pytest.fixture(scope="module")
def proposals(
    outcomes: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Name of a case -> the proposal for data.schema, and what the check says when it is set."""
    base = tmp_path_factory.mktemp("proposals")
    schemas = {
        name: {column["name"]: column["schema"] for column in outcome["columns"]}
        for name, outcome in outcomes.items()
        if not outcome["refused"]
    }
    folders = []
    for name, schema in schemas.items():
        data = CHECKS[name].get("data", {}) | {"schema": schema}
        folders.append(write_case(base / name, **CHECKS[name] | {"data": data}))
    answers = run_cases(folders)
    return {name: (schema, answers[name]) for name, schema in schemas.items()}


def test_proposals_for_the_schema_are_accepted(
    proposals: dict[str, tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    assert len(proposals) > 10
    for name, (schema, answer) in proposals.items():
        assert answer["refused"] == "", name
        types = {column["name"]: column["type"] for column in answer["columns"]}
        assert types == {column: part["type"] for column, part in schema.items()}, name
    assert proposals["question-mark"][0]["horsepower"] == {"type": "number", "missing": ["?"]}
    assert proposals["codes-with-a-word"][0]["x"] == {"type": "text", "missing": ["NA"]}
    assert proposals["private-words"][0]["horsepower"] == {"type": "text"}
    assert proposals["dates"][0] == {
        "x": {"type": "date"},
        "y": {"type": "text", "categories": ["a", "b"]},
    }
    assert proposals["dates-set"][0]["x"] == {"type": "date", "format": "%d.%m.%Y"}
    assert not any(word in " ".join(proposals["question-mark"][1]["warnings"]) for word in "?")


def test_cases_are_all_used() -> None:
    used = {case["case"] for case in CHECKS.values() if "case" in case}
    served = (Path(__file__).parents[1] / "serving" / "test_tables.py").read_text()
    rest = {path.stem for path in CASES.glob("*.csv")} - used
    assert all(f'"{name}"' in served for name in rest)
