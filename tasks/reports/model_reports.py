"""What a commit says about its model, made into artifacts: data summary, model card, comparison."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import yaml

from tasks.package.package import read_metrics
from tasks.reports import markdown
from tasks.reports.pictures import (
    PREDICTIONS,
    draw_metrics,
    draw_predictions,
    parse_points,
    read_points,
    template_of,
)
from tasks.repository import git
from tasks.repository.versions import champion_of
from tasks.repository.workspace import Workspace
from tasks.runs import artifacts
from tasks.runs.retrying import capability
from tasks.training.gate import Metrics, Verdict, judge, read_rules


def _read(workspace: Workspace, path: str) -> Any:
    return json.loads((workspace.path / path).read_text())


async def _at(workspace: Workspace, commit: str, path: str) -> str:
    """A text file at a commit, empty if it has none."""
    shown = await workspace.git(git.show(commit, path), ok=(0, 128))
    return shown.stdout if shown.code == 0 else ""


async def metrics_at(workspace: Workspace, commit: str) -> Metrics | None:
    """The metrics that a commit has of its model, None if it has none.

    Args:
        workspace: Any workspace.
        commit: The commit.

    Returns:
        Metrics by name.
    """
    text = await _at(workspace, commit, "reports/metrics.json")
    return dict(json.loads(text)) if text else None


async def picture_of(workspace: Workspace, commit: str, champion: str | None = None) -> str:
    """The picture of what the workspace's model predicts, as a markdown image.

    Args:
        workspace: The workspace with the reports.
        commit: The commit that is named in it.
        champion: Commit of the model to show beside it.

    Returns:
        The image, or nothing where there is none to draw.
    """
    points = {f"{workspace.model}@{commit[:7]}": read_points(workspace.path)}
    if champion and champion != commit:
        old = await _at(workspace, champion, PREDICTIONS.as_posix())
        points = {f"champion {workspace.model}@{champion[:7]}": parse_points(old), **points}
    shown = {label: several for label, several in points.items() if several}
    if not shown:
        return ""
    template = template_of(workspace.path, workspace.parameters["data"]["task"])
    what = f"predictions of {' and '.join(shown)}"
    return await asyncio.to_thread(
        markdown.picture, what, lambda: draw_predictions(shown, template)
    )


async def _bars(workspace: Workspace, metrics: Mapping[str, Metrics | None]) -> str:
    """The picture of some models' metrics, as a markdown image."""
    shown = {label: each for label, each in metrics.items() if each}
    template = template_of(workspace.path, "metrics")
    return await asyncio.to_thread(
        markdown.picture, f"metrics of {' and '.join(shown)}", lambda: draw_metrics(shown, template)
    )


def _data_version(workspace: Workspace) -> str:
    lock = yaml.safe_load((workspace.path / "dvc.lock").read_text())
    first = next(iter(lock["stages"].values()))  # DVC writes them in the order of dvc.yaml
    return str(first["outs"][0]["md5"])


@capability("report training", run_name="report training of {workspace.model}", timeout=60)
async def report_training(workspace: Workspace, commit: str) -> None:
    """Publish the data summary and the cross-validation of a candidate."""
    text = "\n\n".join(
        [
            f"# {workspace.model}@{commit[:7]}: data and cross-validation",
            markdown.data_summary(_read(workspace, "reports/data.json"), _data_version(workspace)),
            "## Cross-validation",
            markdown.nested_table(_read(workspace, "reports/cv.json")),
        ]
    )
    key = artifacts.artifact_key(workspace.model, "training")
    await artifacts.publish_markdown(key, text, f"Data and cross-validation of {commit[:7]}")


async def model_card(workspace: Workspace, commit: str) -> str:
    """The model card of what is in a workspace, in markdown.

    Args:
        workspace: The workspace with the reports.
        commit: The commit that is named in it.

    Returns:
        The card.
    """
    return markdown.model_card(
        model=workspace.model,
        commit=commit,
        parameters=workspace.parameters,
        metrics=read_metrics(workspace),
        cross_validation=_read(workspace, "reports/cv.json"),
        data=_read(workspace, "reports/data.json"),
        evaluation=_read(workspace, "reports/evaluation.json"),
        data_version=_data_version(workspace),
        predictions=await picture_of(workspace, commit),
        runtime=_read(workspace, f"model/{workspace.model}.runtime.json"),
    )


@capability("report model", run_name="model card of {workspace.model}", timeout=60)
async def report_model(workspace: Workspace, commit: str) -> None:
    """Publish the model card of a saved candidate."""
    key = artifacts.artifact_key(workspace.model, "card")
    card = await model_card(workspace, commit)
    await artifacts.publish_markdown(key, card, f"Model card of {commit[:7]}")


@capability("judge candidate", run_name="judge {workspace.label}", timeout=120)
async def judge_candidate(workspace: Workspace, environment: str) -> Verdict:
    """Hold a candidate against the gate's rules and the champion of an environment.

    Args:
        workspace: The workspace at the candidate.
        environment: Where the champion is live.

    Returns:
        The verdict.

    Raises:
        ConfigurationError: The rules in `params.yaml` do not fit.
    """
    candidate = read_metrics(workspace)
    champion = await champion_of(workspace, environment)
    old = await metrics_at(workspace, champion.commit) if champion else None
    verdict = judge(candidate, old, read_rules(workspace.parameters))
    title = (
        f"{workspace.label} against {f'champion {champion.name}' if champion else 'no champion'}:"
        f" {'passed' if verdict.passed else 'rejected'}"
    )
    shown = [
        f"# {title}",
        *(f"- {reason}" for reason in verdict.reasons),
        markdown.comparison_table(candidate, old),
        await _bars(
            workspace,
            {f"champion {champion.name if champion else ''}": old, workspace.label: candidate},
        ),
        await picture_of(workspace, workspace.commit, champion.commit if champion else None),
    ]
    key = artifacts.artifact_key(workspace.model, "against-champion")
    await artifacts.publish_markdown(key, "\n\n".join(shown), title)
    return verdict
