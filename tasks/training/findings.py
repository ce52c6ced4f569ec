"""Findings of the gate: the decision on one rule, and the comparison by which it was reached."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.training.evidence import Comparison, Word

ROUNDING = 1e-12  # a difference of rounding must not decide


@dataclass(frozen=True)
class Finding:
    """A comparison by which a verdict was reached.

    Attributes:
        metric: Name of the metric, and of the slice if it is one of a slice.
        word: The verdict on this comparison.
        accepted: The loss that is still accepted.
        comparison: The comparison.
    """

    metric: str
    word: Word
    accepted: float
    comparison: Comparison


@dataclass(frozen=True)
class Part:
    """The decision on one rule.

    Attributes:
        good: Whether the candidate meets it.
        reasons: Sentences.
        open: Whether the rows show neither that it is good enough nor that it is not.
        unknown: Whether there are no such rows at all, so that nothing speaks for it.
        finding: The comparison that decided.
    """

    good: bool
    reasons: tuple[str, ...]
    open: bool = False
    unknown: bool = False
    finding: Finding | None = None
