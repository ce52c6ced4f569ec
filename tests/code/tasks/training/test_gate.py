from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tasks.core.errors import ConfigurationError
from tasks.training.dossier import Dummy, Evidence
from tasks.training.evidence import Comparison, Word
from tasks.training.gate import Verdict, judge
from tasks.training.rules import Metrics, Rules, TrustedRules, find_rules, read_rules


def _same_rows(metric: str, new: float, old: float | None, *, more: bool = True) -> Evidence:
    """Return a comparison on rows that are too few for an interval."""
    if old is None:
        return Evidence()
    gain = new - old if more else old - new
    return Evidence({metric: Comparison(gain, None, rows=36, disagreeing=3, values=(new, old))})


@pytest.mark.parametrize(
    ("candidate", "champion", "passed"),
    [
        (0.95, None, True),
        (0.89, None, False),  # below the minimum
        (0.95, 0.95, True),
        (0.945, 0.95, True),  # within the tolerance
        (0.94, 0.95, True),  # exactly the tolerance, whatever rounding says
        (0.93, 0.95, False),
        (0.99, 0.95, True),
    ],
)
def test_minimum_means_that_more_is_better(
    candidate: float, champion: float | None, passed: bool
) -> None:
    rules = Rules(metric="f1_macro", minimum=0.9, tolerance=0.01)
    old = None if champion is None else {"f1_macro": champion}
    evidence = _same_rows("f1_macro", candidate, champion)
    assert judge({"f1_macro": candidate}, old, rules, evidence=evidence).passed is passed


@pytest.mark.parametrize(
    ("candidate", "champion", "passed"),
    [(40.0, 42.0, True), (42.5, 42.0, True), (44.0, 42.0, False), (61.0, None, False)],
)
def test_maximum_means_that_less_is_better(
    candidate: float, champion: float | None, passed: bool
) -> None:
    rules = Rules(metric="rmse", maximum=60, tolerance=1)
    old = None if champion is None else {"rmse": champion}
    evidence = _same_rows("rmse", candidate, champion, more=False)
    assert judge({"rmse": candidate}, old, rules, evidence=evidence).passed is passed


def test_reasons_name_the_missed_bounds() -> None:
    verdict = judge({"accuracy": 0.5}, {"accuracy": 0.9}, Rules(metric="accuracy", minimum=0.8))
    assert verdict.reasons == (
        "accuracy 0.5000 misses the minimum 0.8 (gate.minimum)",
        "accuracy 0.5000 cannot be compared with the champion's (0.9000, on its own rows): no test"
        " rows in common",
    )


def _judge(
    gain: float,
    interval: tuple[float, float] | None,
    *,
    inconclusive: Literal["pass", "hold"] = "pass",
    past_losses: float = 0.0,
) -> Verdict:
    rules = Rules(metric="rmse", maximum=100, tolerance=0.5, inconclusive=inconclusive)
    comparison = Comparison(gain, interval, rows=400, disagreeing=90)
    evidence = Evidence({"rmse": comparison}, past_losses={"rmse": past_losses})
    return judge({"rmse": 50 - gain}, {"rmse": 50.0}, rules, evidence=evidence)


@pytest.mark.parametrize(
    ("gain", "interval", "word", "passed", "rejected_on_hold"),
    [
        (1.0, (0.2, 1.8), "better", True, False),
        (-0.1, (-0.4, 0.2), "no worse", True, False),
        (-0.3, (-0.4, -0.2), "no worse", True, False),  # surely a loss, but one that is accepted
        (-0.4, (-0.6, -0.2), "worse", False, False),
        (-0.4, (-1.0, 0.2), "inconclusive", True, True),
        (-0.6, (-1.3, 0.1), "inconclusive", False, False),
        (0.0, None, "inconclusive", True, True),  # no row differs: no certainty
    ],
)
def test_verdict_follows_from_the_interval(
    gain: float,
    interval: tuple[float, float] | None,
    word: Word,
    passed: bool,
    rejected_on_hold: bool,
) -> None:
    verdict = _judge(gain, interval)
    assert verdict.passed is passed
    assert f"against the champion's 50.0000 is {word}, " in verdict.reasons[1]
    holding = _judge(gain, interval, inconclusive="hold")
    assert holding.passed is (passed and not rejected_on_hold)
    assert ("gate.inconclusive: hold" in holding.text) is rejected_on_hold


