"""Rules beside those on metrics: slices, and what the served model does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.training.dossier import Evidence
from tasks.training.evidence import Word
from tasks.training.findings import ROUNDING, Finding, Part
from tasks.training.rules import Metrics, Rules, share_of
from tasks.training.slices import find_losses

_NAMED = 5


def judge_slices(rules: Rules, champion: Metrics | None, evidence: Evidence) -> Iterator[Part]:
    """Decide whether a candidate is worse in a slice of the rows."""
    problems = {part.problem for part in evidence.slices if part.problem}
    tried = evidence.slices or evidence.is_early or evidence.is_same_model
    if rules.slices and champion is not None and not tried:
        problems = {evidence.why_untried}
    if problems:
        yield Part(True, (f"slices were not compared: {'; '.join(sorted(problems))}",), open=True)
    small = [part for part in evidence.slices if not part.comparison and not part.problem]
    if small:
        named = ", ".join(f"{part.name} ({part.rows})" for part in small[:5])
        yield Part(True, (f"slices with fewer than {rules.slice_rows} rows: {named}",))
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
        yield Part(not worse, reasons, finding=finding)
    if judged and not any(losses):
        yield Part(True, (f"none of {len(judged)} slices is worse",))


def judge_server(rules: Rules, champion: Metrics | None, evidence: Evidence) -> Iterator[Part]:
    """Decide on size, latency and behaviour of the served model."""
    started = rules.slices or rules.latency or rules.behaviour or rules.tests
    if evidence.is_early and started:
        yield Part(True, ("slices, latency, behaviour and tests are judged by retrain and deploy",))
        rules = rules.model_copy(update={"latency": None, "behaviour": (), "tests": False})
    if rules.size and champion is not None and evidence.sizes:
        yield _compare_cost("size", "MB", [n / 1e6 for n in evidence.sizes], rules.size)
    if rules.latency and champion is not None and not evidence.is_same_model:
        if evidence.latencies:
            yield _compare_cost("latency", "ms a row", evidence.latencies, rules.latency)
        else:
            why = f"latency was not compared: {evidence.why_untried}"
            yield Part(True, (why,), open=True)
    if rules.tests and not evidence.is_same_model:
        yield _judge_tests(evidence)
    if rules.behaviour and evidence.broken_shares is None and not evidence.is_same_model:
        yield Part(False, (f"the tests of behaviour were not run: {evidence.why_untried}",))
    for test, share in zip(rules.behaviour, evidence.broken_shares or (), strict=False):
        good = share <= share_of(test.allow)
        subject = f"the probability of {test.label}" if test.label else "the answer"
        claim = (
            "stays the same for other" if test.expect == "same" else f"is {test.expect} for greater"
        )
        yield Part(
            good,
            (
                f"{subject} {claim} values of {test.column} in"
                f" {1 - share:.1%} of the rows, {'accepted' if good else 'not accepted'}"
                f" (allowed to differ: {test.allow})",
            ),
        )


def _judge_tests(evidence: Evidence) -> Part:
    failed = evidence.failed_tests
    if failed is None:
        return Part(False, (f"the tests in tests/model were not run: {evidence.why_untried}",))
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        named = ", ".join(failed[:_NAMED])
        return Part(False, (f"tests of the model fail: {named}{more} (gate.tests)",))
    return Part(True, ("the tests in tests/model pass",))


def _compare_cost(name: str, unit: str, values: Sequence[float], allowed: str) -> Part:
    new, old = values
    good = new <= old * (1 + share_of(allowed)) + ROUNDING
    verb = "accepted" if good else f"not accepted (gate.{name})"
    return Part(
        good, (f"{name} {new:.3g} {unit} against the champion's {old:.3g}: {verb}, {allowed} more",)
    )
