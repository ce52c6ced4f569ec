"""Decisions on several tests at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def find_small(chances: Sequence[float], level: float) -> list[bool]:
    """Return, for each probability, whether it is too small for luck, corrected for their number.

    Holm's method: the smallest of m probabilities is held against level / m, the next against
    level / (m - 1), and so on up to the first that is greater. So among tests in which there is
    nothing to find, none is wrong with a probability of 1 - level, however they depend on one
    another.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
    of Statistics 6 (1979), 65-70.

    Args:
        chances: The probability of each finding if there is nothing to find.
        level: The accepted probability of one wrong finding or more.
    """
    small = [False] * len(chances)
    for rank, at in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[at] >= level / (len(chances) - rank):
            break
        small[at] = True
    return small
