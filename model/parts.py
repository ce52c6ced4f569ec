"""Make estimators and transformers from import paths and arguments, checked before any is fitted.

An argument may be an estimator itself, as those of a stack or a vote are:
`{estimator: sklearn.svm.SVC, params: {C: 10}}`.
"""

import importlib.util
import inspect
import math
import warnings
from typing import Any

from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils import all_estimators

from model.params import ConfigError, suggest, suggest_nearest

OWN = "model.custom."
SPEC = {"estimator", "params"}
DISTRIBUTIONS = {"loguniform", "randint", "uniform"}


def make(path: str, arguments: dict[str, Any], seed: int, *, key: str, place: str) -> Any:
    """Make an estimator or a transformer.

    Args:
        path: import path of a class, or of a function of one's own that returns an estimator.
        arguments: by name; estimators among them are made, too.
        seed: random state of what draws random numbers and is given none.
        key: where params.yaml names the path.
        place: where it names the arguments.

    Raises:
        ConfigError: it does not exist, or cannot be made of these.
    """
    factory = find(path, key)
    is_function = inspect.isfunction(factory) and path.startswith(OWN)
    if not is_function and not (inspect.isclass(factory) and hasattr(factory, "fit")):
        raise ConfigError(key, f"'{path}' is not an estimator class")
    allowed = inspect.signature(factory).parameters
    for name in arguments:
        if name not in allowed and not _takes_any(factory):
            problem = f"{path} has no parameter '{name}'{suggest(name, allowed)}"
            raise ConfigError(f"{place}.{name}", problem)
    made = {name: make_value(value, f"{place}.{name}", seed) for name, value in arguments.items()}
    try:
        instance = factory(**made)
    except TypeError as error:
        raise ConfigError(key, f"{path} cannot be created: {error}") from None
    if not hasattr(instance, "fit"):
        raise ConfigError(key, f"'{path}' returns no estimator")
    if arguments:
        validate(instance, place)
    defaults = instance.get_params() if hasattr(instance, "get_params") else {}
    if "random_state" in defaults and "random_state" not in arguments:
        instance.set_params(random_state=seed)
    return instance


def make_value(value: Any, key: str, seed: int) -> Any:
    """Make the estimators in a value: one, a list of them, or pairs of name and estimator."""
    if _is_spec(value):
        if unknown := sorted(map(str, set(value) - SPEC)):
            raise ConfigError(f"{key}.{unknown[0]}", f"unknown key{suggest(unknown[0], SPEC)}")
        path, arguments = value["estimator"], value.get("params") or {}
        return make(path, arguments, seed, key=f"{key}.estimator", place=f"{key}.params")
    if isinstance(value, dict) and value and all(map(_is_spec, value.values())):
        return [(name, make_value(part, f"{key}.{name}", seed)) for name, part in value.items()]
    if isinstance(value, list):
        return [make_value(part, f"{key}[{i}]", seed) for i, part in enumerate(value)]
    return value


def make_grid(
    owner: Any, path: str, grid: dict[str, Any], seed: int, prefix: str = ""
) -> dict[str, Any]:
    """Make the values to choose from, and check them as far as that needs no data.

    Args:
        owner: the estimator or transformer whose parameters they are.
        path: its import path, for messages.
        grid: lists of values, or distributions, by parameter of the owner.
        seed: of estimators among them.
        prefix: of the parameters, where params.yaml has one.

    Raises:
        ConfigError: there is no such parameter, or it does not take such a value.
    """
    allowed = owner.get_params()
    made: dict[str, Any] = {}
    for name, values in grid.items():
        key = f"train.grid.{prefix}{name}"
        if name not in allowed and not _takes_any(type(owner)):
            problem = f"{path} has no parameter '{name}'{suggest(name, allowed)}"
            raise ConfigError(key, problem)
        if isinstance(values, dict):
            made[name], samples = make_distribution(values, key)
        else:
            samples = [make_value(value, f"{key}[{i}]", seed) for i, value in enumerate(values)]
            made[name] = samples
        for choice in ParameterGrid({name: samples}):
            changed = clone(owner).set_params(**choice)
            part = changed.get_params().get(name.rpartition("__")[0], changed)
            validate(part, key)
    return made


def make_distribution(spec: dict[str, Any], key: str) -> tuple[Any, list[Any]]:
    """Make a distribution to draw from, such as `{loguniform: [0.01, 100]}`.

    Returns:
        It, and the least and the greatest value that it draws, about.

    Raises:
        ConfigError: it is none, or has no two limits.
    """
    kind = next(iter(spec), "")
    if len(spec) != 1 or kind not in DISTRIBUTIONS:
        hint = suggest(str(kind), DISTRIBUTIONS)
        raise ConfigError(f"{key}.{kind}", f"unknown distribution{hint}")
    kinds = (int,) if kind == "randint" else (int, float)
    limits: Any = spec[kind]
    pair: list[Any] = limits if isinstance(limits, list) and len(limits) == 2 else [None]
    if not all(type(limit) in kinds and math.isfinite(limit) for limit in pair):
        numbers = "whole numbers" if kind == "randint" else "numbers"
        raise ConfigError(f"{key}.{kind}", f"needs two {numbers}, [low, high], not {limits!r}")
    low, high = pair
    if not low < high or (kind == "loguniform" and low <= 0):
        least = "more than 0 and " if kind == "loguniform" else ""
        raise ConfigError(f"{key}.{kind}", f"the first has to be {least}less than the second")
    if kind == "randint":
        return stats.randint(low, high), [low, high - 1]
    low, high = float(low), float(high)
    if kind == "loguniform":
        return stats.loguniform(low, high), [low, high]
    return stats.uniform(low, high - low), [low, high]  # SciPy's takes the width


def find(path: str, key: str) -> Any:
    """Find a class or a function by its import path.

    Raises:
        ConfigError: there is none; says what was probably meant, or which package to add.
    """
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
    namesakes = sorted(path for path in paths if path.rpartition(".")[2].lower() == name.lower())
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


def validate(model: Any, key: str) -> None:
    """Let scikit-learn check the values of parameters, as it would when fitting."""
    if not isinstance(model, BaseEstimator) or not hasattr(model, "_parameter_constraints"):
        return  # an estimator of one's own that declares no constraints
    try:
        model._validate_params()
    except ValueError as error:
        raise ConfigError(key, str(error)) from None


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("estimator"), str)


def _takes_any(factory: Any) -> bool:
    """Tell whether a class or function takes parameters that it does not name (`**kwargs`)."""
    kinds = [parameter.kind for parameter in inspect.signature(factory).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds
