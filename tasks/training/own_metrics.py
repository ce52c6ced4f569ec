"""Metrics that do not follow from answers by a formula of the gate: those of `train.metrics`.

`model/score_answers.py` scores what both models have answered, in the sandbox, with the packages
and the `model/custom` of the champion: a candidate does not choose how it is measured.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.core import commands
from tasks.core.settings import CHECKOUT
from tasks.sandbox.box import Box, start_in
from tasks.training.evidence import MEASURABLE, Comparison, Evaluation
from tasks.training.rows import normalize
from tasks.training.rules import MetricRule
from tasks.training.scoring import Scores
from tasks.training.served import Model

_SCRIPT = CHECKOUT / "model" / "score_answers.py"
_SECONDS = 900.0


async def compare_own(
    scores: Scores, rules: Sequence[MetricRule], champion: Model, source: str = ""
) -> dict[str, Comparison]:
    """Compare two models by scorers of the champion's `train.metrics`.

    Args:
        scores: The answers of both to the same rows.
        rules: The rules; those on other metrics are left out.
        champion: The champion.
        source: The rows, in words, if they are a part of the shared ones.

    Returns:
        The comparisons, by metric; without those that cannot be measured.

    Raises:
        TerminalError: The packages of the champion cannot be installed.
    """
    listed = champion.package.workspace.parameters.get("train", {}).get("metrics") or ()
    scorers = {str(name).rpartition(".")[2]: str(name) for name in listed}
    rule_of = {rule.metric: rule for rule in rules if rule.metric not in MEASURABLE}
    scorers = {metric: name for metric, name in scorers.items() if metric in rule_of}
    if not scorers:
        return {}
    folder = champion.package.workspace.path / "gate" / uuid4().hex[:8]
    try:
        request = await asyncio.to_thread(_write_request, scores, scorers, champion)
    except (KeyError, ValueError):  # without its words, which have an answer
        names = ", ".join(scorers)
        commands.run_logger().warning("%s: a model answers with no class of either", names)
        return {}
    await asyncio.to_thread(_lay_out, folder, request, champion)
    python = await champion.make_python(champion.package)
    box = Box(
        folder=folder,
        writable=(folder,),
        readable=(_SCRIPT,),
        pythons=(python,),
        temporary=folder / "tmp",
        settings={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    argv = start_in(box, [str(python), str(_SCRIPT)])
    try:
        await commands.run(argv, timeout=_SECONDS, cwd=folder)
        results = json.loads((folder / "answer.json").read_text())
    except (commands.CommandTimeout, OSError, ValueError):
        results = {}
    comparisons = {}
    for metric in scorers:
        try:
            comparison = _read_result(results[metric], scores, rule_of[metric])
            comparisons[metric] = replace(comparison, source=source or scores.shared.text)
        except (KeyError, TypeError, ValueError):
            problem = results.get(metric, "it was not scored")
            commands.run_logger().warning("%s cannot be compared: %s", metric, problem)
    return comparisons


def _lay_out(folder: Path, request: str, champion: Model) -> None:
    (folder / "tmp").mkdir(parents=True)
    (folder / "request.json").write_text(request)
    custom = champion.package.workspace.path / "model" / "custom"
    if custom.is_dir():
        shutil.copytree(custom, folder / "model" / "custom")


def _write_request(scores: Scores, scorers: Mapping[str, str], champion: Model) -> str:
    classes = [*champion.classes, *scores.candidate.classes]
    typed = {normalize(label): label for label in reversed(classes)}
    convert: Callable[[str], Any] = (lambda text: typed[normalize(text)]) if typed else float
    keep = [
        at
        for at, text in enumerate(scores.champion.actual)
        if not typed or normalize(text) in typed
    ]
    inputs = champion.data.inputs

    def describe(model: Evaluation) -> dict[str, Any]:
        return {
            "predict": [convert(str(model.predicted[at])) for at in keep],
            "predict_proba": [model.shares[at] for at in keep] if model.shares else None,
            "classes": list(model.classes),
        }

    groups = scores.candidate.groups
    positive = champion.package.workspace.parameters["data"].get("positive")
    return json.dumps(
        {
            "scorers": scorers,
            "positive": None if positive is None else str(positive),
            "actual": [convert(str(scores.champion.actual[at])) for at in keep],
            "rows": [inputs.convert(scores.shared.rows[at]) for at in keep],
            "groups": [groups[at] for at in keep] if groups else None,
            "models": [describe(scores.candidate), describe(scores.champion)],
        }
    )


def _read_result(result: Mapping[str, Any], scores: Scores, rule: MetricRule) -> Comparison:
    new, old = (float(value) for value in result["values"])
    sign = 1 if rule.more_is_better else -1
    interval = None
    if result["interval"]:
        low, high = sorted(sign * float(end) for end in result["interval"])
        interval = (low, high)
    pairs = zip(scores.candidate.predicted, scores.champion.predicted, strict=True)
    different = sum(a != b for a, b in pairs)
    rows = len(scores.shared.rows)
    return Comparison(sign * (new - old), interval, rows, different, values=(new, old))
