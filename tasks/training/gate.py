"""The gate: judge a candidate by rules and evidence. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.training.dossier import Dummy, Evidence
from tasks.training.evidence import MEASURABLE, Comparison
from tasks.training.findings import ROUNDING, Finding, Part
from tasks.training.further_rules import judge_server, judge_slices
from tasks.training.rules import CORRECT, PARAMETERS, MetricRule, Metrics, Rules

_ALIKE = 1e-4  # stated and measured differ by rounding only


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate.

    Attributes:
        passed: Whether the candidate may be released.
        reasons: One sentence per rule.
        source: Where the rules are from.
        asks: Whether a person has to agree before it goes live.
        findings: The comparisons with the champion, that of the metric that decides first.
        pair: Commit of the champion, environment, rules, and whether stated values count; a signed
            verdict counts for no others.
        is_scored: False if the models were not asked, so that this is no verdict of a deploy.
    """

    passed: bool
    reasons: tuple[str, ...]
    source: str = PARAMETERS
    asks: bool = False
    findings: tuple[Finding, ...] = ()
    pair: Mapping[str, Any] = field(default_factory=dict)
    is_scored: bool = True

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> Verdict:
        """Return a verdict from what `dataclasses.asdict` made of it, and JSON of that.

        Raises:
            TypeError, KeyError: It is none of this version.
        """
        findings = [
            Finding(**{**finding, "comparison": Comparison.parse(finding["comparison"])})
            for finding in facts["findings"]
        ]
        values = {**facts, "reasons": tuple(facts["reasons"]), "findings": tuple(findings)}
        return cls(**values)

    def comparison_of(self, metric: str) -> Comparison | None:
        """Return the comparison by a metric, None if there is none."""
        by_metric = {finding.metric: finding.comparison for finding in reversed(self.findings)}
        return by_metric.get(metric)

    @property
    def text(self) -> str:
        """The decision with its reasons, in one sentence."""
        decision = "passed" if self.passed else "NOT passed"
        return f"{decision}: {'; '.join(self.reasons)} (rules: {self.source})"


_NOTHING = Evidence()


def judge(
    candidate: Metrics,
    champion: Metrics | None,
    rules: Rules,
    source: str = PARAMETERS,
    evidence: Evidence = _NOTHING,
) -> Verdict:
    """Compare a candidate's metrics with the rules and with the champion's.

    Args:
        candidate: Metrics of the candidate on its test split.
        champion: Metrics of the champion; None before the first release.
        rules: The rules.
        source: Where they are from.
        evidence: Comparisons with the champion and a dummy, and all other measurements.

    Raises:
        ConfigurationError: The candidate has no value for a metric of the rules.
    """
    parts = list(_check_statements(candidate, rules, evidence))
    metrics = {**candidate, **(evidence.measured or {})}
    for rule in rules.metrics:
        _require_metric(candidate, rule.metric, source)
        parts += _judge_metric(metrics, champion, rule, evidence)
    if rules.calibration is not None and champion is not None:
        parts += _compare(None, None, rules.compared[-1], evidence)
    if champion is None:
        parts.append(Part(True, ("there is no champion to compare with",)))
    parts += [*judge_slices(rules, champion, evidence), *judge_server(rules, champion, evidence)]
    passed = all(part.good for part in parts)
    reasons = [reason for part in parts for reason in part.reasons]
    asks = False
    undecided = [part for part in parts if part.open and not (part.unknown and evidence.is_early)]
    if passed and undecided:
        asks = rules.inconclusive == "ask"
        if asks:
            reasons.append("a person decides before it goes live (gate.inconclusive: ask)")
        elif rules.inconclusive == "hold":
            passed = False
            reasons.append("what is inconclusive is not accepted (gate.inconclusive: hold)")
        elif any(part.unknown for part in undecided):
            passed = False
            reasons.append(
                "gate.inconclusive: pass accepts no model of which no row shows how it compares; to"
                " have a person decide, set gate_rules with inconclusive = 'ask'"
            )
    findings = tuple(part.finding for part in parts if part.finding)
    return Verdict(passed, tuple(reasons), source, asks, findings, is_scored=not evidence.is_early)


