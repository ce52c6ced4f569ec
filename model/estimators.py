"""Make the scikit-learn pipeline of params.yaml, checked before anything is fitted."""

import importlib
import inspect
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import KFold, ParameterGrid, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import all_estimators

from model.params import ConfigError, Params, suggest, suggest_nearest

OWN = "model.custom."
MISSING = "(missing)"
NUMBERS = ["number", "bool"]


class Search(NamedTuple):
    """A pipeline to fit and, by name of its parameters, the values to choose from."""

    pipeline: Any
    grid: dict[str, list[Any]]
    prefix: str  # what stands before a parameter of the user's estimator in the pipeline's names
    folds: Any


def build(params: Params, text: bool = False, missing: bool = False) -> Search:
    """Build the pipeline of `train`: own transformers, then what the data need, then the model.

    With numbers only and none missing it is just scaler and model, which predicts on plain arrays
    several times faster than through a ColumnTransformer.

    Args:
        params: `train`, `seed` and `data.task`; `gate.metric` must be measurable on the model.
        text: whether the data has columns that are not numbers.
        missing: whether the data has missing values.

    Returns:
        The unfitted pipeline, the grid, and the cross-validation splitter.

    Raises:
        ConfigError: naming the key, when something does not exist or does not fit.
    """
    train, task = params.train, params.data.task
    check_scoring(train.scoring, task)
    steps = [_make(path, f"train.transformers[{i}]") for i, path in enumerate(train.transformers)]
    for i, step in enumerate(steps):
        if not hasattr(step, "transform"):
            raise ConfigError(
                f"train.transformers[{i}]", f"{train.transformers[i]} cannot transform"
            )
    model = _make(train.estimator, "train.estimator", train.params)
    _check_task(model, train.estimator, task)
    if "random_state" in model.get_params() and "random_state" not in train.params:
        model.set_params(random_state=params.seed)
    _check_grid(model, train.estimator, train.grid)

    shuffled = {"n_splits": train.cv, "shuffle": True, "random_state": params.seed}
    folds = StratifiedKFold(**shuffled) if task == "classification" else KFold(**shuffled)
    prefix = "model__"
    if task == "classification" and train.probabilities and not hasattr(model, "predict_proba"):
        if not hasattr(model, "decision_function"):
            problem = f"{train.estimator} cannot be calibrated: use false"
            raise ConfigError("train.probabilities", problem)
        # One model fitted on all rows (ensemble=False) is smaller and predicts faster than one
        # per fold. It is calibrated within the search, so that what is scored is what is served.
        model = CalibratedClassifierCV(model, ensemble=False, cv=folds)
        prefix = "model__estimator__"
    if params.gate.metric == "log_loss" and not hasattr(model, "predict_proba"):
        raise ConfigError("gate.metric", "log_loss needs a model with probabilities")

    transformers = [(f"own_{i}", step) for i, step in enumerate(steps)]
    pipeline = Pipeline([*transformers, *_make_preparation(text, missing), ("model", model)])
    grid = {prefix + key: values for key, values in train.grid.items()}
    return Search(pipeline, grid, prefix, folds)


