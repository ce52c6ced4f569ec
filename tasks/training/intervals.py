"""Intervals of the gain of one model over another that was scored on the same rows. Pure.

A gain is the difference of a metric, turned so that more is better. All intervals are at 95 %.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import mul
from random import Random
from statistics import NormalDist

Answers = Sequence[str]
Interval = tuple[float, float]

Z = NormalDist().inv_cdf(0.975)
# With fewer rows on which the models differ, few resamples differ from one another.
LEAST_DISAGREEING = 10
LEAST_GROUPS = 10  # the same for groups
CLASSES = ("balanced_accuracy", "f1_macro")
ERRORS = ("mae", "rmse", "r2")

_RESAMPLES = 1000
_BLOCKS = 200  # bounds the time of large test splits; with fewer rows, each row is a block
_SEED = 0  # all who ask the gate get the same answer
_BISECTIONS = 40  # to 1e-12
# Of a Poisson number of mean 1: how likely it is 0, at most 1, and so on.
_POISSON = list(accumulate(math.exp(-1) / math.factorial(count) for count in range(12)))


def tango_interval(candidate_only: int, champion_only: int, rows: int) -> Interval:
    """Return Tango's score interval for the difference of two paired shares.

    Of n rows, the candidate alone answers b rightly and the champion alone c. The interval is all d
    for which |b - c - nd| <= z * sqrt(n * (2q + d * (1 - d))). There q is the likeliest share of
    rows that the champion alone answers rightly if the difference is d: the greater root of
    2n * q^2 + ((2n - b + c) * d - b - c) * q - c * d * (1 - d) = 0.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17 (1998), 891-908. Unlike Wald's interval
    it has a width where no row differs: z^2 / (n + z^2) to each side.

    Args:
        candidate_only: Rows that only the candidate answers rightly.
        champion_only: Rows that only the champion answers rightly.
        rows: All rows, at least one.
    """
    b, c, n = candidate_only, champion_only, rows
    estimate = (b - c) / n

    def is_excluded(d: float) -> bool:
        linear = (2 * n - b + c) * d - b - c
        constant = -c * d * (1 - d)
        root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
        share = (root - linear) / (4 * n)
        variance = n * (2 * share + d * (1 - d))
        return abs(b - c - n * d) > Z * math.sqrt(max(0.0, variance))

    def find_limit(end: float) -> float:
        inside, outside = estimate, end
        if not is_excluded(end):
            return end
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if is_excluded(middle) else (middle, outside)
        return outside

    return find_limit(-1.0), find_limit(1.0)


def measure_classes(metric: str, answers: Iterable[tuple[str, str, float]]) -> float:
    """Return a metric of a classification, as scikit-learn defines it.

    Args:
        metric: One of `CLASSES`, or `accuracy`.
        answers: Actual class, predicted class and weight of rows.

    Raises:
        ZeroDivisionError: No row has a weight.
    """
    right: dict[str, float] = defaultdict(float)
    actual: dict[str, float] = defaultdict(float)
    predicted: dict[str, float] = defaultdict(float)
    for label, answer, weight in answers:
        if weight:
            actual[label] += weight
            predicted[answer] += weight
            if label == answer:
                right[label] += weight
    if metric == "accuracy":
        return sum(right.values()) / sum(actual.values())
    if metric == "balanced_accuracy":
        return sum(right[label] / rows for label, rows in actual.items()) / len(actual)
    labels = actual.keys() | predicted.keys()
    return sum(
        2 * right[label] / (actual[label] + predicted[label]) for label in sorted(labels)
    ) / len(labels)


def measure_errors(
    metric: str, rows: float, absolute: float, squared: float, spread: float
) -> float:
    """Return a metric of a regression, as scikit-learn defines it.

    Args:
        metric: One of `ERRORS`.
        rows: Number of rows.
        absolute: Sum of the absolute errors.
        squared: Sum of the squared errors.
        spread: Sum of the squared distances of the actual values from their mean.

    Raises:
        ZeroDivisionError: There are no rows, or no spread for r2.
    """
    if metric == "mae":
        return absolute / rows
    return math.sqrt(squared / rows) if metric == "rmse" else 1 - squared / spread


def find_blocks(groups: Sequence[str]) -> list[int]:
    """Return the number of the block of each row: all rows of a group are in the same one."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(group, len(numbers)) % _BLOCKS for group in groups]


