"""Columns of dates: read from text, and turned into numbers that a model can use.

Everything in the steps is of Python, pandas and scikit-learn: a model server has no code of model/.
"""

from operator import attrgetter, methodcaller
from typing import Any

import pandas as pd
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import FunctionTransformer

DTYPE = "datetime64[us]"  # in UTC, without a time zone
# What the model server accepts, too. Pandas would also take 2024 and 20240131, which are numbers.
ISO = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?"
# Attributes of pandas' `Series.dt`, and their names for people.
PARTS = {
    "year": "year",
    "month": "month",
    "day": "day",
    "dayofweek": "day of the week",
    "hour": "hour",
}


def parse_dates(cells: "pd.Series", date_format: str | None = None) -> "pd.Series":
    """Parse text as dates, NaT where it is none or missing.

    Args:
        cells: text.
        date_format: as of `strftime`; by default ISO 8601, such as 2024-01-31 or
            2024-01-31T12:00:00Z.
    """
    text = cells.astype("str")
    if date_format is None:
        text = text.where(text.str.fullmatch(ISO))
        # Nanoseconds would have pandas read the whole column as years from 1677 to 2262.
        text = text.str.replace(r"(\.\d{6})\d+", r"\1", regex=True)
    dates = pd.to_datetime(text, format=date_format or "ISO8601", errors="coerce", utc=True)
    return dates.dt.tz_localize(None).astype(DTYPE)


def make_parts() -> FeatureUnion:
    """Make a transformer from columns of dates to columns of their parts."""
    # `frame.apply(part)`, column by column.
    steps: list[tuple[str, Any]] = [
        (part, FunctionTransformer(methodcaller("apply", attrgetter(f"dt.{part}"))))
        for part in PARTS
    ]
    return FeatureUnion(steps)
