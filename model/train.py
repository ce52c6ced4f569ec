"""Fit the pipeline of params.yaml, its parameters chosen by cross-validated grid search."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV

from model.categories import record_categories
from model.estimators import Search, build, check_scoring, score_dummy
from model.files import CV, ESTIMATOR, TRAIN, read_data, read_split, write_json
from model.params import ConfigError, Params, run


def main(params: Params) -> None:
    """Write the best estimator, fitted on all of data/train.csv, and reports/cv.json.

    Args:
        params: `train`, `seed`, `data.target` and `data.task`.

    Raises:
        ConfigError: the scorer or the number of folds does not suit the data.
    """
    features, target = read_split(TRAIN, params.data.target)
    columns = read_data()["columns"].values()
    search = build(
        params,
        text=any(column["dtype"] == "object" for column in columns),
        missing=any(column["missing"] for column in columns),
    )
    check(params, search, target)
    fitted = GridSearchCV(
        search.pipeline,
        search.grid,
        scoring=params.train.scoring,
        cv=search.folds,
        n_jobs=params.train.jobs,
        error_score="raise",
    ).fit(features, target)
    if not np.isfinite(fitted.best_score_):
        problem = f"'{params.train.scoring}' is not a number in some folds: use fewer, or another"
        raise ConfigError("train.scoring", problem)
    record_categories(fitted.best_estimator_, features)
    ESTIMATOR.write_bytes(pickle.dumps(fitted.best_estimator_))
    write_json(CV, _describe(fitted, search, params))


def check(params: Params, search: Search, target: "pd.Series") -> None:
    """Refuse folds that are too small to fit or to score, and a scorer that does not suit.

    Args:
        params: `train` and `data.task`.
        search: from `build`.
        target: of the rows to train on.

    Raises:
        ConfigError: naming the rows and what helps.
    """
    check_scoring(params.train.scoring, params.data.task, target)
    cv = params.train.cv
    if params.data.task == "regression":
        if len(target) < cv:
            raise ConfigError("train.cv", f"{cv} folds of {len(target)} rows")
        fewest = len(target) // cv
        if not np.isfinite(score_dummy(params.train.scoring, params.data.task, target[:fewest])):
            problem = (
                f"{cv} folds of {len(target)} rows are too small for {params.train.scoring}: "
                f"use fewer folds, or a scorer that does with {fewest} row in each, "
                "such as neg_mean_absolute_error"
            )
            raise ConfigError("train.cv", problem)
        return
    counts = target.value_counts()
    fewest = int(counts.min())
    # Calibration splits what a fold leaves for training once more.
    left = fewest - -(-fewest // cv) if search.prefix != "model__" else fewest
    if min(fewest, left) < cv:
        problem = (
            f"class '{counts.idxmin()}' has {fewest} rows to train on, "
            f"too few for {cv} folds: use fewer folds, or leave the class out by data.drop_classes"
        )
        raise ConfigError("train.cv", problem)


def _describe(fitted: Any, search: Search, params: Params) -> dict[str, Any]:
    best = fitted.best_index_
    scores = [fitted.cv_results_[f"split{i}_test_score"][best] for i in range(params.train.cv)]
    return {
        "scoring": params.train.scoring,
        "mean_score": float(np.mean(scores)),
        "std_score": float(np.std(scores)),
        "folds": [float(score) for score in scores],
        "candidates": len(fitted.cv_results_["params"]),
        "best_params": {
            key.removeprefix(search.prefix): value for key, value in fitted.best_params_.items()
        },
    }


if __name__ == "__main__":
    run(main)
