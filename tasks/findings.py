"""What a commit says about its model, made into artifacts: data summary, model card, comparison."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tasks import git, report
from tasks.capability import capability
from tasks.gate import Metrics, Verdict, judge, read_rules
from tasks.packaging import read_metrics
from tasks.registry import champion_of
from tasks.workspace import Workspace


def _read(workspace: Workspace, path: str) -> Any:
    return json.loads((workspace.path / path).read_text())


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
            report.data_summary(_read(workspace, "reports/data.json"), _data_version(workspace)),
            "## Cross-validation",
            report.nested_table(_read(workspace, "reports/cv.json")),
        ]
    )
    key = report.artifact_key(workspace.model, "training")
    await report.publish_markdown(key, text, f"Data and cross-validation of {commit[:7]}")


async def model_card(workspace: Workspace, commit: str) -> str:
    """The model card of what is in a workspace, in markdown.

    Args:
        workspace: The workspace with the reports.
        commit: The commit that is named in it.

    Returns:
        The card.
    """
    return report.model_card(
        model=workspace.model,
        commit=commit,
        parameters=workspace.parameters,
        metrics=read_metrics(workspace),
        cross_validation=_read(workspace, "reports/cv.json"),
        data=_read(workspace, "reports/data.json"),
        evaluation=_read(workspace, "reports/evaluation.json"),
        data_version=_data_version(workspace),
        runtime=_read(workspace, f"model/{workspace.model}.runtime.json"),
    )


@capability("report model", run_name="model card of {workspace.model}", timeout=60)
async def report_model(workspace: Workspace, commit: str) -> None:
    """Publish the model card of a saved candidate."""
    key = report.artifact_key(workspace.model, "card")
    card = await model_card(workspace, commit)
    await report.publish_markdown(key, card, f"Model card of {commit[:7]}")


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
    old: Metrics | None = None
    if champion:
        shown = await workspace.git(git.show(champion.commit, "reports/metrics.json"), ok=(0, 128))
        old = json.loads(shown.stdout) if shown.code == 0 else None
    verdict = judge(candidate, old, read_rules(workspace.parameters))
    await report.publish_table(
        report.artifact_key(workspace.model, "against-champion"),
        report.comparison(candidate, old),
        f"{workspace.label} against {champion.name if champion else 'no champion'}:"
        f" {'passed' if verdict.passed else 'rejected'}; {'; '.join(verdict.reasons)}",
    )
    return verdict
