"""Fit the pipeline of params.yaml, its parameters chosen by cross-validated grid search."""

import pickle
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV

from model.estimators import Search, build, check_scoring
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
    _check_folds(params, search, target)
    check_scoring(params.train.scoring, params.data.task, target)
    fitted = GridSearchCV(
        search.pipeline,
        search.grid,
        scoring=params.train.scoring,
        cv=search.folds,
        n_jobs=params.train.jobs,
        error_score="raise",
    ).fit(features, target)
    ESTIMATOR.write_bytes(pickle.dumps(fitted.best_estimator_))
    write_json(CV, _describe(fitted, search, params))


def _check_folds(params: Params, search: Search, target: Any) -> None:
    cv = params.train.cv
    if params.data.task == "regression":
        if len(target) < cv:
            raise ConfigError("train.cv", f"{cv} folds of {len(target)} rows")
        return
    counts = target.value_counts()
    fewest = int(counts.min())
    # Calibration splits what a fold leaves for training once more.
    left = fewest - -(-fewest // cv) if search.prefix != "model__" else fewest
    if min(fewest, left) < cv:
        problem = (
            f"class '{counts.idxmin()}' has {fewest} rows to train on, "
            f"too few for {cv} folds: use fewer folds, or drop the class"
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
