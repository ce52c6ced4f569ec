"""Rules beside the one on the metric that decides."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tasks.training.behaviour import change_rows, share_broken
from tasks.training.dossier import Dummy, Evidence
from tasks.training.evidence import Comparison, Evaluation, weigh_answers
from tasks.training.gate import Verdict, judge
from tasks.training.rules import Behaviour, Rules
from tasks.training.slices import Slice, cut, find_losses, measure_slices

_BOUND = {"metric": "accuracy", "minimum": 0.5, "tolerance": 0.01}
_SAME = Comparison(0.0, (-0.005, 0.005), 400, 20)


def _rules(**keys: Any) -> Rules:
    return Rules.model_validate(_BOUND | keys)


@pytest.mark.parametrize(
    ("value", "gain", "interval", "passed", "open_"),
    [
        (0.9, 0.5, (0.3, 0.7), True, False),
        (0.45, 0.05, (-0.1, 0.2), True, True),
        (0.4, 0.0, (-0.1, 0.1), False, False),  # it knows no more than the dummy
        (0.3, -0.1, (-0.2, -0.02), False, False),
    ],
)
def test_model_without_a_bound_has_to_beat_a_dummy(
    value: float, gain: float, interval: tuple[float, float], passed: bool, open_: bool
) -> None:
    dummy = Dummy("b", {"accuracy": 0.4}, Comparison(gain, interval, 40, 20))
    rules = Rules(metric="accuracy", inconclusive="ask")
    verdict = judge({"accuracy": value}, None, rules, evidence=Evidence(dummy=dummy))
    assert (verdict.passed, verdict.asks) == (passed, open_)
    assert "against 0.4000 of a dummy that always answers b" in verdict.text
    assert judge(
        {"accuracy": value}, None, _rules(minimum=0.1), evidence=Evidence(dummy=dummy)
    ).passed
    holding = judge(
        {"accuracy": value}, None, Rules(metric="accuracy", inconclusive="hold"),
        evidence=Evidence(dummy=dummy),
    )  # fmt: skip
    assert holding.passed is (passed and not open_)


def test_person_is_asked_only_about_what_is_inconclusive() -> None:
    metrics = {"accuracy": 0.9}
    rules = _rules(inconclusive="ask")
    wide = Comparison(-0.005, (-0.05, 0.04), 400, 20)
    open_verdict = judge(metrics, metrics, rules, evidence=Evidence({"accuracy": wide}))
    assert (open_verdict.passed, open_verdict.asks) == (True, True)
    assert (
        open_verdict.reasons[-1] == "a person decides before it goes live (gate.inconclusive: ask)"
    )
    assert not judge(metrics, metrics, rules, evidence=Evidence({"accuracy": _SAME})).asks
    lost = Comparison(-0.02, (-0.06, 0.02), 400, 20, values=(0.88, 0.9))
    assert not judge(metrics, metrics, rules, evidence=Evidence({"accuracy": lost})).passed


def test_further_metric_holds_as_the_first_one() -> None:
    rules = _rules(also=[{"metric": "log_loss", "maximum": 0.5, "tolerance": "10 %"}])
    old = {"accuracy": 0.9, "log_loss": 0.3}

    def ask(new: float) -> Verdict:
        loss = Comparison(0.3 - new, (-0.1, 0.1), 400, 20, values=(new, 0.3))
        evidence = Evidence({"accuracy": _SAME, "log_loss": loss})
        return judge({"accuracy": 0.9, "log_loss": new}, old, rules, evidence=evidence)

    assert ask(0.32).passed
    worse = ask(0.34)
    assert not worse.passed
    assert "log_loss 0.3400 against the champion's 0.3000 is inconclusive, not acc" in worse.text
    above = judge({"accuracy": 0.9, "log_loss": 0.51}, None, rules)
    assert "misses the maximum 0.5 (gate.maximum)" in above.text


def test_calibration_is_held_against_the_champions() -> None:
    rules = _rules(calibration=0.01)
    metrics = {"accuracy": 0.9}
    sure, unsure = [0.01] * 200, [0.16 + 0.001 * (row % 7) for row in range(200)]
    old = replace(_answers(200, set()), squares=sure)

    def ask(squares: list[float] | None) -> Verdict:
        new = replace(old, squares=squares)
        comparison = weigh_answers(new, old, "Brier score", more_is_better=False)
        compared = {"Brier score": comparison} if comparison else {}
        evidence = Evidence({"accuracy": _SAME, **compared}, why_none="it has no probabilities")
        return judge(metrics, metrics, rules, evidence=evidence)

    assert ask([0.012] * 200).passed
    worse = ask(unsure)
    assert not worse.passed
    assert "Brier score 0.1630 against the champion's 0.0100 is worse, not accepted" in worse.text
    unknown = ask(None)
    assert not unknown.passed
    assert "Brier score unknown cannot be compared" in unknown.text


def _answers(rows: int, wrong: set[int]) -> Evaluation:
    predicted = ["b" if row in wrong else "a" for row in range(rows)]
    return Evaluation({}, "", ["a"] * rows, predicted)


def test_loss_in_a_slice_is_found_though_all_rows_together_gain() -> None:
    rows = [{"sex": "fm"[row % 2], "age": str(row)} for row in range(400)]
    rules = _rules(slices=["sex", "age >= 380", "age < 100"])
    women = {row for row in range(400) if row % 2 == 0}
    champion = _answers(400, {row for row in range(400) if row % 2 and row % 3 == 0})
    candidate = _answers(400, {row for row in women if row % 5 == 0})
    slices = cut(rules, rows, candidate, champion)
    assert [part.name for part in slices] == ["sex == f", "sex == m", "age >= 380", "age < 100"]
    whole = weigh_answers(candidate, champion, "accuracy", more_is_better=True)
    assert whole
    metrics = {"accuracy": 0.9}
    verdict = judge(metrics, metrics, rules, evidence=Evidence({"accuracy": whole}, slices=slices))
    assert not verdict.passed
    assert (
        "accuracy where sex == f is worse, not accepted (tolerance 0.01, corrected for 3 slices)"
        in verdict.text
    )
    assert "slices with fewer than 50 rows: age >= 380 (20)" in verdict.text
    assert {finding.metric for finding in verdict.findings} >= {
        "accuracy",
        "accuracy where sex == m",
    }


def test_slices_show_no_private_value() -> None:
    rows = [{"sex": "fm"[row % 2], "age": str(row)} for row in range(200)]
    rules = _rules(slices=["sex", "age >= 100"])
    same = _answers(200, {3})
    names = [part.name for part in cut(rules, rows, same, same, {"sex", "age"})]
    assert names == ["sex (private), value 1 of 2", "sex (private), value 2 of 2", "age >= 100"]
    assert measure_slices(rules, rows, same) == [
        ("sex == f", 100, 1.0), ("sex == m", 100, 0.99), ("age >= 100", 100, 1.0),
    ]  # fmt: skip


def test_condition_of_a_slice_may_name_a_date() -> None:
    rows = [{"sold": f"2024-01-{1 + row % 30:02} 00:00:00"} for row in range(300)]
    rules = _rules(slices=["sold >= 2024-01-16", "sold == 2024-01-02"])
    same = _answers(300, set())
    assert [part.rows for part in cut(rules, rows, same, same)] == [150, 10]


def test_slices_that_were_not_compared_are_inconclusive() -> None:
    metrics = {"accuracy": 0.9, "saved": 5.0}
    why = "the server of wine@1f0c72c did not get ready"
    untried = Evidence({"accuracy": _SAME}, why_untried=why)
    verdict = judge(metrics, metrics, _rules(slices=["sex"]), evidence=untried)
    assert verdict.passed
    assert f"slices were not compared: {why}" in verdict.text
    holding = _rules(slices=["sex"], inconclusive="hold")
    assert not judge(metrics, metrics, holding, evidence=untried).passed
    assert judge(metrics, None, holding, evidence=untried).passed, "there is no champion"
    early = judge(metrics, metrics, holding, evidence=replace(untried, is_early=True))
    assert early.passed

    rules = _rules(metric="saved", slices=["sex"], inconclusive="hold")
    rows = [{"sex": "f"}] * 100
    slices = cut(rules, rows, _answers(100, set()), _answers(100, set()))
    stated = Evidence(slices=slices, is_same_split=True)
    unknown = judge(metrics, metrics, rules, evidence=stated)
    assert not unknown.passed
    assert "slices were not compared: saved does not follow from answers" in unknown.text


def test_one_of_many_slices_differs_by_luck() -> None:
    """Each shows a loss in 2.5 % of samples; of forty, some do almost always."""
    random, alarms, naive = Random(1), 0, 0
    for _ in range(100):
        slices = []
        for number in range(40):
            lost, won = (sum(random.random() < 0.1 for _ in range(100)) for _ in range(2))
            gain, error = (won - lost) / 100, 0.043
            interval = (gain - 1.96 * error, gain + 1.96 * error)
            slices.append(Slice(str(number), 100, Comparison(gain, interval, 100, lost + won)))
        naive += any(part.comparison and part.comparison.interval[1] < 0 for part in slices)  # type: ignore[index]
        alarms += any(find_losses(slices))
    assert naive > 50
    assert alarms <= 5


def test_size_and_latency_are_held_against_the_champions() -> None:
    metrics = {"accuracy": 0.9}
    rules = _rules(size="50 %", latency="100 %")
    evidence = Evidence({"accuracy": _SAME}, sizes=(1_500_000, 1_000_000), latencies=(3.0, 2.0))
    assert judge(metrics, metrics, rules, evidence=evidence).passed
    for sizes, latencies, key in (
        ((1_600_000, 1_000_000), (3.0, 2.0), "gate.size"),
        ((1_000_000, 1_000_000), (4.5, 2.0), "gate.latency"),
    ):
        slow = Evidence({"accuracy": _SAME}, sizes=sizes, latencies=latencies)
        verdict = judge(metrics, metrics, rules, evidence=slow)
        assert not verdict.passed
        assert key in verdict.text
    untried = Evidence({"accuracy": _SAME}, sizes=(1, 1), why_untried="it does not start")
    holding = _rules(size="50 %", latency="100 %", inconclusive="hold")
    assert judge(metrics, metrics, rules, evidence=untried).passed
    assert not judge(metrics, metrics, holding, evidence=untried).passed


def test_behaviour_that_was_not_tried_closes_the_gate() -> None:
    test = {"column": "sex", "expect": "same", "allow": "5 %"}
    rules = _rules(behaviour=[test])
    for broken, passed in (((0.05,), True), ((0.06,), False), (None, False)):
        evidence = Evidence(broken_shares=broken, why_untried="it does not start")
        verdict = judge({"accuracy": 0.9}, None, rules, evidence=evidence)
        assert verdict.passed is passed
    assert "the tests of behaviour were not run: it does not start" in verdict.text
    early = judge({"accuracy": 0.9}, None, rules, evidence=Evidence(is_early=True))
    assert early.passed
    assert "slices, latency, behaviour and tests are judged by retrain and deploy" in early.text


def test_tests_that_were_not_run_close_the_gate() -> None:
    for failed, passed in (((), True), (("test_a",), False), (None, False)):
        evidence = Evidence(failed_tests=failed, why_untried="no pytest")
        verdict = judge({"accuracy": 0.9}, None, _rules(tests=True), evidence=evidence)
        assert verdict.passed is passed
    assert "the tests in tests/model were not run: no pytest" in verdict.text


def test_champion_without_the_metric_lets_nothing_through_unseen() -> None:
    holding = _rules(inconclusive="hold")
    assert not judge({"accuracy": 0.9}, {}, holding).passed
    lost = Comparison(-0.2, (-0.3, -0.1), 400, 90, values=(0.7, 0.9))
    verdict = judge({"accuracy": 0.9}, {}, _rules(), evidence=Evidence({"accuracy": lost}))
    assert not verdict.passed
    assert "accuracy 0.7000 against the champion's 0.9000 is worse" in verdict.text


def test_changed_rows_have_another_value_of_one_column() -> None:
    rows = [{"sex": "f", "age": 30}, {"sex": "m", "age": 40}, {"sex": None, "age": 50}]
    same = Behaviour(column="sex", expect="same")
    assert [changed["sex"] for _, changed in change_rows(same, rows)] == ["m", "f"]
    rising = Behaviour(column="age", expect="not lower")
    pairs = change_rows(rising, rows)
    assert [(row["age"], changed["age"]) for row, changed in pairs] == [(30, 40), (40, 50)]
    assert share_broken(rising, [1.0, 2.0], [1.0, 1.5]) == 0.5
    assert share_broken(Behaviour(column="age", expect="not higher"), [1.0], [0.5]) == 0
    assert share_broken(same, ["a", "b"], ["a", "a"]) == 0.5
    assert not change_rows(rising, rows[:1]), "there is no greater value"
