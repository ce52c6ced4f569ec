"""The gate: judge a candidate by rules and evidence. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.training.dossier import Dummy, Evidence
from tasks.training.evidence import MEASURABLE, Comparison, Word
from tasks.training.rules import CORRECT, PARAMETERS, MetricRule, Metrics, Rules, share_of
from tasks.training.slices import find_losses

ROUNDING = 1e-12  # a difference of rounding must not decide


@dataclass(frozen=True)
class Finding:
    """A comparison by which a verdict was reached.

    Attributes:
        metric: Name of the metric, and of the slice if it is one of a slice.
        word: The verdict on this comparison.
        accepted: The loss that is still accepted.
        comparison: The comparison.
    """

    metric: str
    word: Word
    accepted: float
    comparison: Comparison


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate.

    Attributes:
        passed: Whether the candidate may be released.
        reasons: One sentence per rule.
        source: Where the rules are from.
        asks: Whether a person has to agree before it goes live.
        findings: The comparisons with the champion, that of the metric that decides first.
        pair: Commit of the champion, environment and rules; a signed verdict counts for no others.
    """

    passed: bool
    reasons: tuple[str, ...]
    source: str = PARAMETERS
    asks: bool = False
    findings: tuple[Finding, ...] = ()
    pair: Mapping[str, Any] = field(default_factory=dict)

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


@dataclass(frozen=True)
class _Part:
    """The decision on one rule; what is open is neither good nor bad."""

    good: bool
    reasons: tuple[str, ...]
    open: bool = False
    finding: Finding | None = None


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
    parts = [
        part
        for rule in rules.metrics
        for part in _judge_metric(candidate, champion, rule, source, evidence)
    ]
    if champion is None:
        parts.append(_Part(True, ("there is no champion to compare with",)))
    parts += [*_judge_slices(rules, champion, evidence), *_judge_server(rules, champion, evidence)]
    passed = all(part.good for part in parts)
    reasons = [reason for part in parts for reason in part.reasons]
    asks = False
    if passed and any(part.open for part in parts):
        if rules.inconclusive == "hold":
            passed = False
            reasons.append("what is inconclusive is not accepted (gate.inconclusive: hold)")
        elif rules.inconclusive == "ask":
            asks = True
            reasons.append("a person decides before it goes live (gate.inconclusive: ask)")
    findings = tuple(part.finding for part in parts if part.finding)
    return Verdict(passed, tuple(reasons), source, asks, findings)


def _judge_metric(
    candidate: Metrics,
    champion: Metrics | None,
    rule: MetricRule,
    source: str,
    evidence: Evidence,
) -> Iterator[_Part]:
    metric = rule.metric
    if metric not in candidate:
        raise ConfigurationError(
            f"{source}: gate.metric = {metric!r} is not among the metrics of the model;"
            f" known: {', '.join(candidate)}",
            state="nothing was released",
            next_step=f"{CORRECT}: gate.metric has to be one of them",
        )
    value = candidate[metric]
    for bound, name, good in (
        (rule.minimum, "minimum", rule.minimum is None or value >= rule.minimum),
        (rule.maximum, "maximum", rule.maximum is None or value <= rule.maximum),
    ):
        if bound is not None:
            verb = "meets" if good else "misses"
            why = "" if good else f" (gate.{name})"
            yield _Part(good, (f"{metric} {value:.4f} {verb} the {name} {bound:g}{why}",))
    if not rule.has_bound and isinstance(rule, Rules) and evidence.dummy:
        yield _beat_dummy(value, rule, evidence.dummy)
    if champion is not None:
        comparison = evidence.comparisons.get(metric)
        if metric in champion or (comparison and comparison.values):
            yield _weigh(value, champion.get(metric, 0.0), rule, evidence)
        else:
            yield _Part(True, (f"the champion has no {metric} to compare with",), open=True)


def _beat_dummy(value: float, rule: MetricRule, dummy: Dummy) -> _Part:
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
    return _Part(good, (reason,), open=word == "inconclusive")


