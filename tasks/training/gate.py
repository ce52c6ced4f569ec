"""The gate: rules that a candidate's metrics have to meet to be released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.core.errors import ConfigurationError

Metrics = Mapping[str, float]


class Rules(BaseModel):
    """The section `gate` of `params.yaml`.

    Exactly one bound is set, which says whether more or less of the metric is better. That it is
    the right one for the metric, `model/params.py` checks before anything is trained.

    Attributes:
        metric: Name of the metric that decides, as in `reports/metrics.json`.
        minimum: The least value to accept, of a metric of which more is better.
        maximum: The greatest value to accept, of a metric of which less is better: an error.
        tolerance: How much worse than the champion is still accepted.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _require_one_bound(self) -> Self:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("give either minimum or maximum")
        return self

    @property
    def more_is_better(self) -> bool:
        """The direction of the metric."""
        return self.minimum is not None


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate.

    Attributes:
        passed: Whether the candidate may be released.
        reasons: One sentence per rule.
    """

    passed: bool
    reasons: tuple[str, ...]


def read_rules(parameters: Mapping[str, object]) -> Rules:
    """Read the gate's rules from the content of `params.yaml`.

    Raises:
        ConfigurationError: An unknown key or a wrong value.
    """
    try:
        return Rules.model_validate(parameters.get("gate"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("gate", *first["loc"])))
        raise ConfigurationError(
            f"params.yaml: section `gate`: {first['msg']} ({key});"
            f" allowed keys: {', '.join(Rules.model_fields)}",
            state="nothing was released",
            next_step="correct the section `gate` of params.yaml",
        ) from error


def judge(candidate: Metrics, champion: Metrics | None, rules: Rules) -> Verdict:
    """Compare a candidate's metrics with the rules and with the champion's.

    Args:
        candidate: Metrics of the candidate on its test split.
        champion: Metrics of the champion; None before the first release.
        rules: The rules.

    Raises:
        ConfigurationError: The candidate has no value for the metric that decides.
    """
    metric = rules.metric
    if metric not in candidate:
        raise ConfigurationError(
            f"params.yaml: gate.metric = {metric!r} is not among the metrics of the model;"
            f" known: {', '.join(candidate)}",
            state="nothing was released",
            next_step="set gate.metric in params.yaml to one of them",
        )
    sign = 1.0 if rules.more_is_better else -1.0
    value, passed, reasons = candidate[metric], True, []
    for bound, name, good in (
        (rules.minimum, "minimum", rules.minimum is None or value >= rules.minimum),
        (rules.maximum, "maximum", rules.maximum is None or value <= rules.maximum),
    ):
        if bound is not None:
            passed &= good
            verb = "meets" if good else "misses"
            reasons.append(f"{metric} {value:.4f} {verb} the {name} {bound:g}")
    if champion is None or metric not in champion:
        reasons.append("there is no champion to compare with")
    else:
        # A difference of rounding must not decide.
        good = sign * (value - champion[metric]) >= -rules.tolerance - 1e-12
        passed &= good
        reasons.append(
            f"{metric} {value:.4f} against the champion's {champion[metric]:.4f} is"
            f" {'accepted' if good else 'worse than accepted'} (tolerance {rules.tolerance:g})"
        )
    return Verdict(passed, tuple(reasons))
