"""The verdict of the gate on a commit, for retrain, push, deploy, reports and checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from tasks.core import commands
from tasks.core.errors import CandidateRejected
from tasks.package.package import metrics_at, read_at
from tasks.package.signature import PROVENANCE
from tasks.repository.git import WORKER
from tasks.repository.release_history import not_rolled_back, read_history
from tasks.repository.versions import Version
from tasks.repository.workspace import Workspace, open_workspace
from tasks.training.dossier import Dummy, Evidence
from tasks.training.evidence import (
    LOCK,
    Comparison,
    Evaluation,
    compare,
    parse_evaluation,
    sum_losses,
)
from tasks.training.gate import Verdict, judge
from tasks.training.groups import read_groups
from tasks.training.likeness import is_same_model, keeps_sides
from tasks.training.predictions import read_predictions
from tasks.training.rows import Inputs
from tasks.training.rules import (
    PARAMETERS,
    MetricRule,
    Metrics,
    Rules,
    TrustedRules,
    find_rules,
)
from tasks.training.served import Model, load_model
from tasks.training.signing import find_signer
from tasks.training.trials import Pair, try_models


async def judge_commit(
    workspace: Workspace, metrics: Metrics, champion: Version | None, trusted: TrustedRules
) -> Verdict:
    """Judge a commit by rules that it does not choose itself.

    Where the commit has a signed verdict against the same champion by the same rules, that is it:
    nothing is computed again.

    Args:
        workspace: The workspace at the commit.
        metrics: Metrics of its model.
        champion: The version to compare it with, None if there is none.
        trusted: The rules of the deploying side.

    Raises:
        ConfigurationError: The rules have a wrong value, or do not fit the metrics.
        TransientError: The models have to be started, and the bucket or the package index does not
            answer.
    """
    old = champion.commit if champion else ""
    name = f"{champion.name}, which is live in {trusted.environment}" if champion else ""
    parameters = await read_at(workspace, old, PARAMETERS) if old else ""
    rules, source = find_rules(trusted, metrics, name, parameters)
    pair = {
        "champion": old,
        "environment": trusted.environment,
        "rules": rules.describe(),
        "needs_scores": trusted.is_required,
    }
    if signed := await _read_signed(workspace, pair):
        return signed
    old_metrics = await metrics_at(workspace, old) if old else None
    evidence = await compare_stored(workspace, metrics, old, old_metrics, rules)
    if rules.metric in metrics:
        evidence = replace(evidence, needs_scores=trusted.is_required)
        evidence = await _try_models(workspace, old, rules, evidence)
    losing = [name for name, comparison in evidence.comparisons.items() if comparison.gain < 0]
    if losing:
        lost = [rule for rule in rules.metrics if rule.metric in losing]
        losses = await _past_losses(workspace, old, trusted.environment, lost)
        evidence = replace(evidence, past_losses=losses)
    if old and old_metrics is None:
        old_metrics = {}  # a champion without metrics is one all the same
    return replace(judge(metrics, old_metrics, rules, source, evidence), pair=pair)


async def compare_stored(
    workspace: Workspace,
    metrics: Metrics,
    commit: str,
    commit_metrics: Metrics | None,
    rules: Rules,
    *,
    is_offline: bool = False,
) -> Evidence:
    """Compare the workspace's model with that of a commit, and a dummy, by stored answers.

    Args:
        workspace: The workspace.
        metrics: Metrics of its model.
        commit: The other commit; empty for none.
        commit_metrics: Metrics of the model there, None if it has none.
        rules: The rules.
        is_offline: Read answers from the caches of checkout and host alone.

    Returns:
        The evidence; without comparisons if the two were tested on different rows.
    """
    candidate = await _read_evaluation(workspace, metrics, is_offline=is_offline)
    groups = await read_groups(workspace, is_offline=is_offline)
    if groups and len(groups) == len(candidate.actual):
        candidate = replace(candidate, groups=groups)
    champion = Evaluation({}, "", (), ())
    if commit:
        champion = await _read_evaluation(workspace, commit_metrics, commit, is_offline=is_offline)
    # In a thread: the resamples of a bootstrap take tenths of a second.
    comparisons = await asyncio.to_thread(
        lambda: {
            rule.metric: comparison
            for rule in rules.metrics
            if (comparison := compare(candidate, champion, rule.metric, rule.more_is_better))
        }
    )
    sizes = None
    if commit and rules.size:
        sizes = (await _size_at(workspace, workspace.commit), await _size_at(workspace, commit))
    return Evidence(
        comparisons,
        is_same_split=bool(candidate.split) and candidate.split == champion.split,
        dummy=await asyncio.to_thread(_read_dummy, workspace, candidate, rules),
        sizes=sizes if sizes and all(sizes) else None,
    )


async def _size_at(workspace: Workspace, commit: str) -> int:
    """Return the bytes of the model file at a commit; 0 if the commit does not say."""
    text = await read_at(workspace, commit, f"model/{workspace.model}.runtime.json")
    try:
        return int(json.loads(text)["artifacts"][f"model/{workspace.model}"]["size"])
    except (ValueError, KeyError, TypeError):
        return 0


def _read_dummy(workspace: Workspace, candidate: Evaluation, rules: Rules) -> Dummy | None:
    """Read the dummy that the stage `evaluate` has scored; None if it has not."""
    file = workspace.path / "reports" / "evaluation.json"
    try:
        facts = json.loads(file.read_text())["dummy"]
        answer, metrics = str(facts["answer"]), dict(facts["metrics"])
        dummy = replace(
            candidate, metrics=metrics, predicted=[answer] * len(candidate.actual), losses=None
        )
        comparison = compare(candidate, dummy, rules.metric, rules.more_is_better)
        return Dummy(answer, metrics, comparison) if rules.metric in metrics else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _try_models(workspace: Workspace, old: str, rules: Rules, evidence: Evidence) -> Evidence:
    if old and await is_same_model(workspace, old):
        return replace(evidence, is_same_model=True, needs_scores=False)
    async with AsyncExitStack() as stack:

        async def load_champion(columns: Inputs) -> Model:
            return await load_model(
                await stack.enter_async_context(open_workspace(old, whole=False)), columns
            )

        pair = Pair(partial(load_model, workspace), load_champion if old else None)
        if old:
            pair = replace(pair, keeps_sides=await keeps_sides(workspace, old))
        return await try_models(pair, rules, evidence)


async def _read_signed(workspace: Workspace, pair: Mapping[str, Any]) -> Verdict | None:
    """Return the verdict that a valid signature of the commit covers, if it is on this pair."""
    file = workspace.path / f"model/{workspace.model}{PROVENANCE}"
    if not file.is_file() or await find_signer(workspace) != WORKER:
        return None  # a person who signs a model vouches for it, and asks no gate
    verdict = _parse_provenance(file.read_text())
    if verdict is None or verdict.pair != pair:
        return None
    commands.run_logger().info("%s: the signed verdict is on this pair", workspace.label)
    return verdict


def _parse_provenance(text: str) -> Verdict | None:
    try:
        facts = json.loads(text)["gate"]
        return Verdict.parse(facts) if facts else None
    except (ValueError, KeyError, TypeError):
        return None


async def _read_evaluation(
    workspace: Workspace, metrics: Metrics | None, commit: str = "", *, is_offline: bool = False
) -> Evaluation:
    """Read the metrics, answers and test split of a commit, or of the workspace itself."""
    lock = await read_at(workspace, commit, LOCK)
    predictions = await read_predictions(workspace, commit, is_offline=is_offline)
    return parse_evaluation(metrics or {}, predictions, lock)


async def _past_losses(
    workspace: Workspace, champion: str, environment: str, rules: Sequence[MetricRule]
) -> dict[str, float]:
    """Return what the releases up to the champion have lost since one of them was better.

    It is by metric: each has a better one of its own. What was rolled back does not count, and no
    more than the newest releases of the history do.
    """
    commits = [
        entry.commit for entry in not_rolled_back(await read_history(workspace, environment))
    ]
    comparisons: dict[str, list[Comparison | None]] = {rule.metric: [] for rule in rules}
    since = commits[commits.index(champion) :] if champion in commits else []
    known: dict[str, Evaluation] = {}
    # One after the other: answers to a large test split are many, and most are not needed.
    for newer, older in pairwise(since):
        stated = await _read_verdict(workspace, newer, older)
        for rule in rules:
            comparison = stated.comparison_of(rule.metric) if stated else None
            if comparison is None:
                known = {
                    commit: known.get(commit) or await _read_release(workspace, commit)
                    for commit in (newer, older)
                }
                comparison = await asyncio.to_thread(
                    compare, known[newer], known[older], rule.metric, rule.more_is_better
                )
            comparisons[rule.metric].append(comparison)
        newest = {rule.metric: comparisons[rule.metric][-1] for rule in rules}
        rules = [
            rule for rule in rules if (finding := newest[rule.metric]) and not finding.is_better
        ]
        if not rules:
            break
    return {metric: sum_losses(past) for metric, past in comparisons.items()}


async def _read_release(workspace: Workspace, commit: str) -> Evaluation:
    return await _read_evaluation(workspace, await metrics_at(workspace, commit), commit)


async def _read_verdict(workspace: Workspace, commit: str, champion: str) -> Verdict | None:
    """Read the verdict by which a commit was accepted beside a champion, from its provenance.

    Where both were scored on rows of their own, no later commit has their answers.
    """
    path = f"model/{workspace.model}{PROVENANCE}"
    verdict = _parse_provenance(await read_at(workspace, commit, path))
    return verdict if verdict and verdict.pair.get("champion") == champion else None


def require_pass(workspace: Workspace, verdict: Verdict, branch: str) -> None:
    """Refuse a candidate that does not pass the gate.

    Args:
        workspace: The workspace at the candidate.
        verdict: The verdict on it.
        branch: The branch that it is to be merged into.

    Raises:
        CandidateRejected: It does not pass.
    """
    if not verdict.passed:
        raise CandidateRejected(
            f"the gate rejects {workspace.label}: {verdict.text}",
            state=f"nothing was uploaded; {branch} is unchanged",
            next_step="push it without `branch`, to a branch of its own; or train a better model",
        )