def _require_metric(candidate: Metrics, metric: str, source: str) -> None:
    if metric not in candidate:
        raise ConfigurationError(
            f"{source}: gate.metric = {metric!r} is not among the metrics of the model;"
            f" known: {', '.join(candidate)}",
            state="nothing was released",
            next_step=f"keep {metric} in train.metrics of the commit, until one without it in"
            f" `gate` is live; or {CORRECT}",
        )


def _check_statements(candidate: Metrics, rules: Rules, evidence: Evidence) -> Iterator[Part]:
    """Compare what a candidate states with what it has answered; the answers count."""
    if evidence.needs_scores and evidence.measured is None:
        reason = f"the gate could not ask the model: {evidence.why_untried}"
        yield Part(False, (f"{reason}; the metrics that it states do not count",))
    elif evidence.measured is not None:
        lacking = MEASURABLE - evidence.measured.keys()
        for metric in sorted(lacking & {rule.metric for rule in rules.metrics}):
            reason = f"{metric} does not follow from the model's answers"
            yield Part(False, (f"{reason}; the value that it states does not count",))
    for metric, value in (evidence.measured or {}).items():
        stated = candidate.get(metric, value)
        if not evidence.is_share and not math.isclose(
            stated, value, rel_tol=_ALIKE, abs_tol=_ALIKE
        ):
            reason = f"reports/metrics.json states {metric} {stated:.4f}, its answers to"
            yield Part(True, (f"{reason} {evidence.measured_rows} test rows give {value:.4f}",))


def _judge_metric(
    candidate: Metrics, champion: Metrics | None, rule: MetricRule, evidence: Evidence
) -> Iterator[Part]:
    metric = rule.metric
    value = candidate[metric]
    for bound, name, good in (
        (rule.minimum, "minimum", rule.minimum is None or value >= rule.minimum),
        (rule.maximum, "maximum", rule.maximum is None or value <= rule.maximum),
    ):
        if bound is not None:
            verb = "meets" if good else "misses"
            why = "" if good else f" (gate.{name})"
            yield Part(good, (f"{metric} {value:.4f} {verb} the {name} {bound:g}{why}",))
    if not rule.has_bound and isinstance(rule, Rules):
        if evidence.dummy:
            yield _beat_dummy(value, rule, evidence.dummy)
        elif evidence.needs_scores:
            reason = f"{metric} {value:.4f} has neither a bound nor a dummy to beat"
            yield Part(False, (f"{reason}: set gate.minimum or gate.maximum",))
    if champion is not None:
        yield from _compare(value, champion.get(metric), rule, evidence)


def _beat_dummy(value: float, rule: MetricRule, dummy: Dummy) -> Part:
    """Refuse a candidate that is no better than a model that always gives one answer."""
    old = dummy.metrics[rule.metric]
    gain = value - old if rule.more_is_better else old - value
    word = dummy.comparison.word(0.0) if dummy.comparison else "inconclusive"
    good = word == "better" or (word == "inconclusive" and gain > 0)
    interval = f" on {dummy.comparison.text}" if dummy.comparison else ""
    reason = (
        f"{rule.metric} {value:.4f} against {old:.4f} of a dummy that always answers"
        f" {dummy.answer} is {word}, {'accepted' if good else 'not accepted'}{interval}"
    )
    return Part(good, (reason,), open=word == "inconclusive")


