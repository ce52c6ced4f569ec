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
        former: Both on the champion's test rows alone, where the comparison has others, too.
        is_same_split: Whether both commits state their metrics on the same test rows.
        is_same_model: Whether both are the same model, byte by byte.
        needs_scores: Whether nothing counts that is only stated: the gate has to ask the models.
        measured: Metrics that the candidate's answers to the gate give; None if it was not asked.
        measured_rows: Number of test rows that they are of.
        is_share: Whether the candidate has more test rows than these.
        past_losses: What the releases up to the champion have lost, as of `sum_losses`, by metric.
        dummy: A dummy on the candidate's test rows; None if none was scored.
        slices: The slices of the rows.
        sizes: Bytes of the model files of candidate and champion.
        latencies: Milliseconds that both take for one row.
        broken_shares: Share of rows that break each test of behaviour, in the order of the rules.
        failed_tests: The tests in `tests/model` that fail; None if they were not run.
        why_untried: Why one of these, or `measured`, is missing.
        is_early: True in the check of a pull request that cannot start the models: the deploy does.
    """

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    why_none: str = "no test rows in common"
    former: Comparison | None = None
    is_same_split: bool = False
    is_same_model: bool = False
    needs_scores: bool = False
    measured: Mapping[str, float] | None = None
    measured_rows: int = 0
    is_share: bool = False
    past_losses: Mapping[str, float] = field(default_factory=dict)
    dummy: Dummy | None = None
    slices: Sequence[Slice] = ()
    sizes: tuple[int, int] | None = None
    latencies: tuple[float, float] | None = None
    broken_shares: Sequence[float] | None = None
    failed_tests: Sequence[str] | None = None
    why_untried: str = ""
    is_early: bool = False
