"""Tests of two samples, of numbers and of categories: how far apart, and by luck or not. Pure.

SciPy has these tests, too. It is not here: with NumPy it would add 150 MB to each worker, for two
functions of a few lines. A test holds them to SciPy's results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A cell that should hold fewer has no normal error: rare categories are counted together.
LEAST_EXPECTED = 5.0
_TERMS = 100


@dataclass(frozen=True)
class Difference:
    """The difference of two samples.

    Attributes:
        distance: From 0 (the same) to 1: of numbers, the greatest difference of their cumulated
            shares; of categories, the share of rows that would have to change.
        chance: Probability of so great a difference between samples of the same world.
    """

    distance: float
    chance: float


def compare_numbers(
    reference: Sequence[float], reference_rows: int, values: Sequence[float]
) -> Difference:
    """Compare numbers by the two-sample test of Kolmogorov and Smirnov.

    The probability is that of Kolmogorov's limit, with the correction for few rows of M. Stephens,
    "Use of the Kolmogorov-Smirnov, Cramer-von Mises and related statistics without extensive
    tables", Journal of the Royal Statistical Society B 32 (1970), 115-122. Where values are equal,
    it is too large, so that whole numbers raise fewer alarms and not more.

    Args:
        reference: Sorted points of a distribution.
        reference_rows: Number of values that they stand for.
        values: The other sample.
    """
    if not reference or not values:
        return Difference(0.0, 1.0)
    distance = _find_distance(reference, sorted(values))
    root = math.sqrt(reference_rows * len(values) / (reference_rows + len(values)))
    return Difference(distance, kolmogorov_tail((root + 0.12 + 0.11 / root) * distance))


def _find_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the greatest difference of the cumulated shares of two sorted samples."""
    at = other = 0
    greatest = 0.0
    while at < len(first) and other < len(second):
        value = min(first[at], second[other])
        while at < len(first) and first[at] == value:
            at += 1
        while other < len(second) and second[other] == value:
            other += 1
        greatest = max(greatest, abs(at / len(first) - other / len(second)))
    return greatest


def kolmogorov_tail(value: float) -> float:
    """Return the probability that a variable of Kolmogorov's distribution exceeds a value."""
    if value < 0.2:  # the sum converges slowly, to 1 - 1e-13
        return 1.0
    terms = (
        (-1) ** (number - 1) * math.exp(-2 * (number * value) ** 2) for number in range(1, _TERMS)
    )
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def compare_categories(reference: Mapping[str, int], counts: Mapping[str, int]) -> Difference:
    """Compare the counts of categories by the chi-square test of homogeneity.

    Args:
        reference: Number of rows by category in one sample.
        counts: In the other.
    """
    rows, others = sum(reference.values()), sum(counts.values())
    if not rows or not others:
        return Difference(0.0, 1.0)
    cells = _pool(reference, counts, LEAST_EXPECTED / min(rows, others))
    distance = sum(abs(first / rows - second / others) for first, second in cells) / 2
    statistic = 0.0
    for first, second in cells:
        share = (first + second) / (rows + others)
        statistic += (first - rows * share) ** 2 / (rows * share)
        statistic += (second - others * share) ** 2 / (others * share)
    return Difference(distance, chi_square_tail(statistic, len(cells) - 1))


def _pool(
    reference: Mapping[str, int], counts: Mapping[str, int], least: float
) -> list[tuple[int, int]]:
    """Return the counts of both samples, those of rare categories together in one cell.

    Args:
        least: Share of all rows that a cell of its own has to have.
    """
    rows = sum(reference.values()) + sum(counts.values())
    pairs = [
        (reference.get(name, 0), counts.get(name, 0))
        for name in sorted(reference.keys() | counts.keys())
    ]
    pairs.sort(key=sum, reverse=True)
    cells = [pair for pair in pairs if sum(pair) >= least * rows]
    rare = pairs[len(cells) :]
    if rare:
        pool = (sum(first for first, _ in rare), sum(second for _, second in rare))
        if cells and sum(pool) < least * rows:
            last = cells.pop()
            pool = (pool[0] + last[0], pool[1] + last[1])
        cells.append(pool)
    return cells


def chi_square_tail(value: float, degrees: int) -> float:
    """Return the probability that a variable of the chi-square distribution exceeds a value.

    By the finite sums that it has for whole degrees of freedom: M. Abramowitz, I. Stegun, "Handbook
    of Mathematical Functions" (1964), 26.4.4 and 26.4.5.

    Args:
        value: The value.
        degrees: Degrees of freedom; with 0, nothing can differ.
    """
    if degrees < 1 or value <= 0:
        return 1.0
    half = value / 2
    odd = degrees % 2
    tail = math.erfc(math.sqrt(half)) if odd else 0.0
    powers = (number + odd / 2 for number in range((degrees + 1) // 2))
    terms = [
        math.exp(power * math.log(half) - half - math.lgamma(power + 1))
        for power in powers
        if power < degrees / 2
    ]
    return min(1.0, tail + math.fsum(terms))