@pytest.mark.parametrize(
    ("inconclusive", "passed", "asks"),
    [("pass", False, False), ("hold", False, False), ("ask", True, True)],
)
def test_without_rows_to_compare_on_nothing_passes_by_itself(
    inconclusive: Literal["pass", "hold", "ask"], passed: bool, asks: bool
) -> None:
    """A metric that each states on its own rows is no estimate, however good it looks."""
    rules = Rules(metric="f1_macro", minimum=0.9, tolerance=0.01, inconclusive=inconclusive)
    verdict = judge({"f1_macro": 0.99}, {"f1_macro": 0.95}, rules)
    assert (verdict.passed, verdict.asks) == (passed, asks)
    assert "cannot be compared with the champion's (0.9500, on its own rows)" in verdict.text
    early = judge({"f1_macro": 0.99}, {"f1_macro": 0.95}, rules, evidence=Evidence(is_early=True))
    assert (early.passed, early.is_scored) == (True, False), "no verdict, so no refusal either"


def test_early_check_does_not_refuse_a_model_of_which_little_is_known() -> None:
    comparison = Comparison(0.05, (-0.1, 0.2), 36, 3)
    dummy = Dummy("a", {"f1_macro": 0.9}, comparison)
    early = Evidence(is_early=True, dummy=dummy)
    verdict = judge({"f1_macro": 0.95}, {"f1_macro": 0.9}, Rules(metric="f1_macro"), evidence=early)
    assert (verdict.passed, verdict.is_scored) == (True, False), "the deploy scores it"


def test_metric_of_ones_own_is_compared_as_it_is_stated_on_the_same_rows_alone() -> None:
    rules = Rules(metric="saved", minimum=0, tolerance=1)
    for same, new, passed in ((True, 9.5, True), (True, 8.0, False), (False, 99.0, False)):
        evidence = Evidence(is_same_split=same)
        assert judge({"saved": new}, {"saved": 10.0}, rules, evidence=evidence).passed is passed
    required = Evidence(is_same_split=True, needs_scores=True, measured={})
    verdict = judge({"saved": 99.0}, {"saved": 10.0}, rules, evidence=required)
    assert not verdict.passed, "a candidate may answer so that no scorer takes it"


def test_answers_count_and_not_what_is_stated() -> None:
    rules = Rules(metric="accuracy", minimum=0.9)
    scored = Evidence(needs_scores=True, measured={"accuracy": 0.5}, measured_rows=40)
    verdict = judge({"accuracy": 0.99}, None, rules, evidence=scored)
    assert not verdict.passed
    assert verdict.reasons[:2] == (
        "reports/metrics.json states accuracy 0.9900, its answers to 40 test rows give 0.5000",
        "accuracy 0.5000 misses the minimum 0.9 (gate.minimum)",
    )
    odd = Evidence(needs_scores=True, measured={})
    verdict = judge({"accuracy": 0.99}, None, rules, evidence=odd)
    assert not verdict.passed, "a single answer that is no number leaves nothing to measure"
    assert "accuracy does not follow from the model's answers" in verdict.text
    silent = Evidence(needs_scores=True, why_untried="it does not start")
    verdict = judge({"accuracy": 0.99}, None, rules, evidence=silent)
    assert not verdict.passed
    assert "the gate could not ask the model: it does not start" in verdict.text


def test_easy_rows_of_the_candidate_hide_no_loss_on_those_of_the_champion() -> None:
    rules = Rules(metric="accuracy", minimum=0.5, tolerance=0.02)
    diluted = Comparison(-0.01, (-0.018, -0.002), 2000, 40, values=(0.97, 0.98))
    for former, passed in (
        (Comparison(-0.1, (-0.16, -0.05), 200, 40, values=(0.8, 0.9)), False),
        (Comparison(-0.01, (-0.019, 0.0), 200, 4, values=(0.89, 0.9)), True),
    ):
        evidence = Evidence({"accuracy": diluted}, former=former)
        verdict = judge({"accuracy": 0.97}, {"accuracy": 0.98}, rules, evidence=evidence)
        assert verdict.passed is passed
        assert verdict.findings[1].metric == "accuracy on the champion's test rows"


def test_losses_add_up_to_no_more_than_the_tolerance() -> None:
    small = (-0.3, (-0.4, -0.2))
    assert _judge(*small, past_losses=0.2).passed
    refused = _judge(*small, past_losses=0.3)
    assert not refused.passed
    assert refused.reasons[-1] == (
        "with this loss, the releases since the last better one have lost 0.6000, which is more"
        " than the tolerance 0.5"
    )
    assert _judge(0.0, (-0.4, 0.4), past_losses=9).passed, "it loses nothing itself"
    assert _judge(1.0, (0.2, 1.8), past_losses=9).passed


def test_unknown_metric_is_rejected_with_the_way_out() -> None:
    also = Rules.model_validate({"metric": "accuracy", "also": [{"metric": "saved"}]})
    with pytest.raises(ConfigurationError, match=r"gate.metric = 'saved'.*known: acc") as refused:
        judge({"accuracy": 1.0}, None, also)
    assert refused.value.next_step.startswith("keep saved in train.metrics of the commit, until")


