"""Make the scikit-learn pipeline of params.yaml, checked before anything is fitted."""

import importlib.util
import inspect
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import KFold, ParameterGrid, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import all_estimators, get_tags

from model.params import ConfigError, Params, Train, suggest, suggest_nearest

OWN = "model.custom."
MISSING = "(missing)"
NUMBERS = ["number", "bool", "boolean"]
SPARSE = 0.3  # share of cells that are not 0, below which scikit-learn makes a matrix sparse


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

    estimator = model
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
    # A pipeline of one's own prepares the table itself, unless it says otherwise.
    if not isinstance(estimator, Pipeline) if train.preparation is None else train.preparation:
        sparse = get_tags(estimator).input_tags.sparse
        transformers += _make_preparation(train, text, missing, sparse)
    pipeline = Pipeline([*transformers, ("model", model)])
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
    try:
        score_dummy(scoring, task, np.array([0, 1] * 4) if target is None else target)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        problem = f"'{scoring}' does not suit this {task}: {reason}"
        raise ConfigError("train.scoring", problem) from None


def score_dummy(scoring: str, task: str, target: Any) -> float:
    """Score a model that always predicts the same on the rows that it was fitted on."""
    dummy = DummyClassifier() if task == "classification" else DummyRegressor()
    target = np.asarray(target)
    features = np.zeros((len(target), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(get_scorer(scoring)(dummy.fit(features, target), features, target))


def _make_preparation(
    train: Train, text: bool, missing: bool, sparse: bool
) -> list[tuple[str, Any]]:
    """Make the steps that turn columns into finite, scaled numbers."""
    numbers: list[tuple[str, Any]] = [("scale", StandardScaler())]
    if missing:
        # A column without any value in one fold must not vanish there.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        numbers.insert(0, ("impute", imputer))
    if not text:
        return numbers
    encoder = OneHotEncoder(
        # An id has as many categories as rows: one column each would not fit into memory.
        max_categories=train.max_categories,
        min_frequency=train.min_frequency if train.min_frequency > 1 else None,
        handle_unknown="infrequent_if_exist",
    )
    texts: list[tuple[str, Any]] = [("encode", encoder)]
    if missing:
        # Missing text is NaN in a CSV file and None in JSON: both are one category of their own.
        fill = {"strategy": "constant", "fill_value": MISSING, "keep_empty_features": True}
        texts.insert(0, ("impute", SimpleImputer(**fill)))
        texts.insert(1, ("impute_none", SimpleImputer(missing_values=None, **fill)))
    # By type and not by name: own transformers may have changed the columns.
    columns = ColumnTransformer(
        [
            ("numbers", Pipeline(numbers), make_column_selector(dtype_include=NUMBERS)),
            ("texts", Pipeline(texts), make_column_selector(dtype_exclude=NUMBERS)),
        ],
        sparse_threshold=SPARSE if sparse else 0,
    )
    return [("columns", columns)]


def _make(path: str, key: str, arguments: dict[str, Any] | None = None) -> Any:
    """Make an instance of the class at an import path."""
    make = _find(path, key)
    is_factory = inspect.isfunction(make) and path.startswith(OWN)
    if not is_factory and not (inspect.isclass(make) and hasattr(make, "fit")):
        raise ConfigError(key, f"'{path}' is not an estimator class")
    arguments = arguments or {}
    allowed = inspect.signature(make).parameters
    for name in arguments:
        if name not in allowed and not _takes_any(make):
            problem = f"{path} has no parameter '{name}'{suggest(name, allowed)}"
            raise ConfigError(f"{key.rpartition('.')[0]}.params.{name}", problem)
    try:
        instance = make(**arguments)
    except TypeError as error:
        raise ConfigError(key, f"{path} cannot be created: {error}") from None
    if not hasattr(instance, "fit"):
        raise ConfigError(key, f"'{path}' returns no estimator")
    if arguments:
        _validate(instance, f"{key.rpartition('.')[0]}.params")
    return instance


def _takes_any(make: Any) -> bool:
    """Tell whether a class or function takes parameters that it does not name (`**kwargs`)."""
    kinds = [parameter.kind for parameter in inspect.signature(make).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


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
    top = module_name.partition(".")[0]
    if not namesakes and top not in {"", "model"} and importlib.util.find_spec(top) is None:
        problem = f"'{path}': the model environment has no package for '{top}'"
        how = f"uv add --project model --group custom {top}"
        raise ConfigError(key, f"{problem}; add it: {how}")
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
        if name not in allowed and not _takes_any(type(model)):
            problem = f"{path} has no parameter '{name}'{suggest(name, allowed)}"
            raise ConfigError(f"train.grid.{name}", problem)
        for one in ParameterGrid({name: values}):
            changed = clone(model).set_params(**one)
            owner = changed.get_params().get(name.rpartition("__")[0], changed)
            _validate(owner, f"train.grid.{name}")


def _validate(model: Any, key: str) -> None:
    """Let scikit-learn check the values of parameters, as it would when fitting."""
    if not isinstance(model, BaseEstimator) or not hasattr(model, "_parameter_constraints"):
        return  # an estimator of one's own that declares no constraints
    try:
        model._validate_params()
    except ValueError as error:
        raise ConfigError(key, str(error)) from None
