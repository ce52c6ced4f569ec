"""The gate: whether a candidate is good enough to be released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import ConfigurationError

Metrics = Mapping[str, float]
# Metrics that are errors: less is better.
_ERRORS = {"mae", "rmse", "log_loss"}


class Rules(BaseModel):
    """The section `gate` of `params.yaml`.

    Attributes:
        metric: Name of the metric that decides, as in `reports/metrics.json`.
        minimum: The least value that is accepted, for metrics of which more is better.
        maximum: The greatest value that is accepted, for metrics that are errors.
        tolerance: How much worse than the champion is still accepted.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        passed: Whether the candidate may be released.
        reasons: One sentence per rule, the reasons against it if it did not pass.
    """

    passed: bool
    reasons: tuple[str, ...]


def read_rules(parameters: Mapping[str, object]) -> Rules:
    """Read the gate's rules.

    Args:
        parameters: Content of `params.yaml`.

    Returns:
        The rules.

    Raises:
        ConfigurationError: An unknown key or a wrong value.
    """
    try:
        return Rules.model_validate(parameters.get("gate"))
    except ValidationError as error:
        raise ConfigurationError(
            f"params.yaml: section `gate`: {error.errors()[0]['msg']}"
            f" ({'.'.join(map(str, error.errors()[0]['loc']))});"
            f" allowed keys: {', '.join(Rules.model_fields)}",
            state="nothing was released",
            next_step="mend the section `gate` of params.yaml",
        ) from error


def judge(candidate: Metrics, champion: Metrics | None, rules: Rules) -> Verdict:
    """Hold a candidate's metrics against the rules and the champion.

    Args:
        candidate: Metrics of the candidate on its test split.
        champion: The same of the champion; None before the first release.
        rules: The rules.

    Returns:
        The verdict.

    Raises:
        ConfigurationError: The candidate was not measured by the metric that decides.
    """
    metric = rules.metric
    if metric not in candidate:
        raise ConfigurationError(
            f"params.yaml: gate.metric = {metric!r} is not among the metrics of the model;"
            f" known: {', '.join(candidate)}",
            state="nothing was released",
            next_step="set gate.metric in params.yaml to one of them",
        )
    sign = -1.0 if metric in _ERRORS else 1.0
    value, passed, reasons = candidate[metric], True, []
    for bound, name, good in (
        (rules.minimum, "minimum", rules.minimum is None or value >= rules.minimum),
        (rules.maximum, "maximum", rules.maximum is None or value <= rules.maximum),
    ):
        if bound is not None:
            passed &= good
            verb = "keeps" if good else "misses"
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
