"""The verdict of the gate on a commit, for all who ask: retrain, push, deploy, reports, checks."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from tasks.core.errors import CandidateRejected
from tasks.package.package import metrics_at, read_at, read_metrics
from tasks.repository.release_history import not_rolled_back, read_history
from tasks.repository.versions import Version, champion_of
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability
from tasks.training.evidence import (
    LOCK,
    Comparison,
    Evaluation,
    compare,
    parse_evaluation,
    sum_losses,
)
from tasks.training.gate import (
    PARAMETERS,
    Metrics,
    Rules,
    TrustedRules,
    Verdict,
    find_rules,
    judge,
)
from tasks.training.predictions import read_predictions


async def judge_commit(
    workspace: Workspace, metrics: Metrics, champion: Version | None, trusted: TrustedRules
) -> Verdict:
    """Judge a commit by rules that it does not choose itself.

    Args:
        workspace: Any workspace of the model.
        metrics: Metrics of the commit.
        champion: The version to compare it with, None if there is none.
        trusted: The rules of the deploying side.

    Raises:
        ConfigurationError: The rules have a wrong value, or do not fit the metrics.
    """
    if champion is None:
        rules, source = find_rules(trusted, metrics, "", "")
        return judge(metrics, None, rules, source)
    name, old = f"{champion.name}, which is live in {trusted.environment}", champion.commit
    old_metrics = await metrics_at(workspace, old)
    rules, source, comparison = await compare_with(
        workspace, metrics, old, old_metrics, trusted=trusted, name=name
    )
    past_losses = 0.0
    if comparison and comparison.gain < 0:
        past_losses = await _past_losses(workspace, champion, trusted.environment, rules)
    return judge(
        metrics, old_metrics, rules, source, comparison=comparison, past_losses=past_losses
    )


async def compare_with(
    workspace: Workspace,
    metrics: Metrics,
    commit: str,
    commit_metrics: Metrics | None,
    *,
    trusted: TrustedRules,
    name: str,
    is_offline: bool = False,
) -> tuple[Rules, str, Comparison | None]:
    """Compare the workspace's model with that of a commit, by the rules of that commit's side.

    Args:
        workspace: The workspace.
        metrics: Metrics of its model.
        commit: The other commit.
        commit_metrics: Metrics of the model there, None if it has none.
        trusted: The rules of the deploying side.
        name: Name of the other model, for messages.
        is_offline: Read predictions from the caches of checkout and host alone.

    Returns:
        The rules, where they are from, and the comparison; None if no rows can be compared.

    Raises:
        ConfigurationError: The rules have a wrong value.
    """
    parameters = await read_at(workspace, commit, PARAMETERS)
    rules, source = find_rules(trusted, metrics, name, parameters)
    # In a thread: the resamples of a bootstrap take tenths of a second.
    comparison = await asyncio.to_thread(
        compare,
        await _read_evaluation(workspace, metrics, is_offline=is_offline),
        await _read_evaluation(workspace, commit_metrics, commit, is_offline=is_offline),
        rules.metric,
        more_is_better=rules.more_is_better,
    )
    return rules, source, comparison


async def _read_evaluation(
    workspace: Workspace, metrics: Metrics | None, commit: str = "", *, is_offline: bool = False
) -> Evaluation:
    """Read the metrics, answers and test split of a commit, or of the workspace itself."""
    file = workspace.path / LOCK
    if commit:
        lock = await read_at(workspace, commit, LOCK.as_posix())
    else:
        lock = file.read_text() if file.is_file() else ""
    predictions = await read_predictions(workspace, commit, is_offline=is_offline)
    return parse_evaluation(metrics or {}, predictions, lock)


async def _past_losses(
    workspace: Workspace, champion: Version, environment: str, rules: Rules
) -> float:
    """Return what the releases up to the champion have lost since one of them was better.

    What was rolled back does not count, and no more than the newest releases of the history do.
    """
    commits = [
        entry.commit for entry in not_rolled_back(await read_history(workspace, environment))
    ]
    if champion.commit not in commits:
        return 0.0
    evaluations = [
        await _read_evaluation(workspace, await metrics_at(workspace, commit), commit)
        for commit in commits[commits.index(champion.commit) :]
    ]
    # Lazily: none is made of releases before a better one.
    comparisons = (
        compare(newer, older, rules.metric, more_is_better=rules.more_is_better)
        for newer, older in pairwise(evaluations)
    )
    return await asyncio.to_thread(sum_losses, comparisons)


@capability("ask the gate", run_name="ask the gate about {workspace.label}", timeout=120)
async def require_pass(workspace: Workspace, trusted: TrustedRules, branch: str) -> Verdict:
    """Refuse a candidate that does not pass the gate.

    Args:
        workspace: The workspace at the candidate.
        trusted: The rules of the environment whose live version it is compared with.
        branch: The branch that it is to be merged into.

    Returns:
        The verdict.

    Raises:
        CandidateRejected: It does not pass.
        ConfigurationError: It has no metrics, or the rules do not fit them.
    """
    champion = await champion_of(workspace, trusted.environment)
    verdict = await judge_commit(workspace, read_metrics(workspace), champion, trusted)
    if not verdict.passed:
        raise CandidateRejected(
            f"the gate rejects {workspace.label}: {verdict.text}",
            state=f"nothing was uploaded; {branch} is unchanged",
            next_step="push it without `branch`, to a branch of its own; or train a better model",
        )
    return verdict
