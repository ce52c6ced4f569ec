"""Fit the pipeline of params.yaml, its parameters chosen by a cross-validated search."""

import math
import pickle
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, ParameterGrid, RandomizedSearchCV

from model.categories import record_categories
from model.estimators import Search, Traits, build, request_weights
from model.files import CV, ESTIMATOR, NUMBERS, TRAIN, Rows, read_data, read_split, write_json
from model.params import ConfigError, Params, run, suggest
from model.parts import OWN
from model.scorers import check_scorer, get_positive, score_dummy
from model.splits import Folds, make_folds

# Of the combinations in a halving search one in three goes on, on three times the rows.
FACTOR = 3
# The sum of the squares of a million of them is still a number: scaling needs it.
LARGEST = 1e150


def main(params: Params) -> None:
    """Write the best estimator, fitted on all of data/train.csv, and reports/cv.json.

    Args:
        params: `train`, `seed`, `data.target` and `data.task`.

    Raises:
        ConfigError: the scorer or the number of folds does not suit the data.
    """
    rows, data = read_split(TRAIN, params.data.target), read_data()
    columns = data["columns"].values()
    traits = Traits(
        text=any(column["dtype"] not in NUMBERS for column in columns),
        missing=any(column["missing"] for column in columns),
    )
    with _routing(params):
        search, folds = plan(params, rows, traits)
        metadata = {"sample_weight": rows.weights, "groups": folds.groups}
        fitted = _make_search(params, search, folds, rows.target).fit(
            rows.features, rows.target, **{key: v for key, v in metadata.items() if v is not None}
        )
    if not np.isfinite(fitted.best_score_):
        problem = f"'{params.train.scoring}' is not a number in some folds"
        raise ConfigError("train.scoring", f"{problem}: use fewer folds, or another scorer")
    private = [name for name, column in data["columns"].items() if column.get("private")]
    record_categories(fitted.best_estimator_, rows.features.drop(columns=private))
    with ESTIMATOR.open("wb") as file:  # the fifth protocol writes an array without a copy of it
        pickle.dump(fitted.best_estimator_, file, protocol=5)
    write_json(CV, _describe(fitted, search, params))


def plan(params: Params, rows: Rows, traits: Traits) -> tuple[Search, Folds]:
    """Make the pipeline and the folds, and refuse what could not be fitted or scored.

    Args:
        params: all of params.yaml.
        rows: those to train on.
        traits: of all the data, without what the rows tell themselves.

    Raises:
        ConfigError: naming the rows and what helps.
    """
    task, train, target = params.data.task, params.train, rows.target
    positive = _find_positive(target, params)
    scorer = check_scorer(train.scoring, "train.scoring", task, target, positive)
    for i, name in enumerate(train.metrics):
        check_scorer(name, f"train.metrics[{i}]", task, target, positive)
    if train.threshold is not None and target.nunique() != 2:
        problem = f"needs two classes, and '{target.name}' has {target.nunique()}"
        raise ConfigError("train.threshold", problem)
    _check_sizes(params, scorer, target)
    folds = make_folds(rows, params)
    with _routing(params):
        search = build(params, traits._replace(positive=positive, grouped=folds.groups is not None))
        _check_folds(params, search, folds, target)
        _check_scale(search, rows.features)
        if rows.weights is not None:
            request_weights(search, train.estimator)
        if not search.inner:  # only folds within the pipeline have to know the groups
            folds = folds._replace(groups=None)
        if rows.weights is not None or folds.groups is not None:
            try:
                search.pipeline.get_metadata_routing()
            except NotImplementedError:
                what = "weights" if folds.groups is None else "groups of rows"
                key = "data.weights" if folds.groups is None else "the columns of data.split"
                problem = f"{train.estimator} does not pass {what} on to the estimator within it"
                hint = f"use another, or leave out {key}"
                raise ConfigError("train.estimator", f"{problem}; {hint}") from None
    return search, folds


def _routing(params: Params) -> AbstractContextManager[Any]:
    """Have scikit-learn pass weights and groups on to the parts of a pipeline, if there are any."""
    if params.data.weights or params.data.split.columns:
        routing: AbstractContextManager[Any] = config_context(enable_metadata_routing=True)
        return routing
    return nullcontext()


def _find_positive(target: "pd.Series", params: Params) -> Any:
    """Find the class of `data.positive` in the type of the target."""
    positive = params.data.positive
    if positive is None:
        return None
    classes = target.unique().tolist() if params.data.task == "classification" else []
    if len(classes) != 2:
        problem = f"needs a classification of two classes, and there are {len(classes)}"
        raise ConfigError("data.positive", problem)
    matches = [label for label in classes if str(label) == positive]
    if not matches:
        hint = suggest(positive, map(str, classes))
        raise ConfigError("data.positive", f"'{positive}' is not a class of '{target.name}'{hint}")
    return matches[0]


def _make_search(params: Params, search: Search, folds: Folds, target: "pd.Series") -> Any:
    """Make the search for the best values."""
    train = params.train
    options = {
        "scoring": search.scorer,
        "cv": folds.pairs,
        "n_jobs": train.jobs,
        "error_score": "raise",
    }
    if train.search == "random":
        count = train.candidates
        if all(isinstance(values, list) for values in search.grid.values()):
            # No more than there are: scikit-learn warns of that.
            count = min(count, len(ParameterGrid(search.grid)))
        options |= {"n_iter": count, "random_state": params.seed}
        return RandomizedSearchCV(search.pipeline, search.grid, **options)
    if train.search == "halving":
        # scikit-learn offers it after this import only.
        from sklearn.experimental import enable_halving_search_cv  # noqa: F401
        from sklearn.model_selection import HalvingGridSearchCV

        options |= {"factor": FACTOR, "random_state": params.seed}
        options["min_resources"] = _count_first_rows(params, search, target)
        return HalvingGridSearchCV(search.pipeline, search.grid, **options)
    return GridSearchCV(search.pipeline, search.grid, **options)


