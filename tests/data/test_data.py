"""What we trust about the data. Yours to change: see docs/your-tests.md."""

import math
from collections import Counter
from statistics import fmean, variance

import pytest

# How many rows of the test split may be in the training split, value by value, as well.
MOST_SHARED = 0.05


@pytest.fixture(scope="module")
def splits(trained):
    return {name: trained.rows(name) for name in ("train", "test")}


def test_columns_are_those_described(trained, splits):
    for rows in splits.values():
        assert {*rows[0]} == {*trained.features, trained.target}
        assert "" not in rows[0]


def test_no_column_numbers_the_rows(trained, splits):
    rows = splits["train"] + splits["test"]
    for column in trained.features:
        values = sorted(row[column] for row in rows if isinstance(row[column], int | float))
        numbered = len(values) == len(rows) and values == [values[0] + i for i in range(len(rows))]
        assert not numbered, f"{column} is an index: add it to data.drop"


def test_every_row_is_in_one_split(trained, splits):
    count = trained.data["rows"]
    assert len(splits["train"]) + len(splits["test"]) == count["used"] <= count["raw"]
    seen = {tuple(row.items()) for row in splits["train"]}
    shared = sum(tuple(row.items()) in seen for row in splits["test"])
    assert shared <= MOST_SHARED * len(splits["test"])


def test_target_is_known_and_varies(trained, splits):
    for rows in splits.values():
        values = [row[trained.target] for row in rows]
        assert None not in values
        assert len(set(values)) > 1


def test_splits_are_alike(trained, splits):
    train, test = ([row[trained.target] for row in splits[name]] for name in ("train", "test"))
    if trained.is_classification:
        shares = [Counter(values) for values in (train, test)]
        for label in {*train, *test}:
            share, other = shares[0][label] / len(train), shares[1][label] / len(test)
            assert share == pytest.approx(other, abs=0.01 + 1 / len(test)), label
    else:
        error = math.sqrt(variance(train) / len(train) + variance(test) / len(test))
        assert abs(fmean(train) - fmean(test)) < 4 * error


def test_no_column_gives_the_target_away(trained, splits):
    rows = splits["train"] + splits["test"]
    for column in trained.features:
        targets = {}
        for row in rows:
            targets.setdefault(row[column], set()).add(row[trained.target])
        repeats = len(targets) <= len(rows) / 2  # else nearly every row has a value of its own
        decides = len(targets) > 1 and all(len(values) == 1 for values in targets.values())
        assert not (repeats and decides), f"{column} says what {trained.target} is"
        assert any(row[column] != row[trained.target] for row in rows), column
