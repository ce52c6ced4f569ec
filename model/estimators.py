"""Make the scikit-learn pipeline of params.yaml, checked before anything is fitted."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sklearn.base import is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from model.dates import make_parts
from model.params import ConfigError, Params
from model.parts import make, make_grid
from model.scorers import check_scorer, counts_answers
from model.sections import Train
from model.splits import make_inner_folds

MISSING = "(missing)"
NUMBERS, DATES = ["number", "bool", "boolean"], "datetime"  # for pandas
SPARSE = 0.3  # share of cells that are not 0, below which scikit-learn makes a matrix sparse


class Traits(NamedTuple):
    """Properties of the data that the pipeline depends on.

    Attributes:
        text: some columns are not numbers.
        missing: some values are missing.
        grouped: some rows have to stay together in calibration.
        positive: the class of `data.positive`, in the type of the target.
    """

    text: bool = False
    missing: bool = False
    grouped: bool = False
    positive: Any = None


class Search(NamedTuple):
    """A pipeline to fit and, by name of its parameters, the values to choose from.

    Attributes:
        pipeline: unfitted.
        grid: lists of values, or distributions to draw them from.
        prefix: what stands before a parameter of the user's estimator in the pipeline's names.
        scorer: what chooses between them.
        inner: how many times the rows of a fold are divided once more, to calibrate or to tune.
    """

    pipeline: Any
    grid: dict[str, Any]
    prefix: str
    scorer: Any
    inner: int


def build(params: Params, traits: Traits) -> Search:
    """Build the pipeline of `train`: own transformers, then what the data need, then the model.

    With numbers only and none missing it is just scaler and model, which predicts on plain arrays
    several times faster than through a ColumnTransformer.

    Args:
        params: all; `gate.metric` must be measurable on the model.
        traits: of the data.

    Raises:
        ConfigError: naming the key, when something does not exist or does not fit.
    """
    train, task = params.train, params.data.task
    scorer = check_scorer(train.scoring, "train.scoring", task, positive=traits.positive)
    steps = list(_make_transformers(params))
    model = make(
        train.estimator, train.params, params.seed, key="train.estimator", place="train.params"
    )
    _check_task(model, train.estimator, task)
    wrapped, depth, inner = _wrap(model, params, traits, scorer)
    prefix = "model__" + depth * "estimator__"
    grid = _make_grid(params, model, dict(steps), prefix)
    if params.gate.metric == "log_loss" and not hasattr(wrapped, "predict_proba"):
        problem = "log_loss needs a model with probabilities: set train.probabilities to true"
        raise ConfigError("gate.metric", problem)

    # A pipeline of one's own prepares the table itself, unless it says otherwise.
    if not isinstance(model, Pipeline) if train.preparation is None else train.preparation:
        steps += _make_preparation(train, traits, get_tags(model).input_tags.sparse)
    return Search(Pipeline([*steps, ("model", wrapped)]), grid, prefix, scorer, inner)


def _make_transformers(params: Params) -> Iterator[tuple[str, Any]]:
    """Make the transformers of one's own, each with the name of its step."""
    names = {"columns", "impute", "scale", "model"}  # of our own steps
    for i, spec in enumerate(params.train.transformers):
        key = f"train.transformers[{i}]"
        step = make(spec.transformer, spec.params, params.seed, key=key, place=f"{key}.params")
        if not hasattr(step, "transform"):
            raise ConfigError(key, f"{spec.transformer} cannot transform")
        name = spec.name or f"own_{i}"
        if name in names:
            raise ConfigError(f"{key}.name", f"there is a step '{name}' already: choose another")
        names.add(name)
        yield name, step


