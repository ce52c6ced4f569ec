"""Measure what a model card says of a model: intervals of its metrics, calibration, importance."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.inspection import permutation_importance
from sklearn.metrics import balanced_accuracy_score, r2_score

RESAMPLES = 1_000
QUANTILES = (0.025, 0.975)
Z = 1.959964  # of the normal distribution, for 95 %
LEAST_WRONG = 10  # answers, as the gate needs at least 10 that differ
LEAST_ERRORS, MOST_DRAWN = 10, 20_000  # rows of a regression
LEAST_GROUPS, BLOCKS = 10, 200  # as in the gate; of more groups, some share a block
CELLS = 2_000_000  # a batch of resamples holds no more numbers
BINS, BIN_ROWS = 10, 20  # of calibration, at most and at least
MOST_CALIBRATION_ROWS = 20_000
REPEATS = 5  # of the permutation of a column
MOST_ROWS, MOST_CALLS = 1_000, 300  # of one permutation, and permutations altogether
LEAST_WORK = 20_000  # rows predicted for permutation importance: these, or 20 times the test split


def measure_intervals(
    actual: "pd.Series",
    predicted: Any,
    details: dict[str, Any],
    seed: int,
    keys: "pd.DataFrame | None" = None,
) -> dict[str, list[float]]:
    """Measure 95 % intervals of metrics.

    Args:
        actual: of the test split.
        predicted: the model's answers.
        details: with the confusion matrix of a classification, and its labels.
        seed: of the resamples.
        keys: columns in which rows of one group agree, which are no independent draws.
    """
    if keys is not None:
        groups = keys.groupby(list(keys), dropna=False, sort=False).ngroup().to_numpy()
        if int(groups.max()) + 1 < len(groups):
            return measure_group_intervals(actual, predicted, details.get("labels"), groups, seed)
    if "confusion_matrix" in details:
        return measure_class_intervals(details["confusion_matrix"], seed)
    return measure_error_intervals(actual, predicted, seed)


def measure_class_intervals(confusion: list[list[int]], seed: int) -> dict[str, list[float]]:
    """Measure 95 % intervals of the metrics that follow from a confusion matrix.

    Of accuracy, Wilson's score interval (JASA 22, 1927, 209-212), which has a width even where
    nothing is wrong. Of the others, the percentile bootstrap (Efron, Tibshirani: An Introduction to
    the Bootstrap, 1993, chapter 13): the cells of the matrix are multinomial. With few wrong
    answers it would claim too much, so there is none.

    Args:
        confusion: rows by actual class, then by predicted one.
        seed: of the resamples.
    """
    counts = np.asarray(confusion, dtype="int64")
    classes = len(counts)
    rows = int(counts.sum())
    draws = np.random.default_rng(seed)
    batch = max(1, min(RESAMPLES, CELLS // classes**2))
    correct = int(np.trace(counts))
    intervals = {"accuracy": find_wilson_interval(correct, rows)}
    if rows - correct < LEAST_WRONG:
        return intervals
    values: dict[str, list[Any]] = {"balanced_accuracy": [], "f1_macro": []}
    for start in range(0, RESAMPLES, batch):
        number = min(batch, RESAMPLES - start)
        cells = draws.multinomial(rows, counts.ravel() / rows, number)
        for name, measured in _measure_matrices(cells.reshape(number, classes, classes)).items():
            values[name].append(measured)
    return intervals | {
        name: _find_quantiles(np.concatenate(parts)) for name, parts in values.items()
    }


def _measure_matrices(matrices: Any) -> dict[str, Any]:
    """Measure many confusion matrices (number, actual class, predicted class)."""
    right = np.diagonal(matrices, axis1=1, axis2=2)
    actual, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that a resample has no row of
        return {
            "balanced_accuracy": np.nanmean(right / actual, axis=1),
            "f1_macro": np.nanmean(2 * right / (actual + predicted), axis=1),
        }


def measure_group_intervals(
    actual: Any, predicted: Any, labels: list[Any] | None, groups: Any, seed: int
) -> dict[str, list[float]]:
    """Measure 95 % intervals by the percentile bootstrap of whole groups.

    Of very few groups, or few wrong answers, there is none.

    Args:
        actual: values of the rows.
        predicted: the model's.
        labels: the classes; None for a regression.
        groups: number of the group of each row.
        seed: of the resamples.
    """
    number = int(groups.max()) + 1
    blocks, count = groups % BLOCKS, min(number, BLOCKS)
    classes = len(labels or ())
    if number < LEAST_GROUPS or count * classes**2 > 10 * CELLS:
        return {}
    weights = np.random.default_rng(seed).multinomial(count, [1 / count] * count, RESAMPLES)
    if labels is None:
        return _resample_errors(np.asarray(actual), np.asarray(predicted), blocks, weights)
    index = pd.Index(labels)
    new, old = index.get_indexer(predicted), index.get_indexer(actual)
    if int((new != old).sum()) < LEAST_WRONG:
        return {}
    sums = np.zeros((count, classes**2))
    np.add.at(sums, (blocks, old * classes + new), 1)
    values: dict[str, list[Any]] = {"accuracy": [], "balanced_accuracy": [], "f1_macro": []}
    for part in np.array_split(weights, max(1, RESAMPLES * classes**2 // CELLS)):
        matrices = (part @ sums).reshape(len(part), classes, classes)
        right = np.trace(matrices, axis1=1, axis2=2)
        measured = {"accuracy": right / matrices.sum(axis=(1, 2))} | _measure_matrices(matrices)
        for name, more in measured.items():
            values[name].append(more)
    return {name: _find_quantiles(np.concatenate(parts)) for name, parts in values.items()}


def _resample_errors(
    actual: Any, predicted: Any, blocks: Any, weights: Any
) -> dict[str, list[float]]:
    """Measure a regression by resamples of blocks, from their sums."""
    centred, errors = actual - actual.mean(), predicted - actual
    terms = (np.ones(len(actual)), centred, centred**2, np.abs(errors), errors**2)
    sums = np.column_stack([np.bincount(blocks, term, weights.shape[1]) for term in terms])
    rows, first, second, absolute, square = (weights @ sums).T
    spread = second - first**2 / rows
    values = {"mae": absolute / rows, "rmse": np.sqrt(square / rows)}
    if np.ptp(actual) > 0:
        values["r2"] = 1 - square / np.where(spread > 0, spread, np.nan)
    return {name: _find_quantiles(measured) for name, measured in values.items()}


def find_wilson_interval(successes: int, trials: int) -> list[float]:
    """Find Wilson's 95 % interval of a share."""
    share, square = successes / trials, Z * Z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    half = Z * spread / (1 + square / trials)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def measure_error_intervals(actual: Any, predicted: Any, seed: int) -> dict[str, list[float]]:
    """Measure 95 % intervals of the metrics of a regression, by the same bootstrap.

    Of very many rows fewer are drawn, and the interval is shrunk by the root of their share (m out
    of n bootstrap; Bickel, Goetze, van Zwet, Statistica Sinica 7, 1997, 1-31). Of very few rows
    there is none.

    Args:
        actual: values of the rows.
        predicted: the model's.
        seed: of the resamples.
    """
    actual = np.asarray(actual, dtype="float64")
    errors = np.asarray(predicted, dtype="float64") - actual
    rows = len(actual)
    if rows < LEAST_ERRORS:
        return {}
    drawn_rows = min(rows, MOST_DRAWN)
    draws = np.random.default_rng(seed)
    values = []
    for _ in range(min(RESAMPLES, max(100, CELLS // rows))):
        drawn = draws.integers(0, rows, drawn_rows)
        values.append(_measure_errors(actual[drawn], errors[drawn]))
    centre = np.array(_measure_errors(actual, errors))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a constant target has no determination
        low, high = np.nanquantile(np.array(values), QUANTILES, axis=0)
    shrink = math.sqrt(drawn_rows / rows)
    names = ("mae", "rmse", "r2")
    return {
        name: [float(value + shrink * (end - value)) for end in ends]
        for name, value, *ends in zip(names, centre, low, high, strict=True)
        if np.isfinite([value, *ends]).all()
    }


def _measure_errors(actual: Any, errors: Any) -> tuple[float, float, float]:
    """Measure mean absolute error, its square's root, and determination; NaN where it has none."""
    square, variance = float(np.mean(errors * errors)), float(np.var(actual))
    r2 = 1 - square / variance if variance > 0 else math.nan
    return float(np.mean(np.abs(errors))), math.sqrt(square), r2


def _find_quantiles(values: Any) -> list[float]:
    return [float(value) for value in np.nanquantile(values, QUANTILES)]


def measure_calibration(
    model: Any, features: "pd.DataFrame", actual: "pd.Series", seed: int
) -> dict[str, Any] | None:
    """Compare the probability of the predicted class with how often it is right.

    Args:
        model: the fitted model.
        features: of the test split.
        actual: of the test split.
        seed: of the rows that are taken, where there are many.

    Returns:
        `bins`, about equal in rows, and `error`: their mean difference, weighted by rows. None if
        the model has no probabilities.
    """
    if not hasattr(model, "predict_proba"):
        return None
    sample = features.sample(min(len(features), MOST_CALIBRATION_ROWS), random_state=seed)
    shares = model.predict_proba(sample)
    classes = np.asarray(model.classes_)[shares.argmax(axis=1)]
    is_right, shares = classes == actual[sample.index].to_numpy(), shares.max(axis=1)
    order = np.argsort(shares, kind="stable")
    number = int(np.clip(len(order) // BIN_ROWS, 1, BINS))
    bins = [
        {
            "rows": len(part),
            "probability": float(np.mean(shares[part])),
            "right": float(np.mean(is_right[part])),
        }
        for part in np.array_split(order, number)
    ]
    gaps = [group["rows"] * abs(group["probability"] - group["right"]) for group in bins]
    return {"bins": bins, "error": float(sum(gaps) / len(order))}


def measure_importance(
    model: Any, features: "pd.DataFrame", actual: "pd.Series", task: str, seed: int
) -> dict[str, Any]:
    """Measure how much a metric loses when the values of one column are shuffled.

    The work is bounded: many columns are shuffled once, and only some of the rows.

    Args:
        model: the fitted model.
        features: of the test split.
        actual: of the test split.
        task: classification or regression.
        seed: of the shuffles, and of the rows that are taken.

    Returns:
        `metric`, `rows`, `repeats`, and `columns` with `loss` and `std`, the largest loss first;
        no columns if there are too many.
    """
    columns = features.shape[1]
    metric, score = SCORES[task]
    repeats = int(np.clip(MOST_CALLS // columns, 0, REPEATS))
    work = max(LEAST_WORK, 20 * len(features))
    rows = min(len(features), MOST_ROWS, work // (columns * repeats)) if repeats else 0
    facts = {"metric": metric, "rows": rows, "repeats": repeats}
    if rows == 0:
        return facts | {"columns": []}
    sample = features.sample(rows, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sample may lack a class, a shuffle makes odd rows
        result = permutation_importance(
            model,
            sample,
            actual[sample.index],
            scoring=lambda model, features, actual: score(actual, model.predict(features)),
            n_repeats=repeats,
            random_state=seed,
        )
    losses = zip(
        map(str, features.columns),
        result.importances_mean.tolist(),
        result.importances_std.tolist(),
        strict=True,
    )
    ordered = sorted(losses, key=lambda loss: -loss[1])
    return facts | {
        "columns": [{"name": name, "loss": loss, "std": std} for name, loss, std in ordered]
    }


SCORES: dict[str, tuple[str, Callable[[Any, Any], float]]] = {
    "classification": ("balanced_accuracy", balanced_accuracy_score),
    "regression": ("r2", r2_score),
}