def _weigh(value: float, old: float, rule: MetricRule, evidence: Evidence) -> _Part:
    """Decide whether a value is accepted beside the champion's, and say why."""
    comparison = evidence.comparisons.get(rule.metric)
    if comparison and comparison.values:  # on these rows, which need not be those of the metrics
        value, old = comparison.values
    gain = value - old if rule.more_is_better else old - value
    accepted = rule.tolerance_at(old)
    share = f", {rule.tolerance} of it" if isinstance(rule.tolerance, str) else ""
    tolerance, limit = f"tolerance {accepted:.4g}{share}", -accepted - ROUNDING
    word = comparison.word(accepted) if comparison else "inconclusive"
    good = word in ("better", "no worse") or (word == "inconclusive" and gain >= limit)
    against = f"{rule.metric} {value:.4f} against the champion's {old:.4f}"
    finding = None
    if comparison is None:
        decision = "accepted" if good else "worse than accepted"
        why = evidence.why_none if rule.metric in MEASURABLE else "it does not follow from answers"
        reasons = [f"{against} is {decision} ({tolerance}; no interval: {why})"]
    else:
        finding = Finding(rule.metric, word, accepted, comparison)
        decision = "accepted" if good else "not accepted"
        reasons = [f"{against} is {word}, {decision} ({tolerance}) on {comparison.text}"]
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
    return _Part(good, tuple(reasons), word == "inconclusive", finding)


def _judge_slices(rules: Rules, champion: Metrics | None, evidence: Evidence) -> Iterator[_Part]:
    problems = {part.problem for part in evidence.slices if part.problem}
    if rules.slices and champion is not None and not (evidence.slices or evidence.is_early):
        problems = {evidence.why_untried}
    if problems:
        yield _Part(True, (f"slices were not compared: {'; '.join(sorted(problems))}",), open=True)
    small = [part for part in evidence.slices if not part.comparison and not part.problem]
    if small:
        named = ", ".join(f"{part.name} ({part.rows})" for part in small[:5])
        yield _Part(True, (f"slices with fewer than {rules.slice_rows} rows: {named}",))
    judged = [part for part in evidence.slices if part.comparison]
    losses = find_losses(judged)
    for part, lost in zip(judged, losses, strict=True):
        comparison = part.comparison
        assert comparison
        old = comparison.values[1] if comparison.values else 0.0
        accepted = rules.tolerance_at(old)
        interval = comparison.interval
        worse = lost and interval is not None and interval[0] <= -accepted
        word: Word = "worse" if worse else comparison.word(accepted)
        if word == "worse" and not lost:  # one of so many differs so much by luck alone
            word = "inconclusive"
        finding = Finding(f"{rules.metric} where {part.name}", word, accepted, comparison)
        reasons: tuple[str, ...] = ()
        if worse:
            reasons = (
                f"{rules.metric} where {part.name} is worse, not accepted (tolerance"
                f" {accepted:.4g}, corrected for {len(judged)} slices) on {comparison.text}",
            )
        yield _Part(not worse, reasons, finding=finding)
    if judged and not any(losses):
        yield _Part(True, (f"none of {len(judged)} slices is worse",))


def _judge_server(rules: Rules, champion: Metrics | None, evidence: Evidence) -> Iterator[_Part]:
    if evidence.is_early and (rules.slices or rules.latency or rules.behaviour):
        yield _Part(
            True, ("slices, latency and behaviour are judged by retrain and deploy, not here",)
        )
        rules = rules.model_copy(update={"latency": None, "behaviour": ()})
    if rules.size and champion is not None and evidence.sizes:
        yield _compare_cost("size", "MB", [n / 1e6 for n in evidence.sizes], rules.size)
    if rules.latency and champion is not None:
        if evidence.latencies:
            yield _compare_cost("latency", "ms a row", evidence.latencies, rules.latency)
        else:
            why = f"latency was not compared: {evidence.why_untried}"
            yield _Part(True, (why,), open=True)
    if rules.behaviour and evidence.broken_shares is None:
        yield _Part(False, (f"the tests of behaviour were not run: {evidence.why_untried}",))
    for test, share in zip(rules.behaviour, evidence.broken_shares or (), strict=False):
        good = share <= share_of(test.allow)
        subject = f"the probability of {test.label}" if test.label else "the answer"
        claim = (
            "stays the same for other" if test.expect == "same" else f"is {test.expect} for greater"
        )
        yield _Part(
            good,
            (
                f"{subject} {claim} values of {test.column} in"
                f" {1 - share:.1%} of the rows, {'accepted' if good else 'not accepted'}"
                f" (allowed to differ: {test.allow})",
            ),
        )


def _compare_cost(name: str, unit: str, values: Sequence[float], allowed: str) -> _Part:
    new, old = values
    good = new <= old * (1 + share_of(allowed)) + ROUNDING
    verb = "accepted" if good else f"not accepted (gate.{name})"
    return _Part(
        good, (f"{name} {new:.3g} {unit} against the champion's {old:.3g}: {verb}, {allowed} more",)
    )
