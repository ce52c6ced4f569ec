"""The verdict of the gate on a commit, for all who ask: retrain, push, deploy, reports, checks."""

from __future__ import annotations

from tasks.core.errors import CandidateRejected
from tasks.package.package import metrics_at, read_at, read_metrics
from tasks.repository.versions import Version, champion_of
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability
from tasks.training.gate import Metrics, TrustedRules, Verdict, find_rules, judge


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
    old, name, parameters = None, "", ""
    if champion:
        name = f"{champion.name}, which is live in {trusted.environment}"
        old = await metrics_at(workspace, champion.commit)
        parameters = await read_at(workspace, champion.commit, "params.yaml")
    rules, source = find_rules(trusted, metrics, name, parameters)
    return judge(metrics, old, rules, source)


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
