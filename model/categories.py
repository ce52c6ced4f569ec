"""Record in a model the categories that it was trained on, so that its server detects new ones."""

from typing import Any

import pandas as pd

ATTRIBUTE = "seen_categories_"  # `serving/predictor.py` reads it
MOST = 1_000  # a text column with more values is no list of categories
SHARE = 0.5  # nor one with more values than this share of its cells: an id, or free text


def record_categories(estimator: Any, features: "pd.DataFrame") -> None:
    """Record the categories of the rows that an estimator was fitted on.

    Args:
        estimator: any object with attributes; what is pickled.
        features: the rows to train on, without private columns: of those a server would tell
            anybody whether a value, such as a name, is among the rows.
    """
    setattr(estimator, ATTRIBUTE, find_categories(features))


def find_categories(features: "pd.DataFrame") -> dict[str, tuple[str, ...]]:
    """Find the values of each text column that has few enough to be categories."""
    categories = {}
    for name, column in features.items():
        if column.dtype != object:
            continue
        cells = column.dropna()
        values = cells.unique()
        if len(values) <= min(MOST, SHARE * len(cells)):
            # Sorted, and no set: the same data make the same bytes.
            categories[str(name)] = tuple(sorted(map(str, values)))
    return categories