def _count_first_rows(params: Params, search: Search, target: "pd.Series") -> int:
    """Count the rows that a halving search begins with.

    They are drawn without regard to classes, so there are twice as many as the rarest class needs
    in each fold; and as many as let the last round have all rows.
    """
    rows, cv = len(target), params.train.cv
    rounds = math.floor(math.log(len(ParameterGrid(search.grid)), FACTOR))
    first: int = max(rows // FACTOR**rounds, 2 * cv)
    if params.data.task == "classification":
        fewest = int(target.value_counts().min())
        first = max(first, math.ceil(2 * cv * (search.inner + 1) * rows / fewest))
    return min(first, rows)


def _check_sizes(params: Params, scorer: Any, target: "pd.Series") -> None:
    """Refuse rows that are too few for the folds."""
    cv, task = params.train.cv, params.data.task
    if task == "classification":
        counts = target.value_counts()
        if params.data.split.kind != "time" and int(counts.min()) < cv:
            _refuse_class(cv, counts.idxmin(), f"{counts.min()} rows to train on")
        return
    if len(target) < cv:
        raise ConfigError("train.cv", f"{cv} folds of {len(target)} rows: use fewer folds")
    fewest = len(target) // cv
    if params.train.scoring.startswith(OWN):
        return
    if not np.isfinite(score_dummy(scorer, task, target[:fewest])):
        problem = (
            f"{cv} folds of {len(target)} rows are too small for {params.train.scoring}: "
            f"use fewer folds, or a scorer that does with {fewest} row in each, "
            "such as neg_mean_absolute_error"
        )
        raise ConfigError("train.cv", problem)


def _check_folds(params: Params, search: Search, folds: Folds, target: "pd.Series") -> None:
    """Refuse folds that are fitted on too few rows of a class."""
    if params.data.task == "regression":
        return
    cv = params.train.cv
    numbers, classes = pd.factorize(target)
    for fitted, _ in folds.pairs:
        counts = np.bincount(numbers[fitted], minlength=len(classes))
        if folds.groups is not None and search.inner:
            pairs = pd.DataFrame({"class": numbers[fitted], "group": folds.groups[fitted]})
            counts = pairs.groupby("class")["group"].nunique()
            counts = counts.reindex(range(len(classes)), fill_value=0).to_numpy()
        rarest = int(counts.argmin())
        remaining = int(counts[rarest])
        if search.inner == 2:  # what is calibrated is what one fold of the tuning leaves
            remaining -= -(-remaining // cv)
        if remaining < (cv if search.inner else 1):
            rows = int((numbers == rarest).sum())
            unit = "groups" if folds.groups is not None and search.inner else "rows"
            count = f"{rows} rows to train on, and {counts[rarest]} {unit} where a fold is fitted"
            _refuse_class(cv, classes[rarest], count)


def _check_scale(search: Search, features: "pd.DataFrame") -> None:
    """Refuse numbers that our preparation cannot scale."""
    if search.pipeline.named_steps.keys().isdisjoint({"scale", "columns"}):
        return
    for name, column in features.items():
        if column.dtype == np.float64 and (column.abs() > LARGEST).any():
            problem = f"column '{name}' has numbers beyond {LARGEST:g}, which cannot be scaled"
            raise ConfigError("data.source", f"{problem}: divide them")


def _refuse_class(cv: int, label: Any, count: str) -> NoReturn:
    problem = f"class '{label}' has {count}, too few for {cv} folds"
    hint = "use fewer folds, or leave the class out by data.drop_classes, or add it to another by"
    raise ConfigError("train.cv", f"{problem}: {hint} data.merge_classes")


def _describe(fitted: Any, search: Search, params: Params) -> dict[str, Any]:
    best = fitted.best_index_
    scores = [fitted.cv_results_[f"split{i}_test_score"][best] for i in range(fitted.n_splits_)]
    threshold = _find_threshold(fitted.best_estimator_[-1], search.scorer, params)
    return {
        "scoring": params.train.scoring,
        "mean_score": float(np.mean(scores)),
        "std_score": float(np.std(scores)),
        "folds": [float(score) for score in scores],
        # A halving search scores some of them several times.
        "candidates": getattr(fitted, "n_candidates_", [len(fitted.cv_results_["params"])])[0],
        "best_params": {
            key.removeprefix(search.prefix): _make_plain(value)
            for key, value in fitted.best_params_.items()
        },
    } | ({} if threshold is None else {"threshold": threshold})


def _find_threshold(model: Any, scorer: Any, params: Params) -> float | None:
    """Find the tuned probability from which `data.positive` is answered; None if none is tuned."""
    threshold = getattr(model, "best_threshold_", None)
    if threshold is None:
        return None
    label = get_positive(scorer)
    label = model.classes_[1] if label is None else label  # scikit-learn's choice
    is_other = params.data.positive not in (None, str(label))
    return float(1 - threshold if is_other else threshold)


def _make_plain(value: Any) -> Any:
    """Return a value that JSON can express; an estimator as text."""
    if isinstance(value, (list, tuple)):
        return list(map(_make_plain, value))
    if isinstance(value, np.generic):  # drawn from a distribution
        return value.item()
    return str(value) if hasattr(value, "get_params") else value


if __name__ == "__main__":
    run(main)
