"""The gate: rules that a candidate has to meet to be released, weighed by evidence.

Pure but for reading a file. The rules are never those of the commit that is judged: a commit that
lowers them would let itself in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from tasks.core.errors import ConfigurationError
from tasks.training.evidence import Comparison

Metrics = Mapping[str, float]
PARAMETERS = "params.yaml"
ROUNDING = 1e-12  # a difference of rounding must not decide
# Of these, less is better; of the other metrics that evaluate measures, more.
_ERRORS = frozenset({"log_loss", "mae", "rmse"})
_Percent = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?%$")]
_CORRECT = "correct the section `gate` there, or set `gate_rules` in the environment's file"


class Rules(BaseModel):
    """The section `gate` of `params.yaml`.

    That a bound is the right one for the metric, `model/params.py` checks before anything is
    trained.

    Attributes:
        metric: Name of the metric that decides, as in `reports/metrics.json`.
        minimum: The least value to accept, of a metric of which more is better.
        maximum: The greatest value to accept, of a metric of which less is better: an error.
        tolerance: How much worse than the champion is still accepted: a number, or a share of the
            champion's own value such as `2 %`.
        inconclusive: What happens to a candidate of which its rows show neither that it is good
            enough nor that it is worse: `pass` where it has lost no more than the tolerance,
            `hold` to accept none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    tolerance: NonNegativeFloat | _Percent = 0.0
    inconclusive: Literal["pass", "hold"] = "pass"

    @model_validator(mode="after")
    def _refuse_two_bounds(self) -> Self:
        if self.minimum is not None and self.maximum is not None:
            raise ValueError("give minimum or maximum, not both")
        return self

    @property
    def more_is_better(self) -> bool:
        """The direction of the metric: the bound tells it, or its name."""
        if self.minimum is None and self.maximum is None:
            return self.metric not in _ERRORS
        return self.minimum is not None

    def tolerance_at(self, value: float) -> float:
        """Return the loss that is still accepted beside a champion of this value."""
        if isinstance(self.tolerance, str):
            return abs(value) * float(self.tolerance.rstrip("% ")) / 100
        return self.tolerance


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate.

    Attributes:
        passed: Whether the candidate may be released.
        reasons: One sentence per rule.
        source: Where the rules are from.
    """

    passed: bool
    reasons: tuple[str, ...]
    source: str = PARAMETERS

    @property
    def text(self) -> str:
        """The decision with its reasons, in one sentence."""
        decision = "passed" if self.passed else "NOT passed"
        return f"{decision}: {'; '.join(self.reasons)} (rules: {self.source})"


@dataclass(frozen=True)
class TrustedRules:
    """The places of rules that the deploying side decides.

    Attributes:
        environment: Name of the environment.
        own: Rules in its file, None if it has none.
        parameters: The `params.yaml` of the checkout that deploys. Its rules judge where those of
            the live version cannot: before the first release, and where the metric is another.
        checkout: Name of that checkout, for messages.
    """

    environment: str
    own: Rules | None
    parameters: Path
    checkout: str = "the checkout that deploys"


def find_rules(
    trusted: TrustedRules, candidate: Metrics, champion: str, champion_parameters: str
) -> tuple[Rules, str]:
    """Return the rules that judge a candidate, and where they are from.

    Args:
        trusted: The rules of the deploying side.
        candidate: Metrics of the candidate.
        champion: Name of the champion, for messages.
        champion_parameters: Text of its `params.yaml`; empty if there is none.

    Raises:
        ConfigurationError: They have an unknown key or a wrong value.
    """
    if trusted.own:
        return trusted.own, f"`gate_rules` of {trusted.environment}"
    if champion_parameters:
        source = f"{PARAMETERS} of {champion}"
        rules = read_rules(_parse(champion_parameters, source), source)
        if rules.metric in candidate:
            return rules, source
    source = f"{PARAMETERS} of {trusted.checkout}"
    try:
        text = trusted.parameters.read_text()
    except OSError as error:
        raise ConfigurationError(
            f"{trusted.parameters} cannot be read: {error}",
            state="nothing was released",
            next_step=f"set `gate_rules` in the file of {trusted.environment}",
        ) from error
    return read_rules(_parse(text, source), source), source


def _parse(text: str, source: str) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{source} cannot be read: {error}", state="nothing was released", next_step=_CORRECT
        ) from error
    return values if isinstance(values, dict) else {}


def read_rules(parameters: Mapping[str, object], source: str = PARAMETERS) -> Rules:
    """Read the gate's rules from the content of a `params.yaml`.

    Args:
        parameters: The content.
        source: Which one it is, for messages.

    Raises:
        ConfigurationError: An unknown key or a wrong value.
    """
    try:
        return Rules.model_validate(parameters.get("gate"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("gate", *first["loc"][:1])))
        raise ConfigurationError(
            f"{source}: section `gate`: {first['msg']} ({key});"
            f" allowed keys: {', '.join(Rules.model_fields)}",
            state="nothing was released",
            next_step=_CORRECT,
        ) from error


def judge(
    candidate: Metrics,
    champion: Metrics | None,
    rules: Rules,
    source: str = PARAMETERS,
    *,
    comparison: Comparison | None = None,
    past_losses: float = 0.0,
) -> Verdict:
    """Compare a candidate's metrics with the rules and with the champion's.

    Args:
        candidate: Metrics of the candidate on its test split.
        champion: Metrics of the champion; None before the first release.
        rules: The rules.
        source: Where they are from.
        comparison: Candidate and champion on the same rows; None if they have none in common.
        past_losses: What the releases up to the champion have lost, as of `sum_losses`.

    Raises:
        ConfigurationError: The candidate has no value for the metric that decides.
    """
    metric = rules.metric
    if metric not in candidate:
        raise ConfigurationError(
            f"{source}: gate.metric = {metric!r} is not among the metrics of the model;"
            f" known: {', '.join(candidate)}",
            state="nothing was released",
            next_step=f"{_CORRECT}: gate.metric has to be one of them",
        )
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
        good, why = _weigh(value, champion[metric], rules, comparison, past_losses)
        passed &= good
        reasons.extend(why)
    return Verdict(passed, tuple(reasons), source)


def _weigh(
    value: float, old: float, rules: Rules, comparison: Comparison | None, past_losses: float
) -> tuple[bool, list[str]]:
    """Decide whether a value is accepted beside the champion's, and say why."""
    sign = 1.0 if rules.more_is_better else -1.0
    gain = sign * (value - old)
    accepted = rules.tolerance_at(old)
    share = f", {rules.tolerance} of it" if isinstance(rules.tolerance, str) else ""
    tolerance, limit = f"tolerance {accepted:.4g}{share}", -accepted - ROUNDING
    word = comparison.word(accepted) if comparison else "inconclusive"
    good = word in ("better", "no worse") or (word == "inconclusive" and gain >= limit)
    against = f"{rules.metric} {value:.4f} against the champion's {old:.4f}"
    if comparison is None:
        decision = "accepted" if good else "worse than accepted"
        reasons = [f"{against} is {decision} ({tolerance}; no interval: no test rows in common)"]
    else:
        decision = "accepted" if good else "not accepted"
        reasons = [f"{against} is {word}, {decision} ({tolerance}) on {comparison.text}"]
        if word == "inconclusive" and (rows := comparison.enough_rows(accepted)):
            reasons.append(f"about {rows} rows would show a loss of twice the tolerance")
    if good and word == "inconclusive" and rules.inconclusive == "hold":
        good = False
        reasons.append("what is inconclusive is not accepted (gate.inconclusive: hold)")
    if word != "better" and past_losses and gain < 0:
        total = past_losses - gain
        within = -total >= limit
        good &= within
        reasons.append(
            f"with this loss, the releases since the last better one have lost {total:.4f}, which"
            f" is {'within' if within else 'more than'} the {tolerance}"
        )
    return good, reasons
