"""Load the saved model through MLEM, as its users do, and score it on data/test.csv."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from model import card, mlem_api
from model.files import (
    EVALUATION,
    FORMER_PREDICTIONS,
    METRICS,
    PREDICTIONS,
    TEST,
    TRAIN,
    get_model_path,
    read_split,
    read_target,
    write_json,
)
from model.metric_names import get_metric_name
from model.params import ConfigError, Params, run
from model.scorers import find_scorer

# Whoever reads the answers has all of the file in memory.
MOST_CLASSES = 20  # of which probabilities are written
MOST_ROWS = 10_000


def main(params: Params) -> None:
    """Write reports/metrics.json, reports/evaluation.json and data/predictions.csv.

    Args:
        params: `name`, `seed`, `data.target`, `data.task`, `data.positive` and `train.metrics`.

    Raises:
        ConfigError: a metric is not a number on these rows.
    """
    features, actual, _, keys = read_split(TEST, params.data.target)
    model = mlem_api.load(get_model_path(params.name))
    predicted = model.predict(features)
    probabilities = _find_probabilities(params, model, features)
    scores, details = _measure(
        params, model, features, actual, predicted, probabilities=probabilities
    )
    details["dummy"] = _measure_dummy(params, features, actual)
    rule = params.data.split
    groups = keys if rule.kind in ("stable", "group") and rule.columns else None
    details["intervals"] = card.measure_intervals(actual, predicted, details, params.seed, groups)
    details["calibration"] = card.measure_calibration(model, features, actual, params.seed)
    details["importance"] = card.measure_importance(
        model, features, actual, params.data.task, params.seed
    )
    write_json(METRICS, scores)
    write_json(EVALUATION, {"format": 1, "task": params.data.task, "rows": len(actual)} | details)
    table = pd.DataFrame({"actual": actual, "predicted": predicted})
    if probabilities is not None and len(model.classes_) <= MOST_CLASSES:
        table = table.join(write_probabilities(probabilities, model.classes_, table.index))
    table.to_csv(PREDICTIONS, index=False)
    FORMER_PREDICTIONS.unlink(missing_ok=True)


def _find_probabilities(params: Params, model: Any, features: "pd.DataFrame") -> Any:
    """Return the probabilities of each class, of a classifier that has them; else None."""
    if params.data.task != "classification" or not hasattr(model, "predict_proba"):
        return None
    return model.predict_proba(features)


def write_probabilities(probabilities: Any, classes: Any, index: "pd.Index") -> "pd.DataFrame":
    """Write the probabilities of rows as columns; of very many rows, of an even share.

    Args:
        probabilities: one column a class.
        classes: their labels.
        index: of the rows.
    """
    names = [f"probability_{label}" for label in classes]
    shown = slice(None, None, -(-len(index) // MOST_ROWS) or 1)
    # Six digits are enough to compare them, and take a third of the space.
    texts = np.char.mod("%.6g", probabilities[shown])
    return pd.DataFrame(texts, index[shown], names).reindex(index, fill_value="")


def _measure(
    params: Params,
    model: Any,
    features: "pd.DataFrame",
    actual: "pd.Series",
    predicted: Any,
    *,
    probabilities: Any,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure all metrics of a fitted model, and what a report shows beside them."""
    if params.data.task == "classification":
        scores, details = _measure_classification(model, actual, predicted, probabilities)
    else:
        scores, details = _measure_regression(actual, predicted)
    return scores | _measure_others(params, model, features, actual), details


def _measure_others(
    params: Params, model: Any, features: "pd.DataFrame", actual: "pd.Series"
) -> dict[str, float]:
    """Measure `train.metrics`."""
    classes = getattr(model, "classes_", ())
    positive = next((label for label in classes if str(label) == params.data.positive), None)
    scores = {}
    for i, name in enumerate(params.train.metrics):
        key = f"train.metrics[{i}]"
        score = float(find_scorer(name, key, positive)(model, features, actual))
        if not np.isfinite(score):
            raise ConfigError(key, f"'{name}' is not a number on the {len(actual)} test rows")
        scores[get_metric_name(name)] = score
    return scores


def _measure_classification(
    model: Any, actual: "pd.Series", predicted: Any, probabilities: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    labels = model.classes_
    scores = {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(actual, predicted),
        "f1_macro": metrics.f1_score(actual, predicted, average="macro", zero_division=0),
    }
    if probabilities is not None:
        scores["log_loss"] = metrics.log_loss(actual, probabilities, labels=labels)
    per_class = zip(
        *metrics.precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0),
        strict=True,
    )
    details = {
        "labels": labels.tolist(),
        "confusion_matrix": metrics.confusion_matrix(actual, predicted, labels=labels).tolist(),
        "per_class": [
            {
                "label": label,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "rows": int(rows),
            }
            for label, (precision, recall, f1, rows) in zip(labels.tolist(), per_class, strict=True)
        ],
    }
    return {name: float(value) for name, value in scores.items()}, details


def _measure_regression(
    actual: "pd.Series", predicted: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    scores = {
        "mae": float(metrics.mean_absolute_error(actual, predicted)),
        "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
        "r2": float(metrics.r2_score(actual, predicted)),
    }
    errors = np.quantile(predicted - actual, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    names = ["min", "p05", "p25", "p50", "p75", "p95", "max"]
    return scores, {"errors": dict(zip(names, map(float, errors), strict=True))}


def _measure_dummy(params: Params, features: "pd.DataFrame", actual: "pd.Series") -> dict[str, Any]:
    """Score a model that always gives one answer; the gate compares the model with it."""
    answers = read_target(TRAIN, params.data.target)
    nothing = np.zeros((len(answers), 1))
    dummy = DummyClassifier() if params.data.task == "classification" else DummyRegressor()
    model = dummy.fit(nothing, answers)
    predicted = model.predict(features)
    probabilities = _find_probabilities(params, model, features)
    scores, _ = _measure(params, model, features, actual, predicted, probabilities=probabilities)
    return {"answer": predicted[:1].tolist()[0], "metrics": scores}


if __name__ == "__main__":
    run(main)