def check_scoring(scoring: str, task: str, target: Any = None) -> None:
    """Try the scorer on a model that always predicts the same.

    Args:
        scoring: name of a scikit-learn scorer.
        task: classification or regression.
        target: values of the real target (rows), or None for a made-up one of two classes.

    Raises:
        ConfigError: unknown scorer, or one that does not suit the task or the classes.
    """
    names = get_scorer_names()
    if scoring not in names:
        raise ConfigError("train.scoring", f"unknown scorer '{scoring}'{suggest(scoring, names)}")
    dummy = DummyClassifier() if task == "classification" else DummyRegressor()
    target = np.array([0, 1] * 4) if target is None else np.asarray(target)
    features = np.zeros((len(target), 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_scorer(scoring)(dummy.fit(features, target), features, target)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        problem = f"'{scoring}' does not suit this {task}: {reason}"
        raise ConfigError("train.scoring", problem) from None


def _make_preparation(text: bool, missing: bool) -> list[tuple[str, Any]]:
    """Make the steps that turn columns into finite, scaled numbers."""
    numbers: list[tuple[str, Any]] = [("scale", StandardScaler())]
    if missing:
        # A column without any value in one fold must not vanish there.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        numbers.insert(0, ("impute", imputer))
    if not text:
        return numbers
    texts: list[tuple[str, Any]] = [("encode", OneHotEncoder(handle_unknown="ignore"))]
    if missing:
        # Missing text is NaN in a CSV file and None in JSON: both are one category of their own.
        fill = {"strategy": "constant", "fill_value": MISSING}
        texts.insert(0, ("impute", SimpleImputer(**fill)))
        texts.insert(1, ("impute_none", SimpleImputer(missing_values=None, **fill)))
    # By type and not by name: own transformers may have changed the columns.
    columns = ColumnTransformer(
        [
            ("numbers", Pipeline(numbers), make_column_selector(dtype_include=NUMBERS)),
            ("texts", Pipeline(texts), make_column_selector(dtype_exclude=NUMBERS)),
        ],
        sparse_threshold=0,
    )
    return [("columns", columns)]


def _make(path: str, key: str, arguments: dict[str, Any] | None = None) -> Any:
    """Make an instance of the class at an import path."""
    estimator = _find(path, key)
    if not inspect.isclass(estimator) or not hasattr(estimator, "fit"):
        raise ConfigError(key, f"'{path}' is not an estimator class")
    arguments = arguments or {}
    allowed = inspect.signature(estimator).parameters
    for name in arguments:
        if name not in allowed:
            problem = f"{path} has no parameter '{name}'{suggest(name, allowed)}"
            raise ConfigError(f"{key.rpartition('.')[0]}.params.{name}", problem)
    try:
        instance = estimator(**arguments)
    except TypeError as error:
        raise ConfigError(key, f"{path} cannot be created: {error}") from None
    if arguments:
        _validate(instance, f"{key.rpartition('.')[0]}.params")
    return instance


def _find(path: str, key: str) -> Any:
    module_name, _, name = path.rpartition(".")
    if path.startswith("model.") and not path.startswith(OWN):
        raise ConfigError(key, f"'{path}': code of your own belongs in model/custom/, as {OWN}...")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        missing = getattr(error, "name", None)
        if isinstance(error, ImportError) and missing and not module_name.startswith(missing):
            problem = f"'{path}' cannot be imported: {error}"  # it exists, what it needs does not
            raise ConfigError(key, problem) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = {
            ".".join(part for part in cls.__module__.split(".") if part[0] != "_") + f".{title}"
            for title, cls in all_estimators()
        }
    namesakes = sorted(one for one in paths if one.rpartition(".")[2].lower() == name.lower())
    hint = f"; did you mean '{namesakes[0]}'?" if namesakes else suggest_nearest(path, paths) or "."
    raise ConfigError(
        key,
        f"unknown class '{path}'{hint} Allowed: the import path of a scikit-learn class, "
        f"like sklearn.svm.SVC, or {OWN}<module>.<Class>",
    )


def _check_task(model: Any, path: str, task: str) -> None:
    fits = is_classifier(model) if task == "classification" else is_regressor(model)
    if not fits:
        expected = "classifier" if task == "classification" else "regressor"
        raise ConfigError("train.estimator", f"{path} is not a {expected}, and data.task is {task}")


def _check_grid(model: Any, path: str, grid: dict[str, list[Any]]) -> None:
    allowed = model.get_params()
    for name, values in grid.items():
        if name not in allowed:
            problem = f"{path} has no parameter '{name}'{suggest(name, allowed)}"
            raise ConfigError(f"train.grid.{name}", problem)
        for one in ParameterGrid({name: values}):
            _validate(type(model)(**{**model.get_params(deep=False), **one}), f"train.grid.{name}")


def _validate(model: Any, key: str) -> None:
    """Let scikit-learn check the values of parameters, as it would when fitting."""
    if not isinstance(model, BaseEstimator) or not hasattr(model, "_parameter_constraints"):
        return  # an estimator of one's own that declares no constraints
    try:
        model._validate_params()
    except ValueError as error:
        raise ConfigError(key, str(error)) from None
