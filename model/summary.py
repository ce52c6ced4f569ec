"""Summarize a column for reports/data.json, to compare it with that of another version."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types


def summarize(column: "pd.Series", *, is_private: bool) -> dict[str, Any]:
    """Summarize the values of a column; of a private one, only its mean and spread.

    Returns:
        `mean` and `std` of numbers, with `min` and `max`; `true`, the share of true ones;
        `first` and `last` of dates; `distinct` of text.
    """
    values = column.dropna()
    if types.is_bool_dtype(column.dtype):
        return {"true": float(values.mean())}
    if types.is_datetime64_any_dtype(column.dtype):
        if is_private:
            return {}
        return {"first": values.min().isoformat(), "last": values.max().isoformat()}
    if types.is_numeric_dtype(column.dtype):
        with np.errstate(over="ignore"):  # the square of 1e200 is no number any more
            mean, spread = float(values.mean()), float(values.std()) if len(values) > 1 else 0.0
        summary = {"mean": mean, "std": spread} if np.isfinite([mean, spread]).all() else {}
        if not is_private:
            summary |= {"min": float(values.min()), "max": float(values.max())}
        return summary
    return {} if is_private else {"distinct": int(values.nunique())}
