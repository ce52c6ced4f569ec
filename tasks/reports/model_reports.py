"""Reports on a model, from the files of its commit: data summary, model card, comparison."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tasks.core.fast_yaml import read_yaml
from tasks.package.package import metrics_at, read_at, read_metrics
from tasks.reports import markdown
from tasks.reports.mlflow_bridge import log_model
from tasks.reports.model_card import data_summary
from tasks.reports.model_card import model_card as write_model_card
from tasks.reports.pictures import (
    draw_intervals,
    draw_metrics,
    draw_predictions,
    parse_points,
    template_of,
    thin,
)
from tasks.repository.git import remote_head
from tasks.repository.parameters import list_private
from tasks.repository.release_history import champion_for, read_history
from tasks.repository.workspace import Workspace
from tasks.runs import artifacts
from tasks.runs.retrying import capability
from tasks.training.evidence import TEST, parse_evaluation
from tasks.training.gate import Verdict
from tasks.training.predictions import read_predictions
from tasks.training.rows import read_rows
from tasks.training.rules import Metrics, Rules, TrustedRules
from tasks.training.slices import measure_slices
from tasks.training.verdict import judge_commit


def _read_json(workspace: Workspace, path: str) -> Any:
    return json.loads((workspace.path / path).read_text())


def _parse_report(text: str) -> Any:
    """Parse a report of another commit; None if it has none, or one of another kind."""
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) and report.get("format") == 1 else None


async def picture_of(
    workspace: Workspace, commit: str, champion: str | None = None, *, is_offline: bool = False
) -> str:
    """Draw the predictions of the workspace's model, as a markdown image; empty if there are none.

    Args:
        workspace: The workspace with the reports.
        commit: The commit to show in the title.
        champion: Commit of a model to show beside it.
        is_offline: Read predictions from the caches of checkout and host alone.
    """
    own = await read_predictions(workspace, is_offline=is_offline)
    points = {f"{workspace.model}@{commit[:7]}": parse_points(own)}
    if champion and champion != commit:
        old = await read_predictions(workspace, champion, is_offline=is_offline)
        points = {f"champion {workspace.model}@{champion[:7]}": parse_points(old), **points}
    points = {label: rows for label, rows in points.items() if rows}
    if not points:
        return ""
    task = workspace.parameters["data"]["task"]
    template = template_of(workspace.path, task)
    title = f"predictions of {' and '.join(points)}"
    if task == "regression":  # a confusion matrix counts all rows
        shares = {label: thin(rows) for label, rows in points.items()}
        title += " (an even share of the rows)" if shares != points else ""
        points = shares
    return await asyncio.to_thread(
        markdown.picture, title, lambda: draw_predictions(points, template)
    )


async def _metrics_picture(workspace: Workspace, metrics: Mapping[str, Metrics | None]) -> str:
    """Draw the metrics of some models, as a markdown image."""
    known = {label: values for label, values in metrics.items() if values}
    template = template_of(workspace.path, "metrics")
    return await asyncio.to_thread(
        markdown.picture, f"metrics of {' and '.join(known)}", lambda: draw_metrics(known, template)
    )


def _data_version(workspace: Workspace) -> str:
    lock = read_yaml((workspace.path / "dvc.lock").read_text())
    first = next(iter(lock["stages"].values()))  # DVC writes them in the order of dvc.yaml
    return str(first["outs"][0]["md5"])


@capability("report training", run_name="report training of {workspace.model}", timeout=60)
async def report_training(workspace: Workspace, commit: str) -> None:
    """Publish the data summary and the cross-validation of a candidate."""
    data = _read_json(workspace, "reports/data.json")
    text = "\n\n".join(
        [
            f"# {workspace.model}@{commit[:7]}: data and cross-validation",
            data_summary(data, _data_version(workspace)),
            "## Cross-validation",
            markdown.nested_table(_read_json(workspace, "reports/cv.json")),
        ]
    )
    key = artifacts.artifact_key(workspace.model, "training")
    await artifacts.publish_markdown(key, text, f"Data and cross-validation of {commit[:7]}")


async def model_card(
    workspace: Workspace, commit: str, baseline: str, *, is_offline: bool = False
) -> str:
    """Return the model card of what is in a workspace, in markdown.

    Args:
        workspace: The workspace with the reports.
        commit: The commit to show in the title.
        baseline: The commit whose data to compare with, such as main.
        is_offline: Read predictions from the caches of checkout and host alone.
    """
    shown = await read_at(workspace, baseline, "reports/data.json") if baseline else ""
    rules = Rules.model_validate(workspace.parameters["gate"])
    predictions = await read_predictions(workspace, is_offline=is_offline)
    return write_model_card(
        model=workspace.model,
        commit=commit,
        parameters=workspace.parameters,
        metrics=read_metrics(workspace),
        cross_validation=_read_json(workspace, "reports/cv.json"),
        data=_read_json(workspace, "reports/data.json"),
        evaluation=_read_json(workspace, "reports/evaluation.json"),
        data_version=_data_version(workspace),
        predictions=await picture_of(workspace, commit, is_offline=is_offline),
        runtime=_read_json(workspace, f"model/{workspace.model}.runtime.json"),
        former_data=_parse_report(shown),
        former=baseline.rpartition("origin/")[2],
        slices=(
            rules.metric,
            await asyncio.to_thread(_measure_slices, workspace, rules, predictions),
        ),
    )


def _measure_slices(
    workspace: Workspace, rules: Rules, predictions: str
) -> list[tuple[str, int, float | None]]:
    """Measure the model on each slice of its test rows; none if the rows are not here."""
    file = workspace.path / TEST
    answers = parse_evaluation({}, predictions, "")
    if not (rules.slices and answers.actual and file.is_file()):
        return []
    rows = list(read_rows(file))
    if len(rows) != len(answers.actual):
        return []
    return measure_slices(rules, rows, answers, list_private(workspace.parameters))


@capability("report model", run_name="model card of {workspace.model}", timeout=180)
async def report_model(workspace: Workspace, commit: str) -> None:
    """Publish the model card of a saved candidate, and log the candidate to MLflow."""
    key = artifacts.artifact_key(workspace.model, "card")
    card = await model_card(workspace, commit, remote_head("main"))
    await artifacts.publish_markdown(key, card, f"Model card of {commit[:7]}")
    await log_model(workspace, commit, card)


async def intervals_picture(verdict: Verdict) -> str:
    """Draw the intervals of a verdict, as a markdown image; empty if there is no comparison."""
    if not verdict.findings:
        return ""
    return await asyncio.to_thread(
        markdown.picture, "gains with intervals", lambda: draw_intervals(verdict.findings)
    )


@capability("judge candidate", run_name="judge {workspace.label}", timeout=3600)
async def judge_candidate(workspace: Workspace, trusted: TrustedRules) -> Verdict:
    """Judge a candidate by the rules and the champion of an environment, and report the verdict.

    Args:
        workspace: The workspace at the candidate.
        trusted: The rules of the environment.

    Raises:
        ConfigurationError: The rules do not fit the metrics.
    """
    candidate = read_metrics(workspace)
    history = await read_history(workspace, trusted.environment)
    champion = champion_for(workspace.commit, history)
    old = await metrics_at(workspace, champion.commit) if champion else None
    verdict = await judge_commit(workspace, candidate, champion, trusted)
    title = (
        f"{workspace.label} against {f'champion {champion.name}' if champion else 'no champion'}:"
        f" {'passed' if verdict.passed else 'rejected'}"
    )
    parts = [
        f"# {title}",
        *(f"- {reason}" for reason in verdict.reasons),
        f"The rules are those of {verdict.source}.",
        markdown.findings_table(verdict.findings),
        await intervals_picture(verdict),
        "## Metrics, each on its own test rows",
        markdown.comparison_table(candidate, old),
        await _metrics_picture(
            workspace,
            {f"champion {champion.name if champion else ''}": old, workspace.label: candidate},
        ),
        await picture_of(workspace, workspace.commit, champion.commit if champion else None),
    ]
    key = artifacts.artifact_key(workspace.model, "against-champion")
    await artifacts.publish_markdown(key, "\n\n".join(filter(None, parts)), title)
    return verdict
