"""A report finds what has moved, raises an alarm when it lasts, and none without cause."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tasks.core.errors import TerminalError
from tasks.monitoring.drift import Reference, find_drift
from tasks.monitoring.labels import Labels
from tasks.monitoring.profile import Profile, parse_profile
from tasks.monitoring.quality import Labelled, make_likely, measure_quality
from tasks.monitoring.report import Release, Report, judge_window, parse_report, raise_alarm
from tasks.monitoring.settings import AlarmRule, MonitorRules
from tasks.monitoring.store import choose_spans
from tasks.monitoring.window import Answer, Span, parse_name
from tasks.reports import monitor_pictures
from tasks.training.probabilities import Probabilities
from tasks.training.rules import MetricRule, Rules
from tests.code.tasks.monitoring.logs import DAY, NOON, make_feedback, make_line, read_window

RULES = MonitorRules.model_validate({})
DRAWS = random.Random(1)
TRAINING = sorted(DRAWS.gauss(0, 1) for _ in range(400))
COLUMNS = {
    "ash": {"kind": "number", "missing": 0, "points": TRAINING},
    "city": {"kind": "category", "missing": 40, "counts": {"Bern": 200, "Basel": 160}},
}
PROFILE = Profile.model_validate({"format": 1, "rows": 400, "columns": COLUMNS})
ANSWERS = Labelled(
    ["a"] * 90 + ["b"] * 110, ["a"] * 85 + ["b"] * 5 + ["b"] * 100 + ["a"] * 10, []
)  # fmt: skip
# Of `b`, at random for each row, and a little higher where it is right.
SHARES = [min(1.0, 0.8 * DRAWS.random() + 0.2 * (label == "b")) for label in ANSWERS.actual]
LIKELY = make_likely(
    ANSWERS.actual, Probabilities(["a", "b"], [(1 - share, share) for share in SHARES]), []
)
RELEASE = Release(
    "wine", "local", "v0.0.1", "c" * 40,
    Reference(PROFILE, ANSWERS.predicted, False, LIKELY.probabilities), ANSWERS, LIKELY,
    Rules(metric="accuracy", minimum=0.5, slices=("city", "ash >= 0"),
          also=(MetricRule(metric="log_loss", tolerance=0.05),)),
)  # fmt: skip


def draw_row(shift: float = 0.0, **changes: Any) -> dict[str, Any]:
    city = DRAWS.choices(["Bern", "Basel", None], [200, 160, 40])[0]
    return {"ash": DRAWS.gauss(shift, 1), "city": city, **changes}


def judge(rows: Sequence[dict[str, Any]], *more: bytes, output: str = "") -> Report:
    lines = [
        make_line(n, [row], [output or DRAWS.choices("ab", [95, 105])[0]])
        for n, row in enumerate(rows)
    ]
    return judge_window(read_window([*lines, *more]), RELEASE, RULES, Labels())


def test_rows_of_the_same_world_do_not_differ() -> None:
    report = judge([draw_row() for _ in range(500)])
    assert (report.outcome, report.reasons) == ("no difference", ())
    assert {(finding.column, finding.subject) for finding in report.findings} == {
        ("ash", "values"), ("city", "values"), ("city", "missing"), ("", "predictions"),
    }  # fmt: skip
    assert parse_report(report.model_dump_json().encode()) == report


@pytest.mark.parametrize(
    ("rows", "output", "reason"),
    [
        ([draw_row(0.5) for _ in range(500)], "", "values of ash differ by"),
        ([draw_row(city="Bern") for _ in range(500)], "", "values of city differ by 0.44"),
        ([draw_row(city="Genf") for _ in range(500)], "", "values of city differ by 1.00"),
        ([draw_row(ash=None) for _ in range(500)], "", "missing of ash differ by 1.00"),
        ([draw_row() for _ in range(500)], "a", "predictions differ by"),
    ],
)
def test_difference_is_found(rows: Sequence[dict[str, Any]], output: str, reason: str) -> None:
    report = judge(rows, output=output)
    assert report.outcome == "differs"
    assert report.reasons[0].startswith(reason)


def test_small_difference_of_many_rows_does_not_count() -> None:
    lines = [make_line(n, [draw_row(0.1) for _ in range(50)], ["a"] * 50) for n in range(100)]
    window = read_window(lines, most_rows=10_000)
    report = judge_window(window, RELEASE, RULES, Labels())
    (ash,) = [finding for finding in report.findings if finding.column == "ash"]
    assert not ash.differs


def test_new_and_invalid_values_are_shown() -> None:
    rows = [draw_row(city="Genf") for _ in range(50)] + [draw_row(ash="x") for _ in range(50)]
    columns = judge(rows).columns
    assert columns["city"].new == pytest.approx(0.5, abs=0.1)
    assert columns["ash"].invalid == 0.5
    assert columns["city"].missing_before == 0.1


def test_column_that_the_log_leaves_out_is_not_missing() -> None:
    """By default it leaves out private ones."""
    report = judge([{"ash": draw_row()["ash"]} for _ in range(500)])
    assert (report.outcome, report.reasons) == ("no difference", ())
    assert {finding.column for finding in report.findings} == {"ash", ""}
    assert report.columns.keys() == {"ash"}


def test_window_that_cannot_be_judged_says_why() -> None:
    assert judge([]).outcome == "no traffic"
    assert judge([draw_row(9.0) for _ in range(99)]).outcome == "too few rows"
    release = replace(RELEASE, reference=None)
    report = judge_window(read_window([make_line(1)]), release, RULES, Labels())
    assert report.outcome == "no profile"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "rows": 0}'])
def test_profile_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TerminalError, match=r"data/profile\.json of wine@1 is invalid"):
        parse_profile(text, "wine@1")


def test_quality_is_measured_where_labels_are_known() -> None:
    rows = [draw_row() for _ in range(400)]
    right = [make_feedback(n, "a") for n in range(300)]
    report = judge(rows, *right, make_feedback("unknown", "a"), output="a")
    accuracy, *parts = report.quality
    assert {part.part for part in parts} >= {"city == Bern", "city == Basel", "ash >= 0"}
    assert all(part.value == 1.0 and not part.is_worse for part in parts)
    assert (accuracy.value, accuracy.rows, accuracy.is_worse) == (1.0, 300, False)
    wrong = [make_feedback(n, "b" if n % 2 else "a") for n in range(300)]
    report = judge(rows, *wrong, output="a")
    assert report.quality[0].is_worse
    assert report.reasons[0] == "accuracy is 0.500, at the release 0.925"
    assert report.log["labels"] == 300
    assert (report.log["feedback_unmatched"], report.log["feedback_replaced"]) == (0, 0)
    newer = make_feedback(0, "a", NOON + timedelta(hours=1))
    report = judge(rows, *wrong, newer, make_feedback("unknown", "a"), output="a")
    assert report.quality[0].value == 0.5
    assert (report.log["feedback_unmatched"], report.log["feedback_replaced"]) == (1, 1)


def test_row_without_a_column_is_measured() -> None:
    rows = [*(draw_row() for _ in range(199)), {"ash": 1.0}]
    report = judge(rows, *(make_feedback(n, "a") for n in range(200)), output="a")
    assert report.quality[0].rows == 200


@pytest.mark.parametrize("label", ["1e200", "inf", "x"])
def test_label_that_cannot_be_measured_fails_nothing(label: str) -> None:
    answers = [str(n % 7) for n in range(200)]
    live = Labelled([*answers[:-1], label], answers, [{}] * 200)
    assert measure_quality(Rules(metric="rmse"), live, replace(live, actual=answers)) == []


def judge_shares(shares: Sequence[float], *labels: Any, rules: Rules = RELEASE.rules) -> Report:
    """Judge answers of `predict_proba`: the probabilities of `b`, and the labels of some."""
    lines = [
        make_line(n, [draw_row()], data={"outputs": None, "probabilities": [[1 - share, share]]})
        for n, share in enumerate(shares)
    ]
    feedback = [make_feedback(n, label) for n, label in enumerate(labels)]
    release = replace(RELEASE, rules=rules)
    return judge_window(read_window([*lines, *feedback]), release, RULES, Labels())


def test_probabilities_are_compared_with_those_of_the_test_rows() -> None:
    report = judge_shares([DRAWS.choice(SHARES) for _ in range(400)])
    assert report.outcome == "no difference"
    compared = {(finding.column, finding.subject) for finding in report.findings}
    assert ("b", "probabilities") in compared
    assert ("a", "probabilities") not in compared, "of two classes one says all"
    report = judge_shares([DRAWS.choice(SHARES) ** 3 for _ in range(400)])
    assert report.reasons[0].startswith("probabilities of b differ by 0.")
    unknown = replace(RELEASE.reference, probabilities=Probabilities())
    assert find_drift(unknown, report_answers(0.5), 0.1) == []


def report_answers(share: float) -> list[Answer]:
    return [Answer(f"r{n}", 0, {}, None, (1 - share, share)) for n in range(200)]


def test_probabilities_of_a_tree_equal_those_that_were_written() -> None:
    written = [[float(f"{share:.6g}") for share in (1 / 3, 2 / 3)]] * 200
    reference = replace(RELEASE.reference, probabilities=Probabilities(["a", "b"], written))
    (finding,) = find_drift(reference, report_answers(2 / 3), 0.1)
    assert finding.distance == 0


def test_loss_of_probabilities_is_measured_where_labels_are_known() -> None:
    rules = Rules(metric="log_loss", slices=("ash >= 0",), also=(MetricRule(metric="accuracy"),))
    labels = ["b" if DRAWS.random() < share else "a" for share in [0.9] * 300]
    report = judge_shares([0.9] * 300, *labels, rules=rules)
    loss, part = report.quality
    assert (loss.metric, loss.rows, loss.is_worse) == ("log_loss", 300, False)
    wrong = sum(label == "a" for label in labels)
    expected = -(wrong * math.log(0.1) + (300 - wrong) * math.log(0.9)) / 300
    assert loss.value == pytest.approx(expected)
    assert loss.interval
    assert loss.interval[0] < loss.value < loss.interval[1]
    assert loss.before
    assert 0.3 < loss.before < 0.9
    assert (part.part, part.before) == ("ash >= 0", None)
    assert report.log["labels"] == 300
    report = judge_shares([0.9] * 300, *(["a"] * 300), rules=rules)
    assert report.quality[0].is_worse
    assert report.reasons[0].startswith("log_loss is 2.303, at the release 0.")


def make_reports(outcomes: str, **changes: Any) -> list[Report]:
    """Make reports on days in a row: `d` differs, `n` does not, `t` had no traffic."""
    words = {"d": "differs", "n": "no difference", "t": "no traffic"}
    reports: list[Report] = []
    for day, letter in enumerate(outcomes):
        start = DAY.start + timedelta(days=day)
        facts = {"model": "wine", "environment": "local", "version": "v0.0.1", "commit": "c"}
        report = Report.model_validate(
            {**facts, "start": start, "end": start + timedelta(days=1),
             "outcome": words[letter], **changes}
        )  # fmt: skip
        reports.append(raise_alarm(report, None, reports[::-1], RULES, is_live=True))
    return reports


def decide(report: Report, others: Sequence[Report], former: Report | None = None) -> Report:
    return raise_alarm(report, former, others, RULES, is_live=True)


def show_alarms(reports: Sequence[Report]) -> str:
    return "".join("C" if report.acts else "A" if report.alarm else "-" for report in reports)


@pytest.mark.parametrize(
    ("outcomes", "alarms"),
    [
        ("nnnnnnnnnn", "----------"),
        ("dnndnnd", "-------"),
        ("dnd", "--C"),
        ("dd", "-C"),
        ("dtttd", "----C"),
        ("dddddd", "-CAACA"),
        ("ddnnn", "-C---"),
    ],
)
def test_alarm_needs_two_windows_of_three(outcomes: str, alarms: str) -> None:
    assert show_alarms(make_reports(outcomes)) == alarms


def test_windows_of_another_version_or_length_do_not_count() -> None:
    earlier = make_reports("dd")[::-1]
    start = DAY.start + timedelta(days=2)
    values = {**earlier[0].model_dump(), "start": start, "end": start + timedelta(days=1)}
    assert decide(Report.model_validate(values), earlier).alarm
    for change in ({"version": "v0.0.2"}, {"end": start + timedelta(hours=1)}):
        report = Report.model_validate({**values, "alarm": False, "acts": False, **change})
        assert not decide(report, earlier).alarm


def test_alarm_on_a_version_that_is_replaced_starts_nothing() -> None:
    earlier, report = make_reports("dd")
    late = raise_alarm(report, None, [earlier], RULES, is_live=False)
    assert (late.alarm, late.acts) == (True, False)


def test_alarm_that_has_acted_stays_so_when_its_report_is_made_again() -> None:
    earlier, former = make_reports("dd")
    again = raise_alarm(former, former, [earlier], RULES, is_live=False)
    assert again.acts
    calm = former.model_copy(update={"outcome": "no difference", "alarm": False, "acts": False})
    assert decide(calm, [earlier], former).acts


def test_late_report_rests_after_a_later_alarm() -> None:
    first, second, third = make_reports("ddd")
    third = third.model_copy(update={"acts": True})
    again = decide(second, [third, first])
    assert (again.alarm, again.acts) == (True, False)


def test_requests_count_once_in_windows_that_overlap() -> None:
    (earlier,) = make_reports("d")
    moved = [
        earlier.model_copy(
            update={"start": earlier.start + later, "end": earlier.end + later}
        )
        for later in map(timedelta, (0, 0.5, 2))
    ]  # fmt: skip
    three = RULES.model_copy(update={"alarm": AlarmRule(windows=3, of=3)})
    report, *others = moved[::-1]
    assert not raise_alarm(report, None, others, three, is_live=True).alarm


def test_reports_are_read_that_an_alarm_follows_from() -> None:
    day, hour = timedelta(days=1), timedelta(hours=1)
    days = [Span(DAY.start - n * day, DAY.end - n * day) for n in range(-4, 100)]
    hours = [Span(DAY.start - n * hour, DAY.start - (n - 1) * hour) for n in range(2000)]
    others = [span for span in days if span != DAY] + hours
    chosen = choose_spans(others, DAY, 3 * day)
    assert {days[0], *days[2:4], *days[5:30]} <= set(chosen), "also past shorter ones"
    assert days[1] not in chosen
    assert set(hours[:40]) <= set(chosen)
    assert len(chosen) < 300
    assert chosen[0] == days[0], "the newest first"
    assert parse_name(DAY.name) == DAY
    assert parse_name("notes") is None


def test_picture_names_no_category_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    charts: list[dict[str, Any]] = []
    monkeypatch.setattr(monitor_pictures, "draw", lambda chart: charts.append(chart) or b"")
    values = ["Bern"] * 50 + ["Genf"] * 5 + ["Ada Lovelace"] * 4
    monitor_pictures.draw_column("city", PROFILE.columns["city"], values)
    shown = {row["value"] for row in charts[0]["data"]["values"]}
    assert shown == {"Bern", "Basel", "Genf"}
