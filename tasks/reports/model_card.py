"""The model card: what a model predicts, how well, learnt from which data, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.package.card import name_type
from tasks.reports.markdown import markdown_table, nested_table

Number = int | float
SliceRow = tuple[str, int, Number | None]  # name, number of rows, metric

_MOST_COLUMNS = 20  # of the table of importance
_FEW_TEST_ROWS, _FEW_CLASS_ROWS = 100, 30
_UNCALIBRATED = 0.1
_SHIFT = 0.25  # standard deviations of the champion's data
_MISSING_SHARE = 0.05


def model_card(
    *,
    model: str,
    commit: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, Number],
    cross_validation: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    predictions: str,
    data: Mapping[str, Any],
    data_version: str,
    runtime: Mapping[str, Any],
    former_data: Mapping[str, Any] | None = None,
    former: str = "",
    slices: tuple[str, Sequence[SliceRow]] = ("", ()),
) -> str:
    """Return the model card, in markdown.

    Args:
        model: Name of the model.
        commit: Commit of the candidate.
        parameters: Content of `params.yaml`.
        metrics: Content of `reports/metrics.json`.
        cross_validation: Content of `reports/cv.json`.
        evaluation: Content of `reports/evaluation.json`.
        predictions: The picture of the predictions, as a markdown image.
        data: Content of `reports/data.json`.
        data_version: md5 of the training data.
        runtime: Content of `model/<name>.runtime.json`.
        former_data: `reports/data.json` of the model to compare the data with, if there is one.
        former: Name of that model.
        slices: A metric, and what it is in each slice of the test rows.
    """
    parts = [
        f"# {model} at `{commit[:7]}`",
        f"{describe_target(data)} `{parameters['train']['estimator']}`, trained with Python"
        f" {runtime['python']}.",
        f"## Metrics on the test split ({evaluation['rows']} rows)",
        _metrics_table(metrics, evaluation.get("intervals") or {}),
        predictions,
    ]
    if classes := evaluation.get("per_class"):
        parts.append(markdown_table(list(classes[0]), [list(row.values()) for row in classes]))
    if errors := evaluation.get("errors"):
        parts += ["Quantiles of the errors:", markdown_table(list(errors), [list(errors.values())])]
    parts += [
        *_slices(*slices),
        *_calibration(evaluation.get("calibration")),
        *_importance(evaluation.get("importance")),
        "## Data",
        data_summary(data, data_version),
    ]
    if former_data:
        changes = list_changes(former_data, data)
        parts += [
            f"### Changes since the data of {former}",
            "\n".join(f"- {change}" for change in changes) or "None that the summaries show.",
        ]
    parts += [
        "## Limits",
        "\n".join(f"- {limit}" for limit in list_limits(evaluation, data)),
        "## Cross-validation",
        nested_table(cross_validation),
        "## Parameters",
        nested_table(parameters),
        "## Runtime",
        markdown_table(["package", "version"], list(runtime["packages"].items())),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def describe_target(data: Mapping[str, Any]) -> str:
    """Return a sentence on what a model predicts, and in which unit."""
    target = data["target"]
    meaning = f": {target['meaning']}" if target.get("meaning") else ""
    unit = f", in {target['unit']}" if target.get("unit") else ""
    return f"Predicts `{target['name']}`{meaning}{unit} ({data['task']})."


def data_summary(data: Mapping[str, Any], version: str) -> str:
    """Return a summary of the training data in markdown: rows, target and columns.

    Args:
        data: Content of `reports/data.json`.
        version: md5 of the data.
    """
    target, columns = data["target"], data["columns"]
    counts = ", ".join(f"{count} {name}" for name, count in data["rows"].items())
    parts = [
        f"`{data['source']}`, version `{version[:12]}`: rows {counts};"
        f" {data['duplicate_rows']} duplicates. {describe_target(data)}"
    ]
    if classes := target.get("classes"):
        parts.append(
            markdown_table(["class", "rows"], [[row["label"], row["rows"]] for row in classes])
        )
    body = [
        [f"`{name}`", name_type(column["dtype"]), column["missing"], _describe_values(column)]
        for name, column in columns.items()
    ]
    parts.append(markdown_table(["column", "type", "missing", "values"], body))
    return "\n\n".join(parts)


def _describe_values(column: Mapping[str, Any]) -> str:
    parts = []
    if "first" in column:
        parts.append(f"{column['first'][:10]} to {column['last'][:10]}")
    if "min" in column:
        parts.append(f"{column['min']:.4g} to {column['max']:.4g}")
    if "mean" in column:
        parts.append(f"mean {column['mean']:.4g} ± {column['std']:.3g}")
    if "true" in column:
        parts.append(f"{column['true']:.0%} true")
    if "distinct" in column:
        parts.append(f"{column['distinct']} distinct")
    if column.get("private"):
        parts.append("private")
    return ", ".join(parts)


def _metrics_table(metrics: Mapping[str, Number], intervals: Mapping[str, Sequence[Number]]) -> str:
    rows = []
    for name, value in metrics.items():
        low, high = intervals.get(name) or (None, None)
        rows.append([name, value, "" if low is None else f"{low:.4g} to {high:.4g}"])
    return markdown_table(["metric", "value", "95 % interval"], rows)


def _slices(metric: str, slices: Sequence[SliceRow]) -> list[str]:
    rows = [[name, count, value] for name, count, value in slices if value is not None]
    return ["## Slices", markdown_table(["rows where", "rows", metric], rows)] if rows else []


def _calibration(calibration: Mapping[str, Any] | None) -> list[str]:
    if not calibration:
        return []
    rows = [
        [group["rows"], f"{group['probability']:.1%}", f"{group['right']:.1%}"]
        for group in calibration["bins"]
    ]
    return [
        "## Calibration",
        f"The probability of the predicted class is off by {calibration['error']:.1%} on average.",
        markdown_table(["rows", "mean probability", "right"], rows),
    ]


def _importance(importance: Mapping[str, Any] | None) -> list[str]:
    if not importance:
        return []
    title = "## Columns that matter"
    if not importance["columns"]:
        return [title, "The model has too many columns to shuffle each."]
    shown = importance["columns"][:_MOST_COLUMNS]
    rows = [
        [f"`{column['name']}`", f"{column['loss']:.4f} ± {column['std']:.4f}"] for column in shown
    ]
    left_out = len(importance["columns"]) - len(shown)
    return [
        title,
        f"The loss of {importance['metric']} if the values of one column are shuffled, on"
        f" {importance['rows']} test rows, {importance['repeats']} times. Columns with the same"
        " information share their importance.",
        markdown_table(["column", "loss"], rows),
        f"{left_out} more columns lose less." if left_out else "",
    ]


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List what differs between the data of two models, one sentence each.

    Args:
        old: `reports/data.json` of the one.
        new: That of the other.
    """
    changes = []
    if old["source"] != new["source"]:
        changes.append(f"source: `{old['source']}`, now `{new['source']}`")
    before, after = old["rows"]["used"], new["rows"]["used"]
    if before != after:
        changes.append(f"rows: {before}, now {after} ({after - before:+d})")
    if old["target"]["name"] != new["target"]["name"]:
        changes.append(f"target: `{old['target']['name']}`, now `{new['target']['name']}`")
    changes += _list_class_changes(old["target"], new["target"], before, after)
    columns = {**old["columns"], **new["columns"]}
    for name in columns:
        column, other = old["columns"].get(name), new["columns"].get(name)
        if column is None or other is None:
            changes.append(f"column `{name}` is {'new' if column is None else 'gone'}")
        else:
            changes += [
                f"column `{name}`: {change}"
                for change in _list_column_changes(column, other, old["rows"], new["rows"])
            ]
    return changes


