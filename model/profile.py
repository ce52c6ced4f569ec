"""Describe the training rows for data/profile.json: what `monitor` compares live requests with.

A few hundred numbers of a column instead of its values: enough to see a shift, and of a size that
does not grow with the data. Nothing is kept of private columns but how many values are missing.
"""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

POINTS = 400  # of a distribution: it is off by no more than 1/800
MOST_CATEGORIES = 50  # with a count of their own, the most frequent ones
LEAST_ROWS = 5  # of such a category: the values of a column of names would identify rows


def describe_rows(features: "pd.DataFrame", private: list[str]) -> dict[str, Any]:
    """Describe the columns of a table.

    Args:
        features: of the rows that the model learns from.
        private: columns whose values nobody may see.

    Returns:
        `rows` and `columns`: each with its `kind`, number, category or other, and the number of
        `missing` values; of numbers the sorted `points`, of categories the `counts` by value and
        the number of `others`.
    """
    return {
        "format": 1,
        "rows": len(features),
        "columns": {
            str(name): {"missing": int(column.isna().sum())}
            | ({"kind": "other"} if name in private else _describe_values(column))
            for name, column in features.items()
        },
    }


def _describe_values(column: "pd.Series") -> dict[str, Any]:
    values = column.dropna()
    if types.is_datetime64_any_dtype(column.dtype):
        return {"kind": "other"}  # the dates of requests are always later
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        return {"kind": "number", "points": _choose_points(values.to_numpy(dtype="float64"))}
    counts = values.map(str).value_counts()
    frequent = counts[counts >= LEAST_ROWS].head(MOST_CATEGORIES)
    return {
        "kind": "category",
        "counts": {str(value): int(count) for value, count in frequent.items()},
        "others": int(counts.sum() - frequent.sum()),
    }


def _choose_points(values: Any) -> list[float]:
    """Return all values in their order, or of many those in the middle of equal shares."""
    if len(values) > POINTS:
        shares = (np.arange(POINTS) + 0.5) / POINTS
        values = np.quantile(values, shares, method="inverted_cdf")
    return [float(value) for value in np.sort(values)]
