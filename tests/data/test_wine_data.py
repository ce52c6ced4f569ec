"""What we trust about the data that a model is trained and evaluated on."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.code.model import support


@pytest.fixture(scope="module")
def folder() -> Path:
    return support.trained_wine()


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, list[dict[str, str]]]:
    read = {}
    for name in ("raw", "train", "test"):
        with (folder / f"data/{name}.csv").open(newline="") as file:
            read[name] = list(csv.DictReader(file))
    return read


@pytest.fixture(scope="module")
def data(folder: Path) -> Any:
    return json.loads((folder / "reports/data.json").read_text())


def test_columns_are_those_described(
    splits: dict[str, list[dict[str, str]]], data: dict[str, Any]
) -> None:
    for rows in splits.values():
        assert [*data["columns"], data["target"]["name"]] == list(rows[0])


def test_there_is_no_index_column(splits: dict[str, list[dict[str, str]]]) -> None:
    for rows in splits.values():
        for column in rows[0]:
            assert column
            assert [row[column] for row in rows] != [str(i) for i in range(len(rows))]


def test_values_are_plausible(splits: dict[str, list[dict[str, str]]]) -> None:
    for row in splits["raw"]:
        assert all(float(value) >= 0 for value in row.values())
        assert 10 < float(row["alcohol"]) < 16


def test_every_row_is_in_one_split(splits: dict[str, list[dict[str, str]]]) -> None:
    raw, train, test = (Counter(tuple(r.values()) for r in splits[n]) for n in splits)
    assert train + test == raw
    assert not train & test


def test_classes_are_in_proportion(splits: dict[str, list[dict[str, str]]]) -> None:
    shares = [
        {
            label: count / len(splits[n])
            for label, count in Counter(r["target"] for r in splits[n]).items()
        }
        for n in ("train", "test")
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)


def test_no_column_gives_the_target_away(splits: dict[str, list[dict[str, str]]]) -> None:
    for column in splits["raw"][0].keys() - {"target"}:
        labels_by_value: dict[str, set[str]] = {}
        for row in splits["raw"]:
            labels_by_value.setdefault(row[column], set()).add(row["target"])
        assert any(len(labels) > 1 for labels in labels_by_value.values()), column
