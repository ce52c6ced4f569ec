"""Quality: the metrics of the gate on live requests whose labels are known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from tasks.monitoring.records import Value, normalize_value, write_row
from tasks.monitoring.window import Answer
from tasks.training.evidence import LOG_LOSS, MEASURABLE, Comparison, Evaluation, weigh_answers
from tasks.training.intervals import Interval
from tasks.training.probabilities import Probabilities, measure_probabilities
from tasks.training.rows import Row, normalize
from tasks.training.rules import MetricRule, Rules
from tasks.training.slices import cut

# A model that is always right has 0 by these metrics, and 1 by the others.
_ERRORS = {"mae", "rmse", LOG_LOSS}
_MOST_LABEL = 1e150


@dataclass(frozen=True)
class Quality:
    """A metric on live requests, beside the one at the release.

    Attributes:
        metric: Its name.
        part: The slice of the rows; empty for all.
        rows: Number of live rows with a label.
        value: The metric on them.
        interval: Its 95 % interval; None if too few answers are wrong for one.
        before: The metric on the test rows at the release; None of a slice.
        is_worse: Whether the interval shows that it is worse than at the release by more than the
            tolerance of the gate, or beyond the bound of the gate. Slices are shown only.
    """

    metric: str
    part: str
    rows: int
    value: float
    interval: Interval | None
    before: float | None
    is_worse: bool

    @property
    def text(self) -> str:
        """The quality in words."""
        before = "" if self.before is None else f", at the release {self.before:.3f}"
        return f"{self.metric} is {self.value:.3f}{before}"


@dataclass(frozen=True)
class Labelled:
    """Rows with a label, as texts: lists with one entry for each.

    Attributes:
        actual: The labels.
        predicted: The answers; where probabilities were the answer, the most probable class.
        rows: The inputs; the empty text is a missing value. None are needed of test rows.
        invalid: Number of labels that are left out: they are no numbers, where all have to be, or
            of a class that has no probability.
        probabilities: Those of each row; without classes where they were not the answer.
    """

    actual: list[str]
    predicted: list[str]
    rows: list[Row]
    invalid: int = 0
    probabilities: Probabilities = field(default_factory=Probabilities)

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that follow from these answers."""
        likely = frozenset({LOG_LOSS})
        return likely if self.probabilities.classes else MEASURABLE - likely

    @property
    def evaluation(self) -> Evaluation:
        """The answers as the gate weighs them."""
        losses = squares = None
        if self.probabilities.classes:
            losses, squares = measure_probabilities(
                self.probabilities.classes, self.actual, self.probabilities.rows
            )
        return Evaluation({}, "", self.actual, self.predicted, losses, squares)


Feedback = Mapping[str, tuple[Value, ...]]
Table = Mapping[tuple[str, int], str]


def join_labels(
    answers: Sequence[Answer], feedback: Feedback, table: Table, *, are_numbers: bool = False
) -> Labelled:
    """Return the labels and the answers of the rows that have both.

    Args:
        answers: The rows of a window; of a request, all rows or some.
        feedback: The labels that clients have sent, by request: one for each row.
        table: The labels of a table, by request and number of the row; they count first.
        are_numbers: Whether a label that is no number counts for nothing: anybody may have sent it.
    """
    labelled, invalid = Labelled([], [], []), 0
    for answer in answers:
        label = _find_label(answer, feedback, table)
        if label is None or answer.output is None:
            continue
        if are_numbers and not _is_number(label):
            invalid += 1
        else:
            labelled.actual.append(normalize_value(label))
            labelled.predicted.append(normalize_value(answer.output))
            labelled.rows.append(write_row(answer.inputs))
    return replace(labelled, invalid=invalid)


