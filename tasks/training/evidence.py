"""Evidence: the answers of candidate and champion to the same rows, and what they show. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from tasks.core.fast_yaml import read_yaml
from tasks.training.intervals import (
    CLASSES,
    ERRORS,
    LEAST_DISAGREEING,
    LEAST_GROUPS,
    Answers,
    Interval,
    Z,
    bootstrap_classes,
    bootstrap_errors,
    find_blocks,
    measure_classes,
    measure_errors,
    tango_interval,
)
from tasks.training.rules import BRIER

LOCK, TEST = "dvc.lock", "data/test.csv"
# The interval of a difference of so many standard errors leaves zero out in 95 of 100 splits.
_SHOWN = Z + 1.645

LOG_LOSS = "log_loss"
MEASURABLE = frozenset({"accuracy", *CLASSES, *ERRORS, LOG_LOSS, BRIER})  # follow from answers
Word = Literal["better", "no worse", "worse", "inconclusive"]


@dataclass(frozen=True)
class Evaluation:
    """The metrics and answers of a model on its test split, as its commit has them.

    Attributes:
        metrics: The metrics, by name.
        split: Hash of the test split, as DVC locked it when the model was scored; empty if unknown.
        actual: The value of each row.
        predicted: The model's answer to each row.
        losses: Minus the logarithm of the probability of each row's class, if known.
        squares: Half the squared distance of each row's probabilities from certainty of its class,
            if known.
        groups: The group of each row, where rows of one are no independent draws.
        shares: The probabilities of each row, if known.
        classes: The classes that they are of.
    """

    metrics: Mapping[str, float]
    split: str
    actual: Answers
    predicted: Answers
    losses: Sequence[float] | None = None
    squares: Sequence[float] | None = None
    groups: Sequence[str] | None = None
    shares: Sequence[Sequence[float]] | None = None
    classes: Sequence[Any] = ()


def parse_evaluation(metrics: Mapping[str, float], predictions: str, lock: str) -> Evaluation:
    """Parse the files of a commit; what cannot be read counts as missing.

    Args:
        metrics: The metrics, by name.
        predictions: Text of its predictions, `actual,predicted` for each row, and perhaps more;
            empty if it has none.
        lock: Text of its `dvc.lock`; empty if it has none.
    """
    rows = list(csv.reader(io.StringIO(predictions, newline="")))
    header = rows[0] if rows else []
    if header[:2] != ["actual", "predicted"] or any(len(row) != len(header) for row in rows):
        rows = []
    return Evaluation(
        metrics, _read_split(lock), [row[0] for row in rows[1:]], [row[1] for row in rows[1:]]
    )


def _read_split(lock: str) -> str:
    try:
        deps: list[dict[str, Any]] = read_yaml(lock)["stages"]["evaluate"]["deps"]
        return next(str(dep["md5"]) for dep in deps if dep["path"] == TEST)
    except (yaml.YAMLError, TypeError, KeyError, StopIteration):
        return ""


@dataclass(frozen=True)
class Comparison:
    """The gain of a candidate over the champion: the difference, turned so that more is better.

    Attributes:
        gain: The gain.
        interval: Its 95 % interval; None if too few rows differ for one.
        rows: Number of rows that both answered.
        disagreeing: Number of rows that they answered differently.
        source: The rows, in words, if they are other ones than the metrics were measured on.
        values: The metric of candidate and champion on these rows.
    """

    gain: float
    interval: Interval | None
    rows: int
    disagreeing: int
    source: str = ""
    values: tuple[float, float] | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> Comparison:
        """Return a comparison from what JSON made of it.

        Raises:
            TypeError: It is none of this version.
        """
        pairs = {name: facts[name] and tuple(facts[name]) for name in ("interval", "values")}
        return cls(**{**facts, **pairs})

    def word(self, tolerance: float) -> Word:
        """Return the verdict on the candidate.

        Args:
            tolerance: The loss that is still accepted.
        """
        if self.interval is None:
            return "inconclusive"
        if self.is_better:
            return "better"
        lower, upper = self.interval
        if lower > -tolerance:
            return "no worse"
        return "worse" if upper < 0 else "inconclusive"

    @property
    def is_better(self) -> bool:
        """True if the rows show a gain, whatever the tolerance."""
        return self.interval is not None and self.interval[0] > 0

    @property
    def smallest(self) -> float:
        """The smallest difference that so many rows show; infinite if they show none."""
        if self.interval is None:
            return math.inf
        lower, upper = self.interval
        return _SHOWN * (upper - lower) / (2 * Z)

    def enough_rows(self, tolerance: float) -> int | None:
        """Return how many rows show a loss of twice the tolerance; None if no number is known."""
        if self.interval is None or not tolerance:
            return None
        return math.ceil(self.rows * (self.smallest / (2 * tolerance)) ** 2)

    @property
    def text(self) -> str:
        """The comparison in words."""
        rows = self.source or f"the same {self.rows} rows"
        rows = f"{rows}, {self.disagreeing} of them answered differently"
        if self.interval is None:
            return f"{rows}, too few for an interval: gain {self.gain:+z.4f}"
        lower, upper = self.interval
        return (
            f"{rows}: gain {self.gain:+z.4f}, 95 % interval {lower:+z.4f} to {upper:+z.4f};"
            f" so many rows show a difference of {self.smallest:.4f}"
        )


def compare(
    candidate: Evaluation, champion: Evaluation, metric: str, more_is_better: bool
) -> Comparison | None:
    """Compare two models on the rows that both were scored on.

    Args:
        candidate: The candidate.
        champion: The champion.
        metric: Name of the metric.
        more_is_better: The direction of the metric.

    Returns:
        The comparison. None if their test splits differ, the metric does not follow from answers,
        or a commit's answers are missing or not those that its metrics were measured on.
    """
    if not champion.actual or not candidate.split or candidate.split != champion.split:
        return None
    if list(candidate.actual) != list(champion.actual):
        return None
    for model in (candidate, champion):
        measured = measure(metric, model)
        stated = model.metrics.get(metric)
        if measured is None or stated is None or not math.isclose(measured, stated, rel_tol=1e-6):
            return None
    return weigh_answers(candidate, champion, metric, more_is_better=more_is_better)


def weigh_answers(
    candidate: Evaluation,
    champion: Evaluation,
    metric: str,
    *,
    more_is_better: bool,
    source: str = "",
) -> Comparison | None:
    """Compare the answers of two models to the same rows.

    Args:
        candidate: The candidate.
        champion: The champion, with the same actual values.
        metric: Name of the metric.
        more_is_better: The direction of the metric.
        source: The rows, in words, if they are other ones than the metrics were measured on.

    Returns:
        The comparison; None if the metric does not follow from answers.
    """
    actual, old, new = champion.actual, champion.predicted, candidate.predicted
    after, before = measure(metric, candidate), measure(metric, champion)
    if after is None or before is None:
        return None
    disagreeing = sum(a != b for a, b in zip(old, new, strict=True))
    interval: Interval | None = None
    blocks = find_blocks(candidate.groups) if candidate.groups else None
    if candidate.groups and len(set(candidate.groups)) < LEAST_GROUPS:
        pass  # an interval of a handful of draws
    elif metric == "accuracy" and blocks is None:
        triples = list(zip(actual, old, new, strict=True))
        interval = tango_interval(
            sum(label == b != a for label, a, b in triples),
            sum(label == a != b for label, a, b in triples),
            len(triples),
        )
    elif (after_rows := _means(metric, candidate)) and (before_rows := _means(metric, champion)):
        # It is a mean of absolute errors, if each row's value is the error of zero.
        interval = bootstrap_errors("mae", [0.0] * len(actual), before_rows, after_rows, blocks)
    elif disagreeing >= LEAST_DISAGREEING:
        if metric in ("accuracy", *CLASSES):
            interval = bootstrap_classes(metric, actual, old, new, blocks)
        else:
            interval = bootstrap_errors(metric, _floats(actual), _floats(old), _floats(new), blocks)
    if interval and not all(map(math.isfinite, interval)):
        interval = None  # of answers whose squares are no numbers
    gain = after - before
    if not more_is_better:
        gain = -gain
        interval = (-interval[1], -interval[0]) if interval else None
    return Comparison(gain, interval, len(actual), disagreeing, source, (after, before))


def _floats(answers: Answers) -> list[float]:
    return [float(answer) for answer in answers]


def _means(metric: str, model: Evaluation) -> Sequence[float] | None:
    """Return the value of each row, of a metric that is their mean; None if it is another."""
    return {LOG_LOSS: model.losses, BRIER: model.squares}.get(metric)


def measure(metric: str, model: Evaluation) -> float | None:
    """Return a metric as the answers have it, None if it does not follow from them."""
    if metric in ("accuracy", *CLASSES):
        return measure_classes(metric, model.actual, model.predicted)
    if values := _means(metric, model):
        return math.fsum(values) / len(values)
    if metric not in ERRORS:
        return None
    try:
        actual, predicted = _floats(model.actual), _floats(model.predicted)
        mean = math.fsum(actual) / len(actual)
        errors = [b - a for a, b in zip(actual, predicted, strict=True)]
        return measure_errors(
            metric,
            len(actual),
            math.fsum(map(abs, errors)),
            math.fsum(error * error for error in errors),
            math.fsum((value - mean) ** 2 for value in actual),
        )
    except (ValueError, ArithmeticError):  # no number, or one that is too large
        return None


def sum_losses(comparisons: Iterable[Comparison | None]) -> float:
    """Return the sum of losses since a release was better, or had another test split.

    Args:
        comparisons: Each release against the one before it, newest first; None if they have no
            rows in common.
    """
    total = 0.0
    for comparison in comparisons:
        if comparison is None or comparison.is_better:
            break
        total += max(0.0, -comparison.gain)
    return total
