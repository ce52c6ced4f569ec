"""Scorers by name: scikit-learn's, and functions of one's own in model/custom/."""

import inspect
import warnings
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import get_scorer, get_scorer_names, make_scorer

from model.params import ConfigError, suggest
from model.parts import OWN, find


def find_scorer(name: str, key: str, positive: Any = None) -> Any:
    """Find a scorer.

    Args:
        name: of one of scikit-learn's, or the import path of a function of one's own:
            `model.custom.<module>.<function>`, which takes a fitted model, features and target,
            and returns a number of which more is better.
        key: where params.yaml names it.
        positive: the class that scores of two classes are about; None for scikit-learn's choice.

    Raises:
        ConfigError: there is no such scorer.
    """
    if name.startswith(OWN):
        function = find(name, key)
        if not callable(function) or len(inspect.signature(function).parameters) != 3:
            raise ConfigError(key, f"'{name}' is not a function of three: model, features, target")
        return function
    names = get_scorer_names()
    if name not in names:
        raise ConfigError(key, f"unknown scorer '{name}'{suggest(name, names)}")
    scorer = get_scorer(name)
    # scikit-learn says how its scorers are made in these attributes only.
    function, options = scorer._score_func, scorer._kwargs
    takes_class = "pos_label" in inspect.signature(function).parameters
    if positive is None or not takes_class or options.get("average", "binary") != "binary":
        return scorer
    return make_scorer(
        function,
        response_method=scorer._response_method,
        greater_is_better=scorer._sign > 0,
        **options | {"pos_label": positive},
    )


def check_scorer(name: str, key: str, task: str, target: Any = None, positive: Any = None) -> Any:
    """Try a scorer of scikit-learn's on a model that always predicts the same.

    Args:
        name: of the scorer.
        key: where params.yaml names it.
        task: classification or regression.
        target: values of the real target (rows), or None for a made-up one of two classes.
        positive: as of `find_scorer`.

    Returns:
        The scorer.

    Raises:
        ConfigError: unknown scorer, or one that does not suit the task or the classes.
    """
    scorer = find_scorer(name, key, positive)
    if name.startswith(OWN):
        return scorer
    try:
        if target is None:
            score_dummy(find_scorer(name, key), task, np.array([0, 1] * 4))
        else:
            score_dummy(scorer, task, target)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        hint = "; name a class in data.positive" if "pos_label" in reason else ""
        raise ConfigError(key, f"'{name}' does not suit this {task}: {reason}{hint}") from None
    return scorer


def score_dummy(scorer: Any, task: str, target: Any) -> float:
    """Score a model that always predicts the same on the rows that it was fitted on."""
    dummy = DummyClassifier() if task == "classification" else DummyRegressor()
    target = np.asarray(target)
    features = np.zeros((len(target), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(scorer(dummy.fit(features, target), features, target))


def counts_answers(scorer: Any) -> bool:
    """Tell whether a scorer is computed from answers, not from probabilities."""
    return bool(getattr(scorer, "_response_method", None) == "predict")


def get_positive(scorer: Any) -> Any:
    """Return the class that a scorer of scikit-learn's is about, None if it is about all alike."""
    return scorer._get_pos_label()
