"""Golden inputs: rows whose predictions are kept in Git, and replayed before every release."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from model.params import Params

MADE_UP = "(private)"  # instead of the texts of a private column
QUARTILES = (0.25, 0.75)


def draw_sample(features: "pd.DataFrame", target: "pd.Series", params: Params) -> "pd.DataFrame":
    """Draw rows of the test split with the seed: one of each class, then any others."""
    shuffled = features.sample(frac=1, random_state=params.seed)
    if params.data.task == "classification":
        is_repeated = target[shuffled.index].duplicated().to_numpy()
        shuffled = pd.concat([shuffled[~is_repeated], shuffled[is_repeated]])
        return shuffled.head(max(params.save.golden, target.nunique()))
    return shuffled.head(params.save.golden)


def replace_private(
    sample: "pd.DataFrame", features: "pd.DataFrame", private: list[str], seed: int
) -> "pd.DataFrame":
    """Replace the values of private columns by made-up ones, which are in no row.

    Text becomes one word. Numbers are drawn between the quartiles, rounded to two digits: usual
    for the model, and nobody's. Truth values are drawn.

    Args:
        sample: the rows.
        features: all rows of the split, for the quartiles.
        private: names of columns.
        seed: of what is drawn.
    """
    draws = np.random.default_rng(seed)
    rows = len(sample)
    made_up: dict[str, Any] = {}
    for name in private:
        dtype = features[name].dtype
        if types.is_bool_dtype(dtype):
            values: Any = draws.integers(0, 2, rows) == 1
        elif types.is_numeric_dtype(dtype):
            numbers = features[name].dropna()
            low, high = numbers.quantile(QUARTILES) if len(numbers) else (0, 1)
            values = [float(f"{value:.2g}") for value in draws.uniform(low, high, rows)]
        elif types.is_datetime64_any_dtype(dtype):
            values = [pd.Timestamp(2000, 1, 1)] * rows
        else:
            values = [MADE_UP] * rows
        made_up[name] = pd.Series(values, index=sample.index).astype(dtype)
    return sample.assign(**made_up)


def make_records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Make rows as a client sends them, with None for missing values."""
    for name in frame.select_dtypes("datetime"):
        frame = frame.assign(**{name: frame[name].map(pd.Timestamp.isoformat, na_action="ignore")})
    return list(frame.astype(object).where(frame.notna(), None).to_dict(orient="records"))