def _compare(
    value: float | None, old: float | None, rule: MetricRule, evidence: Evidence
) -> Iterator[Part]:
    """Decide whether a value is accepted beside the champion's, and say why."""
    metric, comparison = rule.metric, evidence.comparisons.get(rule.metric)
    if comparison:
        yield _weigh(value, old, rule, evidence, comparison)
        if evidence.former and isinstance(rule, Rules):
            yield _weigh_former(evidence.former, rule)
    elif evidence.is_same_model:
        yield Part(True, (f"{metric}: the model is the champion's, byte by byte",))
    elif (
        metric not in MEASURABLE
        and evidence.is_same_split
        and not evidence.needs_scores
        and value is not None
        and old is not None
    ):
        gain = value - old if rule.more_is_better else old - value
        accepted = rule.tolerance_at(old)
        good = gain >= -accepted - ROUNDING
        reason = (
            f"{metric} {value:.4f} against the champion's {old:.4f} is"
            f" {'accepted' if good else 'worse than accepted'} (tolerance"
            f" {_describe(rule, accepted)}; no interval: it does not follow from answers)"
        )
        yield Part(good, (reason,), open=True)
    else:
        why = evidence.why_none or "it could not be scored on the same rows"
        new, former = ["unknown" if number is None else f"{number:.4f}" for number in (value, old)]
        reason = (
            f"{metric} {new} cannot be compared with the champion's ({former}, on its own rows):"
            f" {why}"
        )
        yield Part(True, (reason,), open=True, unknown=True)


def _describe(rule: MetricRule, accepted: float) -> str:
    share = f", {rule.tolerance} of it" if isinstance(rule.tolerance, str) else ""
    return f"{accepted:.4g}{share}"


def _weigh(
    value: float | None,
    old: float | None,
    rule: MetricRule,
    evidence: Evidence,
    comparison: Comparison,
) -> Part:
    """Weigh the comparison with the champion, and what was lost since a release was better."""
    if comparison.values:  # on these rows, which need not be those of the metrics
        value, old = comparison.values
    assert value is not None
    assert old is not None
    gain = value - old if rule.more_is_better else old - value
    accepted = rule.tolerance_at(old)
    tolerance, limit = f"tolerance {_describe(rule, accepted)}", -accepted - ROUNDING
    word = comparison.word(accepted)
    good = word in ("better", "no worse") or (word == "inconclusive" and gain >= limit)
    decision = "accepted" if good else "not accepted"
    reasons = [
        f"{rule.metric} {value:.4f} against the champion's {old:.4f} is {word}, {decision}"
        f" ({tolerance}) on {comparison.text}"
    ]
    if word == "inconclusive" and (rows := comparison.enough_rows(accepted)):
        reasons.append(f"about {rows} rows would show a loss of twice the tolerance")
    past_losses = evidence.past_losses.get(rule.metric, 0.0)
    if word != "better" and past_losses and gain < 0:
        total = past_losses - gain
        within = -total >= limit
        good &= within
        reasons.append(
            f"with this loss, the releases since the last better one have lost {total:.4f}, which"
            f" is {'within' if within else 'more than'} the {tolerance}"
        )
    finding = Finding(rule.metric, word, accepted, comparison)
    return Part(good, tuple(reasons), word == "inconclusive", finding=finding)


def _weigh_former(comparison: Comparison, rule: MetricRule) -> Part:
    """Refuse a candidate that is worse on the champion's rows: its own may be easier ones."""
    accepted = rule.tolerance_at(comparison.values[1] if comparison.values else 0.0)
    word = comparison.word(accepted)
    is_open = word == "inconclusive" and comparison.gain < -accepted - ROUNDING
    reasons: tuple[str, ...] = ()
    if word == "worse" or is_open:
        verdict = "inconclusive, a loss" if is_open else "worse, not accepted"
        reasons = (
            f"{rule.metric} on the champion's own test rows is {verdict} (tolerance"
            f" {_describe(rule, accepted)}) on {comparison.text}",
        )
    name = f"{rule.metric} on the champion's test rows"
    finding = Finding(name, word, accepted, comparison)
    return Part(word != "worse", reasons, is_open, finding=finding)
