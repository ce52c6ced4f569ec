"""Run in the model environment: SciPy's results, and profiles of made-up tables, as JSON."""

import json
import os
import sys

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

import numpy as np
import pandas as pd
from scipy import stats

from model.profile import describe_rows

draws = np.random.default_rng(0)
numbers = []
for rows, others, shift in ((50, 142, 0.0), (500, 142, 0.5), (500, 1000, 0.2), (300, 300, 0.1)):
    first, second = draws.normal(size=others).round(2), draws.normal(shift, size=rows).round(2)
    result = stats.ks_2samp(first, second, method="asymp")
    numbers.append([sorted(first.tolist()), second.tolist(), result.statistic, result.pvalue])
counts = []
for size in (2, 3, 8):
    table = draws.integers(20, 60, (2, size))
    result = stats.chi2_contingency(table, correction=False)
    counts.append([table.tolist(), result.pvalue])
tails = [
    [value, degrees, stats.chi2.sf(value, degrees)]
    for value in (0.1, 3.0, 40.0, 300.0)
    for degrees in (1, 2, 7, 50)
]
table = pd.DataFrame(
    {
        "height": draws.normal(170, 10, 2000),
        "rooms": draws.integers(1, 5, 2000),
        "city": draws.choice(["Bern", "Basel"], 2000).astype(object),
        "name": [f"customer {n}" for n in range(2000)],
        "secret": draws.normal(size=2000),
        "since": pd.date_range("2020-01-01", periods=2000),
        "smoker": draws.random(2000) < 0.2,
    }
)
table.loc[:99, "height"] = np.nan
table["name"] = table["name"].astype(object)
print(
    json.dumps(
        {
            "numbers": numbers,
            "counts": counts,
            "tails": tails,
            "profile": describe_rows(table, ["secret"]),
            "exact": describe_rows(table[["rooms"]].head(30), []),
            "rooms": sorted(table["rooms"].head(30).tolist()),
            "median": float(table["height"].median()),
        }
    )
)
