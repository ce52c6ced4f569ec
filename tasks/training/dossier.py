"""The evidence on a candidate beside its metrics, when the gate decides. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.training.evidence import Comparison
from tasks.training.rules import Metrics
from tasks.training.slices import Slice


@dataclass(frozen=True)
class Dummy:
    """A model that always gives one answer, on the candidate's test rows.

    Attributes:
        answer: Its answer.
        metrics: Its metrics.
        comparison: The candidate against it; None if the metric does not follow from answers.
    """

    answer: str
    metrics: Metrics
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Evidence:
    """The evidence on a candidate beside its metrics.

    Attributes:
        comparisons: Candidate and champion on the same rows, by metric.
        why_none: Why there is no comparison.
        past_losses: What the releases up to the champion have lost, as of `sum_losses`, by metric.
        dummy: A dummy on the candidate's test rows; None if none was scored.
        slices: The slices of the rows.
        sizes: Bytes of the model files of candidate and champion.
        latencies: Milliseconds that both take for one row.
        broken_shares: Share of rows that break each test of behaviour, in the order of the rules.
        why_untried: Why slices, latencies or `broken_shares` are missing.
        is_early: True in the check of a pull request, which starts no models: the deploy does.
    """

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    why_none: str = "no test rows in common"
    past_losses: Mapping[str, float] = field(default_factory=dict)
    dummy: Dummy | None = None
    slices: Sequence[Slice] = ()
    sizes: tuple[int, int] | None = None
    latencies: tuple[float, float] | None = None
    broken_shares: Sequence[float] | None = None
    why_untried: str = ""
    is_early: bool = False