def join_probabilities(
    answers: Sequence[Answer], feedback: Feedback, table: Table, classes: Sequence[str]
) -> Labelled:
    """Return the labels and the probabilities of the rows that have both.

    Args:
        answers: The rows of a window.
        feedback: As `join_labels` has it.
        table: As `join_labels` has it.
        classes: The classes of the model. A label of another one counts for nothing: its loss would
            outweigh all others.
    """
    known = set(map(normalize_value, classes))
    actual: list[str] = []
    rows: list[Row] = []
    shares: list[Sequence[float]] = []
    invalid = 0
    for answer in answers:
        label = _find_label(answer, feedback, table)
        if label is None or not classes or len(answer.probabilities) != len(classes):
            continue
        if normalize_value(label) not in known:
            invalid += 1
            continue
        actual.append(normalize_value(label))
        rows.append(write_row(answer.inputs))
        shares.append(answer.probabilities)
    return make_likely(actual, Probabilities(classes, shares), rows, invalid)


def make_likely(
    actual: list[str], probabilities: Probabilities, rows: list[Row], invalid: int = 0
) -> Labelled:
    """Make rows with a label of probabilities."""
    labels = list(map(normalize_value, probabilities.classes))
    predicted = [
        labels[max(range(len(labels)), key=shares.__getitem__)] for shares in probabilities.rows
    ]
    return Labelled(actual, predicted, rows, invalid, replace(probabilities, classes=labels))


def _find_label(answer: Answer, feedback: Feedback, table: Table) -> Value:
    values = feedback.get(answer.request, ())
    sent = values[answer.number] if answer.number < len(values) else None
    return table.get((answer.request, answer.number), sent)


def _is_number(label: Value) -> bool:
    """Tell if a label is a number whose square is one, too."""
    try:
        return abs(float(normalize(label))) < _MOST_LABEL
    except ValueError:
        return False


def measure_quality(rules: Rules, live: Labelled, release: Labelled) -> list[Quality]:
    """Measure the metrics of the gate that follow from answers, the first one on each slice, too.

    Args:
        rules: The rules of the gate.
        live: The live rows.
        release: The same of the test rows of the release.
    """
    if not live.actual or not release.actual:
        return []
    measured = []
    for rule in rules.metrics:
        if rule.metric not in live.metrics:
            continue
        now, then = _measure(rule, live), _measure(rule, release)
        if now and then and isfinite(now[0]):
            worse = _is_worse(rule, now[1], then)
            rows = len(live.actual)
            measured.append(Quality(rule.metric, "", rows, *now, then[0], worse))
    if any(quality.metric == rules.metric for quality in measured):
        measured += _measure_slices(rules, live)
    return measured


def _measure_slices(rules: Rules, live: Labelled) -> list[Quality]:
    measured = []
    for part in cut(rules, live.rows, *_pair(live)):
        if (value := _read(rules, part.comparison)) is not None:
            measured.append(Quality(rules.metric, part.name, part.rows, *value, None, False))
    return measured


def _measure(rule: MetricRule, labelled: Labelled) -> tuple[float, Interval | None] | None:
    """Return a metric and its interval: by the comparison with a model that is always right."""
    better = rule.more_is_better
    try:
        compared = weigh_answers(*_pair(labelled), rule.metric, more_is_better=better)
        return _read(rule, compared)
    # A label that is no number, or whose square is too great for one.
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _pair(labelled: Labelled) -> tuple[Evaluation, Evaluation]:
    """Return the model, and one that is always right."""
    model, zeros = labelled.evaluation, [0.0] * len(labelled.actual)
    losses = None if model.losses is None else zeros
    return model, replace(model, predicted=model.actual, losses=losses, squares=losses)


def _read(rule: MetricRule, compared: Comparison | None) -> tuple[float, Interval | None] | None:
    """Return a metric and its interval from the comparison with a model that is always right."""
    if compared is None or compared.values is None:
        return None
    if compared.interval is None:
        return compared.values[0], None
    best, sign = 0.0 if rule.metric in _ERRORS else 1.0, 1 if rule.more_is_better else -1
    ends = [best + sign * end for end in compared.interval]
    return compared.values[0], (min(ends), max(ends))


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