@pytest.mark.parametrize(
    ("metric", "values", "passed"),
    [
        ("rmse", (51.0, 50.0), True),
        ("rmse", (51.01, 50.0), False),
        ("f1_macro", (0.882, 0.9), True),
        ("f1_macro", (0.8819, 0.9), False),
    ],
)
def test_tolerance_in_percent_is_a_share_of_the_champions_value(
    metric: str, values: tuple[float, float], passed: bool
) -> None:
    new, old = values
    rules = Rules(metric=metric, tolerance="2 %")
    evidence = _same_rows(metric, new, old, more=rules.more_is_better)
    verdict = judge({metric: new}, {metric: old}, rules, evidence=evidence)
    assert verdict.passed == passed
    assert f"(tolerance {old * 0.02:g}, 2 % of it)" in verdict.text


def test_without_a_bound_the_first_model_passes_and_the_name_tells_the_direction() -> None:
    assert judge({"rmse": 1e9}, None, Rules(metric="rmse")).passed
    required = Evidence(needs_scores=True, measured={})
    verdict = judge({"saved": 1e9}, None, Rules(metric="saved"), evidence=required)
    assert not verdict.passed, "a commit may leave out the dummy that it states"
    for metric, new, old, passed in (("rmse", 51.0, 50.0, False), ("r2", 0.6, 0.5, True)):
        evidence = _same_rows(metric, new, old, more=metric == "r2")
        rules = Rules(metric=metric)
        assert judge({metric: new}, {metric: old}, rules, evidence=evidence).passed is passed


@pytest.mark.parametrize(
    "gate",
    [
        None,
        {},
        {"metric": "f1", "minium": 1},
        {"metric": "f1", "minimum": 0, "maximum": 1},
        {"metric": "f1", "tolerance": -0.1},
        {"metric": "f1", "tolerance": "much"},
        {"metric": "f1", "tolerance": "-2 %"},
    ],
)
def test_invalid_section_names_the_allowed_keys(gate: object) -> None:
    with pytest.raises(ConfigurationError, match=r"params.yaml: section `gate`.*minimum, maximum"):
        read_rules({"gate": gate})


_LIVE = "gate: {metric: f1_macro, minimum: 0.9}"
_CHECKOUT = "gate: {metric: rmse, maximum: 60}"


@pytest.mark.parametrize(
    ("own", "live", "metrics", "bound", "source"),
    [
        (Rules(metric="r2", minimum=0.5), _LIVE, {"f1_macro": 1.0}, 0.5, "`gate_rules` of staging"),
        (None, _LIVE, {"f1_macro": 1.0}, 0.9, "params.yaml of v0.0.3"),
        (None, _LIVE, {"rmse": 1.0}, 60, "params.yaml of the checkout that deploys"),
        (None, "", {"rmse": 1.0}, 60, "params.yaml of the checkout that deploys"),
        (None, _LIVE, {"accuracy": 1.0}, 0.9, "params.yaml of v0.0.3"),
    ],
    ids=["file", "champion", "another task", "first release", "metric left out"],
)
def test_rules_come_from_the_first_that_can_judge(
    tmp_path: Path, own: Rules | None, live: str, metrics: Metrics, bound: float, source: str
) -> None:
    (tmp_path / "params.yaml").write_text(_CHECKOUT)
    trusted = TrustedRules("staging", own, tmp_path / "params.yaml")
    rules, origin = find_rules(trusted, metrics, "v0.0.3", live)
    assert (rules.minimum or rules.maximum, origin) == (bound, source)


def test_class_named_yes_is_text() -> None:
    trusted = TrustedRules("staging", None, Path("params.yaml"))
    test = "{column: age, expect: not lower, label: yes}"
    text = f"gate: {{metric: accuracy, slices: [on], behaviour: [{test}]}}"
    rules, _ = find_rules(trusted, {"accuracy": 1.0}, "v0.0.3", text)
    assert (rules.slices, rules.behaviour[0].label) == (("on",), "yes")


@pytest.mark.parametrize("text", [None, "gate: [", "gate: {metrik: f1}"])
def test_rules_of_the_checkout_that_cannot_be_read_are_named(
    tmp_path: Path, text: str | None
) -> None:
    if text:
        (tmp_path / "params.yaml").write_text(text)
    trusted = TrustedRules("staging", None, tmp_path / "params.yaml")
    with pytest.raises(ConfigurationError, match=r"params\.yaml") as refused:
        find_rules(trusted, {"f1": 1.0}, "", "")
    assert "`gate_rules`" in refused.value.next_step
