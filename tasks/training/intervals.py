"""Intervals of the gain of one model over another that was scored on the same rows. Pure.

A gain is the difference of a metric, turned so that more is better. All intervals are at 95 %.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import add, mul
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
_NORMAL_FROM = 50  # mean of a Poisson number
_LANE = array("I").itemsize  # no count of rows is larger, however often they are drawn
_LISTS = 5  # of counts by class, see `_pack`
_Triple = tuple[str, str, str]  # class, the champion's answer, the candidate's


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


def measure_classes(metric: str, actual: Answers, predicted: Answers) -> float:
    """Return a metric of a classification, as scikit-learn defines it.

    Args:
        metric: One of `CLASSES`, or `accuracy`.
        actual: The class of each row.
        predicted: The answer to each row.

    Raises:
        ZeroDivisionError: There are no rows.
    """
    rows, answers = Counter(actual), Counter(predicted)
    right = Counter(a for a, b in zip(actual, predicted, strict=True) if a == b)
    labels = sorted(rows.keys() | answers.keys())
    return _measure_counts(
        metric,
        *([counts[label] for label in labels] for counts in (rows, answers, right)),
    )


def _measure_counts(
    metric: str, actual: Sequence[int], predicted: Sequence[int], right: Sequence[int]
) -> float:
    """Return a metric from the numbers of rows by class: of it, answered so, and rightly so."""
    if metric == "accuracy":
        return sum(right) / sum(actual)
    wholes = actual if metric == "balanced_accuracy" else list(map(add, actual, predicted))
    shares = [part / whole for part, whole in zip(right, wholes, strict=True) if whole]
    # f1 is twice the right ones over all of the class and all answered so.
    return sum(shares) / len(shares) * (1 if metric == "balanced_accuracy" else 2)


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

    See `_percentiles`. Rows with the same class and the same two answers are drawn together; where
    these are many, rows are drawn in blocks, which are as independent as rows.

    Args:
        metric: One of `CLASSES`, or `accuracy`.
        actual: The class of each row.
        champion: The champion's answers.
        candidate: The candidate's answers.
        blocks: Number of the block of each row, if rows are no independent draws.
    """
    triples = list(zip(actual, champion, candidate, strict=True))
    cells = Counter(triples)
    units: list[tuple[Mapping[_Triple, int], int]]  # rows of each kind, and how often they are
    if blocks is None and len(cells) <= _BLOCKS:
        units = [({triple: 1}, count) for triple, count in sorted(cells.items())]
    else:
        places = [number % _BLOCKS for number in range(len(triples))] if blocks is None else blocks
        members: list[Counter[_Triple]] = [Counter() for _ in range(1 + max(places))]
        for place, triple in zip(places, triples, strict=True):
            members[place][triple] += 1
        units = [(rows, 1) for rows in members]
    numbers = {label: at for at, label in enumerate(sorted({*actual, *champion, *candidate}))}
    vectors = [_pack(rows, numbers) for rows, _ in units]
    draws = [_draw_poisson(count) for _, count in units]
    size = _LISTS * len(numbers)

    def resample(random: Random) -> float:
        drawn = sum(vector * draw(random) for vector, draw in zip(vectors, draws, strict=True))
        counts = memoryview(drawn.to_bytes(size * _LANE, sys.byteorder)).cast("I").tolist()
        actual, old, old_right, new, new_right = (
            counts[start : start + len(numbers)] for start in range(0, size, len(numbers))
        )
        after = _measure_counts(metric, actual, new, new_right)
        return after - _measure_counts(metric, actual, old, old_right)

    return _percentiles(resample)


def _pack(rows: Mapping[_Triple, int], numbers: Mapping[str, int]) -> int:
    """Pack the counts of some rows into one integer, whose multiples and sums are those of each.

    The standard library has no vectors; an integer of 4 bytes a count is one.

    Args:
        rows: Number of rows of each kind.
        numbers: Number of each class.

    Returns:
        For each class, its rows; the champion's answers, and those of them that are right; the
        candidate's.
    """
    classes = len(numbers)
    counts = array("I", bytes(_LISTS * classes * _LANE))
    for (label, old, new), count in rows.items():
        counts[numbers[label]] += count
        counts[classes + numbers[old]] += count
        counts[3 * classes + numbers[new]] += count
        if old == label:
            counts[2 * classes + numbers[label]] += count
        if new == label:
            counts[4 * classes + numbers[label]] += count
    return int.from_bytes(counts.tobytes(), sys.byteorder)


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

    poisson = _tabulate_poisson(1)

    def resample(random: Random) -> float:
        weights = random.choices(range(len(poisson)), cum_weights=poisson, k=count)
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


def _draw_poisson(mean: int) -> Callable[[Random], int]:
    """Return a function that draws Poisson numbers: as rounded normal ones if the mean is large."""
    if mean > _NORMAL_FROM:
        return lambda random: max(0, round(random.gauss(mean, math.sqrt(mean))))
    table = _tabulate_poisson(mean)
    return lambda random: bisect(table, random.random())


def _tabulate_poisson(mean: int) -> list[float]:
    """Return how likely a Poisson number is 0, at most 1, and so on, as far as one is drawn."""
    most = math.ceil(mean + 10 * math.sqrt(mean) + 2)
    chances = (math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(most))
    return list(accumulate(chances))
