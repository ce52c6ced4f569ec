"""Split the data into data/train.csv and data/test.csv, and describe it in reports/data.json."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from sklearn.model_selection import train_test_split

from model.files import DATA, RAW, TEST, TRAIN, write_json
from model.params import ConfigError, Params, run


def main(params: Params) -> None:
    """Drop columns and rows without a target, split with a fixed seed, stratified by class.

    Args:
        params: `data` and `seed`.

    Raises:
        ConfigError: the data does not fit the parameters, e.g. a class is too small to be split.
    """
    target = params.data.target
    raw = pd.read_csv(RAW, decimal=params.data.decimal, low_memory=False)
    frame = raw.drop(columns=params.data.drop).dropna(subset=[target]).reset_index(drop=True)
    frame = pd.DataFrame({name: _simplify(column) for name, column in frame.items()})
    _check(frame, params)
    if params.data.task == "classification" and frame[target].dtype == np.float64:
        # Whole numbers were read as fractions because rows without a target were among them.
        frame = frame.astype({target: "int64"})

    stratify = frame[target] if params.data.task == "classification" else None
    train, test = train_test_split(
        frame, test_size=params.data.test_size, random_state=params.seed, stratify=stratify
    )
    for path, split in [(TRAIN, train), (TEST, test)]:
        split.to_csv(path, index=False)  # an index would become a column that requests must send
    rows = {"raw": len(raw), "used": len(frame), "train": len(train), "test": len(test)}
    write_json(DATA, _describe(frame, params, rows))


def _simplify(column: "pd.Series") -> "pd.Series":
    """Convert a column to one of four types: float64, int64, bool, or text (dtype object)."""
    if types.is_bool_dtype(column.dtype) or column.dtype == np.int64:
        return column
    if types.is_numeric_dtype(column.dtype):
        return column.astype("float64")
    return column.map(str, na_action="ignore").astype(object)  # also True, False and missing mixed


def _check(frame: "pd.DataFrame", params: Params) -> None:
    for name, column in frame.items():
        if not column.notna().any():
            raise ConfigError("data.drop", f"column '{name}' has no values: drop it")
        if column.dtype == np.float64 and np.isinf(column).any():
            raise ConfigError("data.source", f"column '{name}' has infinite values")
    target = frame[params.data.target]
    if params.data.task == "regression":
        if target.dtype in (object, bool):
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
        problem = f"column '{target.name}' has classes with a single row, too few to split: {few}"
        raise ConfigError("data.target", problem)
    if min(test_rows, len(frame) - test_rows) < len(counts):
        problem = f"{test_rows} of {len(frame)} rows cannot hold each of {len(counts)} classes"
        raise ConfigError("data.test_size", problem)


def _describe(frame: "pd.DataFrame", params: Params, rows: dict[str, int]) -> dict[str, Any]:
    target = frame[params.data.target]
    features = frame.drop(columns=params.data.target)
    about: dict[str, Any] = {"name": params.data.target, "dtype": str(target.dtype)}
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
            str(name): {"dtype": str(column.dtype), "missing": int(column.isna().sum())}
            for name, column in features.items()
        },
    }


if __name__ == "__main__":
    run(main)
