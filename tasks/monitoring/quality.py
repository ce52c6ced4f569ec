"""Quality: the metrics of the gate on live requests whose labels are known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.monitoring.records import Value
from tasks.monitoring.window import Answer
from tasks.training.evidence import MEASURABLE, Evaluation, weigh_answers
from tasks.training.intervals import Interval
from tasks.training.rows import normalize
from tasks.training.rules import MetricRule

# Of these, the value of a model that is always right; of the others it is 1.
_ERRORS = {"mae", "rmse"}


@dataclass(frozen=True)
class Quality:
    """A metric on live requests, beside the one at the release.

    Attributes:
        metric: Its name.
        rows: Number of live rows with a label.
        value: The metric on them.
        interval: Its 95 % interval; None if too few answers are wrong for one.
        before: The metric on the test rows at the release.
        is_worse: Whether the interval shows that it is worse than at the release by more than the
            tolerance of the gate, or beyond the bound of the gate.
    """

    metric: str
    rows: int
    value: float
    interval: Interval | None
    before: float
    is_worse: bool

    @property
    def text(self) -> str:
        """The quality in words."""
        return f"{self.metric} is {self.value:.3f}, at the release {self.before:.3f}"


def join_labels(
    answers: Sequence[Answer],
    feedback: Mapping[str, tuple[Value, ...]],
    table: Mapping[tuple[str, int], str],
) -> tuple[list[str], list[str]]:
    """Return the labels and the answers of the rows that have both, as texts.

    Args:
        answers: The rows of a window; of a request, all rows or some.
        feedback: The labels that clients have sent, by request: one for each row.
        table: The labels of a table, by request and number of the row; they count first.
    """
    actual, predicted = [], []
    for answer in answers:
        values = feedback.get(answer.request, ())
        sent = values[answer.number] if answer.number < len(values) else None
        label = table.get((answer.request, answer.number), sent)
        if label is not None and answer.output is not None:
            actual.append(normalize(label))
            predicted.append(normalize(answer.output))
    return actual, predicted


def measure_quality(
    rules: Sequence[MetricRule],
    live: tuple[Sequence[str], Sequence[str]],
    release: tuple[Sequence[str], Sequence[str]],
) -> list[Quality]:
    """Measure the metrics of the gate that follow from answers.

    Args:
        rules: The rules of the gate.
        live: Labels and answers of live rows.
        release: The same of the test rows of the release.
    """
    if not live[0] or not release[0]:
        return []
    measured = []
    for rule in rules:
        if rule.metric not in MEASURABLE:
            continue
        now, then = _measure(rule, *live), _measure(rule, *release)
        if now and then:
            worse = _is_worse(rule, now[1], then)
            measured.append(Quality(rule.metric, len(live[0]), *now, then[0], worse))
    return measured


def _measure(
    rule: MetricRule, actual: Sequence[str], predicted: Sequence[str]
) -> tuple[float, Interval | None] | None:
    """Return a metric and its interval: by the comparison with a model that is always right."""
    model = Evaluation({}, "", actual, predicted)
    ideal = Evaluation({}, "", actual, actual)
    try:
        compared = weigh_answers(model, ideal, rule.metric, more_is_better=True)
    except (ValueError, ZeroDivisionError):  # a label that is no number
        return None
    if compared is None or compared.values is None:
        return None
    best = 0.0 if rule.metric in _ERRORS else 1.0
    interval = compared.interval
    if interval:
        interval = best + interval[0], best + interval[1]
    return compared.values[0], interval


def _is_worse(rule: MetricRule, now: Interval | None, then: tuple[float, Interval | None]) -> bool:
    """Check that a live metric is surely beyond the bound, or surely less than at the release."""
    if now is None:
        return False
    sign = 1 if rule.more_is_better else -1
    best = max(sign * now[0], sign * now[1])
    bound = rule.minimum if rule.more_is_better else rule.maximum
    if bound is not None and best < sign * bound:
        return True
    value, interval = then
    if interval is None:
        return False
    return best < min(sign * interval[0], sign * interval[1]) - rule.tolerance_at(value)
