"""Run in the model environment: print as JSON what `model.card` measures of made-up answers."""

import json
import os
import sys

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

import numpy as np
import pandas as pd

from model import card

SPREAD = 0.5
TRIALS = 200
TRUTH = {"mae": SPREAD * np.sqrt(2 / np.pi), "rmse": SPREAD, "r2": 1 - SPREAD**2}
draws = np.random.default_rng(0)


def draw(rows):
    """Draw a target and answers that are off by a normal error."""
    actual = draws.normal(size=rows)
    return actual, actual + SPREAD * draws.normal(size=rows)


hits = dict.fromkeys(TRUTH, 0)
for trial in range(TRIALS):
    intervals = card.measure_error_intervals(*draw(100), trial)
    for name, value in TRUTH.items():
        low, high = intervals[name]
        hits[name] += low <= value <= high
grouped = dict.fromkeys(("mae", "accuracy"), 0)
groups = np.repeat(np.arange(40), 25)
keys = pd.DataFrame({"customer": groups})
for trial in range(TRIALS // 2):
    # The 25 rows of a customer are all of one kind: 40 draws, not 1,000.
    wide = draws.random(40) < 0.3
    actual = pd.Series(np.zeros(1000))
    low, high = card.measure_intervals(actual, np.where(wide, 2.0, 1.0)[groups], {}, trial, keys)[
        "mae"
    ]
    grouped["mae"] += low <= 1.3 <= high
    labels = pd.Series(["a", "b"] * 500)
    answers = labels.where(~wide[groups], "a")
    about = {"labels": ["a", "b"]}
    low, high = card.measure_intervals(labels, answers, about, trial, keys)["accuracy"]
    grouped["accuracy"] += low <= 0.85 <= high
widths = {
    rows: [high - low for low, high in card.measure_error_intervals(*draw(rows), 1).values()]
    for rows in (20_000, 80_000)
}
json.dump(
    {
        "covered": {name: count / TRIALS for name, count in hits.items()},
        "covered by groups": {name: 2 * count / TRIALS for name, count in grouped.items()},
        "few groups": card.measure_group_intervals(
            [1] * 90, [2] * 90, None, np.arange(90) // 10, 1
        ),
        "ratio": [many / few for few, many in zip(*widths.values(), strict=True)],
        "constant": sorted(card.measure_error_intervals([1] * 12, [2] * 12, 1)),
        "few": card.measure_error_intervals([1] * 5, [2] * 5, 1),
        "all right": card.measure_class_intervals([[20, 0], [0, 16]], 1),
        "some wrong": card.measure_class_intervals([[200, 20, 0], [10, 150, 9], [0, 0, 0]], 1),
    },
    sys.stdout,
)
