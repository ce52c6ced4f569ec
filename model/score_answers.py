"""Score recorded answers of two models by scikit-learn's scorers, or functions of one's own.

The gate runs it in the sandbox, with the packages of the champion: `python score_answers.py` reads
request.json and writes answer.json. It imports nothing of this package but what is in
`model.custom`, since it serves models of other commits.
"""

import json
import math
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer

OWN = "model.custom."
RESAMPLES, LEAST_RESAMPLES = 1_000, 100
SECONDS = 60.0  # of all resamples of one metric
LEAST_DIFFERENT, LEAST_GROUPS = 10, 10  # as in the gate's other intervals
QUANTILES = (0.025, 0.975)


class Recorded(BaseEstimator):  # type: ignore[misc]
    """A fitted model that gives the answers which another one gave, by the rows' index."""

    def __init__(self, answers: Any, shares: Any = None, classes: Any = None) -> None:
        self.answers, self.shares, self.classes = answers, shares, classes
        if classes is not None:
            self.classes_ = np.asarray(classes)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: "pd.DataFrame") -> Any:
        """Return the recorded answers."""
        return self.answers[rows.index.to_numpy()]


class RecordedRegressor(RegressorMixin, Recorded):  # type: ignore[misc]
    """One that predicts quantities."""


class RecordedClassifier(ClassifierMixin, Recorded):  # type: ignore[misc]
    """One that predicts classes."""


class RecordedProbabilities(RecordedClassifier):
    """One that predicts classes with their probabilities."""

    def predict_proba(self, rows: "pd.DataFrame") -> Any:
        """Return the recorded probabilities."""
        return self.shares[rows.index.to_numpy()]


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Score both models by each scorer.

    Args:
        request: `scorers` by metric, `actual`, `rows`, `groups` or None, `positive` or None, and
            of each model `predict`, `predict_proba` or None, `classes`.

    Returns:
        By metric: `values` of both, `interval` of the difference or None; or a `problem`.
    """
    results = {}
    for metric, name in request["scorers"].items():
        try:
            is_own = name.startswith(OWN)
            scorer = _find_own(name) if is_own else get_scorer(name)
            actual, models = _record(request, None if is_own else request["positive"])
            results[metric] = _compare(request, scorer, actual, models)
        except Exception as error:  # whatever code of a commit raises
            results[metric] = {"problem": type(error).__name__}
    return results


def _find_own(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)


def _record(request: dict[str, Any], positive: "str | None") -> tuple[Any, list[Recorded]]:
    """Return the actual values and both models; with a positive class, that is 1 and the other 0.

    scikit-learn's scorers of two classes are about the class 1.
    """
    classes = request["models"][0]["classes"]
    if positive is None or len(classes) != 2:
        return np.asarray(request["actual"]), [_make(model) for model in request["models"]]

    def encode(labels: list[Any]) -> list[int]:
        return [int(str(label) == positive) for label in labels]

    models = []
    for model in request["models"]:
        order = np.argsort(encode(model["classes"]))
        shares = model["predict_proba"]
        models.append(
            {
                "classes": [0, 1],
                "predict": encode(model["predict"]),
                "predict_proba": None if shares is None else np.asarray(shares)[:, order],
            }
        )
    return np.asarray(encode(request["actual"])), [_make(model) for model in models]


def _make(model: dict[str, Any]) -> Recorded:
    answers = np.asarray(model["predict"])
    if not model["classes"]:
        return RecordedRegressor(answers)
    if model["predict_proba"] is None:
        return RecordedClassifier(answers, None, model["classes"])
    return RecordedProbabilities(answers, np.asarray(model["predict_proba"]), model["classes"])


def _compare(
    request: dict[str, Any], scorer: Any, actual: Any, models: list[Recorded]
) -> dict[str, Any]:
    rows = pd.DataFrame(request["rows"])

    def score(chosen: Any) -> list[float]:
        features = rows.iloc[chosen]
        return [float(scorer(model, features, actual[chosen])) for model in models]

    started = time.monotonic()
    values = score(np.arange(len(rows)))
    if not all(map(math.isfinite, values)):
        return {"problem": "it is not a number on these rows"}
    spent = time.monotonic() - started
    members = _group(request["groups"], len(rows))
    interval = None
    if _count_different(models) >= LEAST_DIFFERENT and len(members) >= LEAST_GROUPS:
        count = min(RESAMPLES, int(SECONDS / max(spent, 1e-6)))
        interval = _resample(score, members, count) if count >= LEAST_RESAMPLES else None
    return {"values": values, "interval": interval}


def _group(groups: "list[str] | None", count: int) -> list[Any]:
    """Return the positions of the rows of each group; without groups, each row is one."""
    if groups is None:
        return list(np.arange(count).reshape(-1, 1))
    codes = pd.factorize(np.asarray(groups))[0]
    order = np.argsort(codes, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(codes[order])) + 1))


def _count_different(models: list[Recorded]) -> int:
    new, old = models
    different = new.answers != old.answers
    if new.shares is not None and old.shares is not None and new.shares.shape == old.shares.shape:
        different |= (new.shares != old.shares).any(axis=1)
    return int(different.sum())


def _resample(score: Any, members: list[Any], count: int) -> "list[float] | None":
    """Return the interval of the difference, by paired percentile bootstrap of whole groups."""
    draws = np.random.default_rng(0)
    gains = []
    for _ in range(count):
        drawn = draws.integers(0, len(members), len(members))
        try:
            new, old = score(np.concatenate([members[at] for at in drawn]))
        except ValueError:  # a resample without one of the classes
            continue
        gains.append(new - old)
    gains = [gain for gain in gains if math.isfinite(gain)]
    if len(gains) < LEAST_RESAMPLES:
        return None
    return [float(value) for value in np.quantile(gains, QUANTILES)]


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = main(json.loads(Path("request.json").read_text()))
    Path("answer.json").write_text(json.dumps(answer))