def _make_grid(params: Params, model: Any, steps: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Make the values to choose from: parameters of the estimator, or `<step>__<parameter>`."""
    train, seed = params.train, params.seed
    if clashes := [name for name in steps if name in model.get_params()]:
        problem = f"{train.estimator} has a parameter '{clashes[0]}', too: choose another name"
        raise ConfigError("train.transformers", problem)
    own: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    for name, values in train.grid.items():
        step, mark, parameter = name.partition("__")
        if step in steps and mark:
            path = type(steps[step]).__name__
            checked = make_grid(steps[step], path, {parameter: values}, seed, f"{step}__")
            grid[name] = checked[parameter]
        else:
            own[name] = values
    made = make_grid(model, train.estimator, own, seed)
    return {prefix + name: values for name, values in made.items()} | grid


def _wrap(model: Any, params: Params, traits: Traits, scorer: Any) -> tuple[Any, int, int]:
    """Give a classifier probabilities and a decision threshold, as far as they are asked for.

    Returns:
        The model, the number of wrappers around it, and how many of them divide rows.
    """
    train, depth, inner = params.train, 0, 0
    if params.data.task != "classification":
        if train.threshold is not None:
            raise ConfigError("train.threshold", "only a classification has one")
        return model, depth, inner
    folds = make_inner_folds(params, grouped=traits.grouped)
    if train.probabilities and not hasattr(model, "predict_proba"):
        if not hasattr(model, "decision_function"):
            # An unfitted stack does not know the one that scikit-learn will take by itself.
            hint = ", or name train.params.final_estimator" * hasattr(model, "final_estimator")
            problem = f"{train.estimator} cannot be calibrated: use false{hint}"
            raise ConfigError("train.probabilities", problem)
        # One model fitted on all rows (ensemble=False) is smaller and predicts faster than one
        # per fold. It is calibrated within the search, so that what is scored is what is served.
        # Only an ensemble keeps groups together.
        model = CalibratedClassifierCV(model, ensemble=traits.grouped, cv=folds)
        depth, inner = 1, 1
    if train.threshold is None:
        return model, depth, inner
    if not hasattr(model, "predict_proba"):
        problem = "needs a model with probabilities: set train.probabilities to true"
        raise ConfigError("train.threshold", problem)
    if train.threshold == "tuned":
        if not counts_answers(scorer):
            problem = f"'{train.scoring}' does not depend on a threshold"
            hint = "set train.scoring to one that counts answers, such as balanced_accuracy"
            raise ConfigError("train.threshold", f"{problem}: {hint}")
        tuned = TunedThresholdClassifierCV(
            model, scoring=scorer, cv=folds, response_method="predict_proba"
        )
        return tuned, depth + 1, inner + 1
    if params.data.positive is None:
        problem = "name the class that is answered above it in data.positive"
        raise ConfigError("train.threshold", problem)
    fixed = FixedThresholdClassifier(
        model,
        threshold=train.threshold,
        pos_label=traits.positive,
        response_method="predict_proba",
    )
    return fixed, depth + 1, inner


def request_weights(search: Search, path: str) -> None:
    """Have all parts that take weights of rows get them: those that predict, not the transformers.

    Args:
        search: from `build`; metadata routing of scikit-learn is on.
        path: of the estimator, for messages.

    Raises:
        ConfigError: the estimator takes none.
    """
    lists = [values for values in search.grid.values() if isinstance(values, list)]
    choices = [value for values in lists for value in values]
    parts = [part for owner in (search.pipeline, *choices) for part in _list_parts(owner)]
    takers = [part for part in parts if has_fit_parameter(part, "sample_weight")]
    for part in takers:
        if hasattr(part, "set_fit_request"):
            part.set_fit_request(sample_weight=hasattr(part, "predict"))
    if hasattr(search.scorer, "set_score_request"):
        search.scorer.set_score_request(sample_weight=False)  # a metric counts each row once
    model = search.pipeline.get_params()[search.prefix.removesuffix("__")]
    if not any(hasattr(part, "predict") for part in _list_parts(model) if part in takers):
        problem = f"{path} takes no weights: use another estimator, or leave data.weights out"
        raise ConfigError("data.weights", problem)


def _list_parts(owner: Any) -> list[Any]:
    """List an estimator and those within it; of anything else nothing."""
    if not hasattr(owner, "get_params") or not hasattr(owner, "fit"):
        return []
    inside = [value for value in owner.get_params().values() if hasattr(value, "fit")]
    return [owner, *inside]


def _make_preparation(train: Train, traits: Traits, sparse: bool) -> list[tuple[str, Any]]:
    """Make the steps that turn columns into finite, scaled numbers."""
    numbers: list[tuple[str, Any]] = [("scale", StandardScaler())]
    if traits.missing:
        # A column without any value in one fold must not vanish there.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        numbers.insert(0, ("impute", imputer))
    if not traits.text:
        return numbers
    encoder = OneHotEncoder(
        # An id has as many categories as rows: one column each would not fit into memory.
        max_categories=train.max_categories,
        min_frequency=train.min_frequency if train.min_frequency > 1 else None,
        handle_unknown="infrequent_if_exist",
    )
    texts: list[tuple[str, Any]] = [("encode", encoder)]
    if traits.missing:
        # Missing text is NaN in a CSV file and None in JSON: both are one category of their own.
        fill = {"strategy": "constant", "fill_value": MISSING, "keep_empty_features": True}
        texts.insert(0, ("impute", SimpleImputer(**fill)))
        texts.insert(1, ("impute_none", SimpleImputer(missing_values=None, **fill)))
    # By type and not by name: own transformers may have changed the columns.
    columns = ColumnTransformer(
        [
            ("numbers", Pipeline(numbers), make_column_selector(dtype_include=NUMBERS)),
            (
                "dates",
                Pipeline([("parts", make_parts()), *numbers]),
                make_column_selector(dtype_include=DATES),
            ),
            ("texts", Pipeline(texts), make_column_selector(dtype_exclude=[*NUMBERS, DATES])),
        ],
        sparse_threshold=SPARSE if sparse else 0,
    )
    return [("columns", columns)]


def _check_task(model: Any, path: str, task: str) -> None:
    fits = is_classifier(model) if task == "classification" else is_regressor(model)
    if not fits:
        expected = "classifier" if task == "classification" else "regressor"
        raise ConfigError("train.estimator", f"{path} is not a {expected}, and data.task is {task}")
