"""Split the data into data/train.csv and data/test.csv, and describe it in reports/data.json."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from model.files import DATA, RAW, TEST, TRAIN, write_json
from model.params import ConfigError, Params, run, suggest
from model.summary import summarize
from model.tables import list_missing_words, list_rows, read_table


def main(params: Params) -> None:
    """Drop columns and rows without a target, split with a fixed seed, stratified by class.

    Args:
        params: `data` and `seed`.

    Raises:
        ConfigError: the data does not fit the parameters, e.g. a class is too small to be split.
    """
    table = read_table(RAW, params.data)
    frame = select_rows(table.frame, params)
    train, test = split(frame, params)
    for path, part in [(TRAIN, train), (TEST, test)]:
        part.to_csv(path, index=False)  # an index would become a column that requests must send
    rows = {
        "raw": len(table.frame),
        "used": len(frame),
        "train": len(train),
        "test": len(test),
    }
    missing = count_missing(table.frame)
    write_json(DATA, _describe(frame, params, rows, table.words, missing))


def count_missing(frame: "pd.DataFrame") -> dict[str, int]:
    """Count the missing values of each column, in rows that are left out as well.

    A value that is missing only beside a missing target may be missing in a request, too.
    """
    return {str(name): int(column.isna().sum()) for name, column in frame.items()}


def select_rows(frame: "pd.DataFrame", params: Params) -> "pd.DataFrame":
    """Leave out rows without a target and of dropped classes, and check what is left.

    Args:
        frame: all rows, from `read_table`.
        params: `data`.

    Raises:
        ConfigError: the data does not fit the parameters.
    """
    target, data = params.data.target, params.data
    missing = frame[target].isna()
    if missing.mean() > data.missing_target:
        problem = (
            f"column '{target}' is missing in {missing.sum()} of {len(frame)} rows "
            f"({list_rows(missing)}); to leave them out, set data.missing_target to the share "
            "of rows that may be"
        )
        raise ConfigError("data.target", problem)
    frame = frame[~missing]
    if data.drop_classes:
        labels = frame[target].map(str)
        if unknown := [label for label in data.drop_classes if not labels.eq(label).any()]:
            hint = suggest(unknown[0], set(labels))
            problem = f"'{unknown[0]}' is not a class of '{target}'{hint}"
            raise ConfigError("data.drop_classes", problem)
        frame = frame[~labels.isin(data.drop_classes)]
    frame = frame.reset_index(drop=True)
    _check(frame, params)
    if data.task == "classification" and frame[target].dtype == np.float64:
        # Whole numbers were read as fractions because rows without a target were among them.
        frame = frame.astype({target: "int64"})
    if frame[target].dtype == "boolean":
        frame = frame.astype({target: "bool"})
    return frame


def split(frame: "pd.DataFrame", params: Params) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Split the rows into those to train on and those to test on, stratified by class."""
    classes = frame[params.data.target] if params.data.task == "classification" else None
    train, test = train_test_split(
        frame, test_size=params.data.test_size, random_state=params.seed, stratify=classes
    )
    return train, test


def _check(frame: "pd.DataFrame", params: Params) -> None:
    if len(frame) < 4:
        raise ConfigError("data.source", f"{len(frame)} rows are too few to train and test on")
    for name, column in frame.items():
        if not column.notna().any():
            raise ConfigError("data.drop", f"column '{name}' has no values: drop it")
        if column.dtype == np.float64 and np.isinf(column).any():
            where = list_rows(np.isinf(column))
            raise ConfigError("data.source", f"column '{name}' has infinite values in {where}")
    target = frame[params.data.target]
    if params.data.task == "regression":
        if target.dtype in (object, bool, "boolean"):
            problem = f"regression needs numbers, and column '{target.name}' has text"
            raise ConfigError("data.task", problem)
        return
    if target.dtype == np.float64 and not (target == target.round()).all():
        problem = f"column '{target.name}' has fractions, not classes: is it a regression?"
        raise ConfigError("data.task", problem)
    counts = target.value_counts()
    if len(counts) < 2:
        raise ConfigError("data.target", f"column '{target.name}' has one class only")
    test_rows = int(np.ceil(len(frame) * params.data.test_size))
    if counts.min() < 2:
        few = ", ".join(f"'{label}'" for label in counts[counts < 2].index[:5])
        problem = (
            f"column '{target.name}' has classes with a single row, too few to split: {few}; "
            "add rows, or name them in data.drop_classes"
        )
        raise ConfigError("data.target", problem)
    if min(test_rows, len(frame) - test_rows) < len(counts):
        problem = f"{test_rows} of {len(frame)} rows cannot hold each of {len(counts)} classes"
        raise ConfigError("data.test_size", problem)


def _describe(
    frame: "pd.DataFrame",
    params: Params,
    rows: dict[str, int],
    words: dict[str, dict[str, int]],
    missing: dict[str, int],
) -> dict[str, Any]:
    target = frame[params.data.target]
    features = frame.drop(columns=params.data.target)
    about: dict[str, Any] = {"name": params.data.target, "dtype": str(target.dtype)}
    about |= {"meaning": params.data.meaning, "unit": params.data.unit}
    if params.data.task == "classification":
        counts = target.value_counts().sort_index()
        about["classes"] = [
            {"label": label, "rows": int(count)}
            for label, count in zip(counts.index.tolist(), counts, strict=True)
        ]
    else:
        about |= {key: float(getattr(target, key)()) for key in ("mean", "std", "min", "max")}
    return {
        "format": 1,
        "source": params.data.source,
        "task": params.data.task,
        "rows": rows,
        "duplicate_rows": int(frame.duplicated().sum()),
        "target": about,
        "columns": {
            str(name): {
                "dtype": str(column.dtype),
                "missing": missing[str(name)],
                # What a client may send for a missing text; elsewhere only null can be sent.
                "missing_words": list_missing_words(params.data, str(name)),
            }
            | ({"words": words[str(name)]} if name in words else {})
            | ({"private": True} if name in params.data.private else {})
            | summarize(column, is_private=name in params.data.private)
            for name, column in features.items()
        },
    }


if __name__ == "__main__":
    run(main)
