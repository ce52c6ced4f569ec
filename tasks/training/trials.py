"""Trials: start the models of candidate and champion, and let them show what they are.

Where the gate of an environment is required, nothing counts that is only stated: metrics and
answers in a commit are what the code of that commit, or a person, has written there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from tasks.core import commands
from tasks.core.errors import TerminalError
from tasks.training.code_tests import run_tests
from tasks.training.dossier import Evidence
from tasks.training.evidence import MEASURABLE, Comparison, Evaluation, measure, weigh_answers
from tasks.training.own_metrics import compare_own
from tasks.training.rows import Inputs, find_step
from tasks.training.rules import MetricRule, Rules
from tasks.training.scoring import (
    Scores,
    measure_dummy,
    measure_latencies,
    score_alone,
    score_both,
    try_behaviour,
)
from tasks.training.served import Model, NotComparable, Servers
from tasks.training.slices import cut, take

_PROBLEMS = (NotComparable, TerminalError)


@dataclass(frozen=True)
class Pair:
    """The two models, not yet on this host.

    Attributes:
        candidate: Loads the candidate.
        champion: Loads the champion, given the columns of the candidate; None if there is none.
        keeps_sides: Whether the champion's test rows have to be none that the candidate was
            trained on.
    """

    candidate: Callable[[], Awaitable[Model]]
    champion: Callable[[Inputs], Awaitable[Model]] | None
    keeps_sides: bool = False


async def try_models(pair: Pair, rules: Rules, evidence: Evidence) -> Evidence:
    """Start the models for what their stored answers do not decide.

    Args:
        pair: The models.
        rules: The rules.
        evidence: What their stored answers show, and whether that counts.

    Returns:
        The evidence with what they have shown, or why they could not.
    """
    if evidence.needs_scores:
        evidence = replace(evidence, comparisons={}, why_none="")
    compared = {rule.metric for rule in rules.compared}
    if evidence.is_same_split and not evidence.needs_scores:
        compared &= MEASURABLE  # of the others, the stated values are of the same rows
    lacking = bool(compared - evidence.comparisons.keys()) or bool(rules.slices)
    has_old, has_tests = pair.champion is not None, rules.tests
    compares = has_old and bool(lacking or rules.latency)
    if not (evidence.needs_scores or rules.behaviour or has_tests or compares):
        return evidence
    async with AsyncExitStack() as stack:
        servers = Servers(stack)
        try:
            candidate = await pair.candidate()
            if evidence.needs_scores:
                own = await score_alone(candidate, servers)
                evidence = await asyncio.to_thread(_measure_alone, candidate, own, rules, evidence)
            if rules.behaviour:
                shares = await try_behaviour(candidate, rules.behaviour, servers)
                evidence = replace(evidence, broken_shares=shares)
            if has_tests and not has_old:
                failed = await run_tests(candidate, candidate.package.workspace)
                evidence = replace(evidence, failed_tests=failed)
            if not (compares or (has_tests and has_old)):
                return evidence
            assert pair.champion
            champion = await pair.champion(candidate.data.inputs)
            if rules.latency:
                latencies = await measure_latencies(candidate, champion, servers)
                evidence = replace(evidence, latencies=latencies)
            if lacking:
                scores = await score_both(
                    candidate, champion, servers, keeps_sides=pair.keeps_sides
                )
                private = candidate.data.private | champion.data.private
                evidence = await asyncio.to_thread(_weigh_scores, scores, rules, evidence, private)
                evidence = await weigh_own(scores, rules, champion, evidence)
            if has_tests:
                failed = await run_tests(candidate, champion.package.workspace)
                evidence = replace(evidence, failed_tests=failed)
        except _PROBLEMS as error:
            text = error.what if isinstance(error, TerminalError) else str(error)
            # In one line: it may end with output of the model's code, which must not look like a
            # heading of the report.
            why = " ".join(text.split())
            commands.run_logger().warning("the gate cannot ask the models: %s", why)
            why_none = ", and ".join(filter(None, [evidence.why_none, why]))
            return replace(evidence, why_none=why_none, why_untried=why)
    return evidence


def _measure_alone(candidate: Model, own: Evaluation, rules: Rules, evidence: Evidence) -> Evidence:
    """Add the metrics that the candidate's answers to its own test rows give."""
    values = {rule.metric: measure(rule.metric, own) for rule in rules.metrics}
    measured = {metric: value for metric, value in values.items() if value is not None}
    dummy = evidence.dummy
    if rules.metric in measured and not rules.has_bound:
        dummy = measure_dummy(candidate, own, rules)
    return replace(
        evidence,
        measured=measured,
        measured_rows=len(own.actual),
        is_share=find_step([candidate.data.test]) > 1,
        dummy=dummy,
    )


def _weigh_scores(
    scores: Scores, rules: Rules, evidence: Evidence, private: frozenset[str]
) -> Evidence:
    """Add the comparisons of both models' answers to the same rows."""
    shared = scores.shared
    comparisons = {
        rule.metric: comparison
        for rule in rules.compared
        if (comparison := _compare(scores, rule, shared.text))
    }
    former = None
    if own := _take_former(scores):
        former = _compare(own, rules, _describe_former(own))
    return replace(
        evidence,
        # What both have stored for the same rows was measured on more of them, or on as many.
        comparisons={**comparisons, **evidence.comparisons},
        why_none="",
        former=former,
        slices=cut(rules, shared.rows, scores.candidate, scores.champion, private),
    )


async def weigh_own(scores: Scores, rules: Rules, champion: Model, evidence: Evidence) -> Evidence:
    """Add the comparisons by scorers of the champion's `train.metrics`."""
    comparisons = await compare_own(scores, rules.metrics, champion)
    evidence = replace(evidence, comparisons={**evidence.comparisons, **comparisons})
    own = _take_former(scores) if rules.metric in comparisons else None
    if own is None:
        return evidence
    former = await compare_own(own, (rules,), champion, _describe_former(own))
    return replace(evidence, former=former.get(rules.metric))


def _take_former(scores: Scores) -> Scores | None:
    """Return the answers to the champion's test rows; None if there are no others, or none."""
    shared = scores.shared
    if not 0 < len(shared.former) < len(shared.rows):
        return None
    rows = replace(shared, rows=[shared.rows[at] for at in shared.former])
    models = [take(model, shared.former) for model in (scores.candidate, scores.champion)]
    return Scores(rows, *models)


def _describe_former(scores: Scores) -> str:
    return f"{len(scores.shared.rows)} test rows of the champion"


def _compare(scores: Scores, rule: MetricRule, source: str) -> Comparison | None:
    return weigh_answers(
        scores.candidate,
        scores.champion,
        rule.metric,
        more_is_better=rule.more_is_better,
        source=source,
    )