def _list_class_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], before: int, after: int
) -> list[str]:
    shares = [
        {str(label["label"]): label["rows"] / rows for label in target.get("classes", [])}
        for target, rows in ((old, before), (new, after))
    ]
    return [
        f"class `{label}`: {shares[0].get(label, 0):.1%} of the rows, now"
        f" {shares[1].get(label, 0):.1%}"
        for label in {**shares[0], **shares[1]}
        if abs(shares[0].get(label, 0) - shares[1].get(label, 0)) >= _MISSING_SHARE
        or (label in shares[0]) != (label in shares[1])
    ]


def _list_column_changes(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_rows: Mapping[str, int],
    new_rows: Mapping[str, int],
) -> list[str]:
    changes = []
    kinds = [name_type(column["dtype"]) for column in (old, new)]
    if kinds[0] != kinds[1]:
        changes.append(f"type {kinds[0]}, now {kinds[1]}")
    missing = [
        column["missing"] / rows["raw"] for column, rows in ((old, old_rows), (new, new_rows))
    ]
    if abs(missing[1] - missing[0]) >= _MISSING_SHARE:
        changes.append(f"{missing[0]:.0%} missing, now {missing[1]:.0%}")
    if "mean" in old and "mean" in new:
        shift = abs(new["mean"] - old["mean"])
        if shift > _SHIFT * old["std"] and shift > 0:
            changes.append(f"mean {old['mean']:.4g} ± {old['std']:.3g}, now {new['mean']:.4g}")
    if "true" in old and "true" in new and abs(new["true"] - old["true"]) >= _MISSING_SHARE:
        changes.append(f"{old['true']:.0%} true, now {new['true']:.0%}")
    if old.get("last", "") != new.get("last", ""):
        changes.append(f"last {old.get('last', '-')[:10]}, now {new.get('last', '-')[:10]}")
    return changes


def list_limits(evaluation: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """List what the reports say of a model's limits, one sentence each."""
    limits = ["The metrics hold for rows of the same kind as those of the test split."]
    if evaluation["rows"] < _FEW_TEST_ROWS:
        limits.append(f"{evaluation['rows']} test rows are few: see the intervals.")
    few = [
        f"`{row['label']}` ({row['rows']})"
        for row in data["target"].get("classes", [])
        if row["rows"] < _FEW_CLASS_ROWS
    ]
    if few:
        limits.append(f"Classes with few rows: {', '.join(few)}.")
    calibration = evaluation.get("calibration") or {}
    if calibration.get("error", 0) > _UNCALIBRATED:
        limits.append("Its probabilities are inaccurate: see the calibration.")
    if any("min" in column for column in data["columns"].values()):
        limits.append(
            "It was not trained on numbers outside of the ranges in the table of columns."
        )
    if any(name_type(column["dtype"]) == "text" for column in data["columns"].values()):
        limits.append(
            "It treats a text that it was not trained on as a rare category, and a header of the"
            " answer says so."
        )
    return limits