def bootstrap_classes(
    metric: str,
    actual: Answers,
    champion: Answers,
    candidate: Answers,
    blocks: Sequence[int] | None = None,
) -> Interval:
    """Return the interval of candidate minus champion of a classification, by paired bootstrap.

    See `_percentiles`. Rows with the same class and the same two answers are drawn together.

    Args:
        metric: One of `CLASSES`, or `accuracy`.
        actual: The class of each row.
        champion: The champion's answers.
        candidate: The candidate's answers.
        blocks: Number of the block of each row, if rows are no independent draws.
    """
    triples = zip(actual, champion, candidate, strict=True)
    if blocks is not None:
        return _bootstrap_blocks(metric, Counter(zip(blocks, triples, strict=True)))
    cells = sorted(Counter(triples).items())

    def resample(random: Random) -> float:
        drawn = [(cell, _draw_poisson(random, count)) for cell, count in cells]
        new = measure_classes(metric, ((label, answer, n) for (label, _, answer), n in drawn))
        old = measure_classes(metric, ((label, answer, n) for (label, answer, _), n in drawn))
        return new - old

    return _percentiles(resample)


def _bootstrap_blocks(
    metric: str, cells: Mapping[tuple[int, tuple[str, str, str]], int]
) -> Interval:
    """Return the interval of a classification whose rows are drawn by blocks."""
    ordered = sorted(cells.items())
    count = 1 + max(block for (block, _), _ in ordered)

    def resample(random: Random) -> float:
        weights = random.choices(range(len(_POISSON)), cum_weights=_POISSON, k=count)
        drawn = [(cell, weights[block] * rows) for (block, cell), rows in ordered]
        new = measure_classes(metric, ((label, answer, n) for (label, _, answer), n in drawn))
        old = measure_classes(metric, ((label, answer, n) for (label, answer, _), n in drawn))
        return new - old

    return _percentiles(resample)


def bootstrap_errors(
    metric: str,
    actual: Sequence[float],
    champion: Sequence[float],
    candidate: Sequence[float],
    blocks: Sequence[int] | None = None,
) -> Interval:
    """Return the interval of candidate minus champion of a regression, by paired bootstrap.

    See `_percentiles`. Rows of a large split are drawn in blocks, which are as independent as rows.

    Args:
        metric: One of `ERRORS`.
        actual: The value of each row.
        champion: The champion's answers.
        candidate: The candidate's answers.
        blocks: Number of the block of each row, if rows are no independent draws.
    """
    middle = math.fsum(actual) / len(actual)  # sums of squares lose digits far from zero
    places = [number % _BLOCKS for number in range(len(actual))] if blocks is None else blocks
    count = 1 + max(places)
    columns = [[0.0] * count for _ in range(7)]
    for place, value, old, new in zip(places, actual, champion, candidate, strict=True):
        y, a, b = value - middle, abs(old - value), abs(new - value)
        for column, term in zip(columns, (1.0, y, y * y, a, a * a, b, b * b), strict=True):
            column[place] += term

    def resample(random: Random) -> float:
        weights = random.choices(range(len(_POISSON)), cum_weights=_POISSON, k=count)
        rows, y, yy, a, aa, b, bb = (sum(map(mul, weights, column)) for column in columns)
        spread = yy - y * y / rows
        return measure_errors(metric, rows, b, bb, spread) - measure_errors(
            metric, rows, a, aa, spread
        )

    return _percentiles(resample)


def _percentiles(resample: Callable[[Random], float]) -> Interval:
    """Return the 2.5th and the 97.5th percentile of resamples of the same rows for both models.

    Each row counts as often as a Poisson number of mean 1 says, which needs no list of the rows.

    Sources: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13;
    J. Hanley, B. MacGibbon, "Creating non-parametric bootstrap samples using Poisson frequencies",
    Computer Methods and Programs in Biomedicine 83 (2006), 57-62.
    """
    random = Random(_SEED)
    gains = []
    for _ in range(_RESAMPLES):
        try:
            gains.append(resample(random))
        except ZeroDivisionError:  # no row was drawn, or none that differ in their value
            continue
    gains.sort()
    outside = int(0.025 * len(gains))
    return gains[outside], gains[-1 - outside]


def _draw_poisson(random: Random, mean: int) -> int:
    """Draw a Poisson number: by Knuth's products, or as a rounded normal number if it is large."""
    if mean > 50:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), random.random(), 0
    while product > limit:
        product *= random.random()
        count += 1
    return count
