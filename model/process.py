"""Split the data into data/train.csv and data/test.csv, and describe it.

reports/data.json is for people and for later stages, data/profile.json for the flow `monitor`.
"""

import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from model import dates, splits
from model.files import DATA, PROFILE, RAW, TEST, TRAIN, read_counts, write_json
from model.params import ConfigError, Params, run, suggest
from model.profile import describe_rows
from model.summary import summarize
from model.tables import hash_rows, list_missing_words, list_rows, read_table

WHOLE = re.compile(r"[+-]?\d+")


def main(params: Params) -> None:
    """Drop columns and rows without a target, and split the rest by the rule of `data.split`.

    Args:
        params: `data` and `seed`.

    Raises:
        ConfigError: the data does not fit the parameters, e.g. a class is too small to be split.
    """
    table = read_table(RAW, params.data)
    frame = select_rows(table.frame, params)
    train, test = splits.split(frame, params, RAW, read_counts().rows)
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
    columns = list(get_features(frame, params))  # a split adds those of its rule
    write_json(PROFILE, describe_rows(train[columns], params.data.private))


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

    Returns:
        The rows that are used; their index is their position in the file.

    Raises:
        ConfigError: the data does not fit the parameters.
    """
    target, data = params.data.target, params.data
    missing = frame[target].isna()
    if missing.all():
        raise ConfigError("data.target", f"column '{target}' has no values")
    if missing.mean() > data.missing_target:
        problem = (
            f"column '{target}' is missing in {missing.sum()} of {len(frame)} rows "
            f"({list_rows(missing)}); to leave them out, set data.missing_target to the share "
            "of rows that may be"
        )
        raise ConfigError("data.target", problem)
    frame = frame[~missing]
    if data.task == "classification" and _is_whole(frame[target]):
        # Whole numbers were read as fractions because rows without a target were among them.
        frame = frame.astype({target: "int64"})
    if data.drop_classes:
        labels = _find_labels(frame[target], data.drop_classes, "data.drop_classes")
        frame = frame[~labels.isin(data.drop_classes)]
    if data.merge_classes:
        frame = frame.assign(**{target: _merge_classes(frame[target], data.merge_classes)})
    _check(frame, params)
    if data.weights:
        _check_weights(frame[data.weights])
    if frame[target].dtype == "boolean":
        frame = frame.astype({target: "bool"})
    return frame


def get_features(frame: "pd.DataFrame", params: Params) -> "pd.DataFrame":
    """Leave out the target and the weights."""
    others = [params.data.target, *filter(None, [params.data.weights])]
    return frame.drop(columns=others)


def _find_labels(target: "pd.Series", classes: list[str], key: str) -> "pd.Series":
    """Return the classes of all rows as text; refuse names of classes that no row has."""
    labels = target.map(str)
    if unknown := [label for label in classes if not labels.eq(label).any()]:
        hint = suggest(unknown[0], set(labels))
        raise ConfigError(key, f"'{unknown[0]}' is not a class of '{target.name}'{hint}")
    return labels


def _is_whole(target: "pd.Series") -> bool:
    """Tell whether fractions are whole numbers, none of them infinite."""
    return bool(
        target.dtype == np.float64
        and np.isfinite(target).all()
        and (target == target.round()).all()
    )


def _merge_classes(target: "pd.Series", merge: dict[str, list[str]]) -> "pd.Series":
    """Give classes a common name; it stays a whole number where all classes are."""
    for name, classes in merge.items():
        _find_labels(target, classes, f"data.merge_classes.{name}")
    names = {label: name for name, classes in merge.items() for label in classes}
    if types.is_integer_dtype(target.dtype) and all(WHOLE.fullmatch(name) for name in merge):
        numbers = {label: int(name) for label, name in names.items()}
        return target.map(lambda label: numbers.get(str(label), label)).astype("int64")
    return target.map(lambda label: names.get(str(label), str(label))).astype(object)


def _check_weights(weights: "pd.Series") -> None:
    """Refuse weights that are no numbers, or that leave nothing to learn from."""
    if not types.is_numeric_dtype(weights.dtype) or types.is_bool_dtype(weights.dtype):
        raise ConfigError("data.weights", f"column '{weights.name}' has text, not numbers")
    wrong = weights.isna() | (weights < 0)
    if wrong.any():
        problem = f"column '{weights.name}' is missing or below 0 in {list_rows(wrong)}"
        raise ConfigError("data.weights", problem)
    if not weights.any():
        raise ConfigError("data.weights", f"column '{weights.name}' is 0 in all rows")


def _check_columns(frame: "pd.DataFrame") -> None:
    for name, column in frame.items():
        if not column.notna().any():
            raise ConfigError("data.drop", f"column '{name}' has no values: drop it")
        if column.dtype == np.float64 and np.isinf(column).any():
            where = list_rows(np.isinf(column))
            raise ConfigError("data.source", f"column '{name}' has infinite values in {where}")


def _check(frame: "pd.DataFrame", params: Params) -> None:
    data = params.data
    if len(frame) < 4:
        raise ConfigError("data.source", f"{len(frame)} rows are too few to train and test on")
    _check_columns(frame)
    target = frame[params.data.target]
    if target.dtype == dates.DTYPE:
        raise ConfigError("data.target", f"column '{target.name}' has dates: predict a number")
    if params.data.task == "regression":
        if target.dtype in (object, bool, "boolean"):
            kind = "text" if target.dtype == object else "truth values"
            problem = f"regression needs numbers, and column '{target.name}' has {kind}"
            raise ConfigError("data.task", problem)
        if target.nunique() < 2:
            raise ConfigError("data.target", f"column '{target.name}' has one value only")
        return
    if target.dtype == np.float64:
        problem = f"column '{target.name}' has fractions, not classes: is it a regression?"
        raise ConfigError("data.task", problem)
    counts = target.value_counts()
    if len(counts) < 2:
        raise ConfigError("data.target", f"column '{target.name}' has one class only")
    if data.split.kind != "random":
        return
    test_rows = int(np.ceil(len(frame) * data.test_size))
    if counts.min() < 2:
        few = ", ".join(f"'{label}'" for label in counts[counts < 2].index[:5])
        problem = (
            f"column '{target.name}' has classes with a single row, too few to split: {few}; "
            "add rows, or name them in data.drop_classes or data.merge_classes"
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
    target, rule = frame[params.data.target], params.data.split
    features = get_features(frame, params)
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
        "split": {"kind": rule.kind, "columns": list(rule.columns)},
        "weights": params.data.weights,
        "positive": params.data.positive,
        "duplicate_rows": int(hash_rows(frame).duplicated().sum()),
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
