"""Rules of the gate, and where they are from.

Pure but for reading a file. The rules are never those of the commit that is judged: a commit that
lowers them would let itself in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from tasks.core.errors import ConfigurationError
from tasks.core.yaml12 import YAMLError, load_yaml
from tasks.training.intervals import CLASSES, ERRORS

Metrics = Mapping[str, float]
PARAMETERS = "params.yaml"
# Of these, less is better; of the other metrics that evaluate measures, more.
BRIER = "Brier score"  # what `calibration` is about; no metric that a rule may name
_ERRORS = frozenset({"log_loss", "mae", "rmse", BRIER})
_Percent = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?%$")]
CORRECT = "correct the section `gate` there, or set `gate_rules` in the environment's file"


def share_of(percent: str) -> float:
    """Return `2 %` as 0.02."""
    return float(percent.rstrip("% ")) / 100


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricRule(_Rule):
    """The rule on one metric.

    Attributes:
        metric: Name of the metric, as in `reports/metrics.json`.
        minimum: The least value to accept, of a metric of which more is better.
        maximum: The greatest value to accept, of a metric of which less is better: an error.
        tolerance: How much worse than the champion is still accepted: a number, or a share of the
            champion's own value such as `2 %`.
    """

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    tolerance: NonNegativeFloat | _Percent = 0.0

    @model_validator(mode="after")
    def _refuse_two_bounds(self) -> Self:
        if self.minimum is not None and self.maximum is not None:
            raise ValueError("give minimum or maximum, not both")
        return self

    @property
    def has_bound(self) -> bool:
        """True if there is a minimum or a maximum."""
        return self.minimum is not None or self.maximum is not None

    @property
    def more_is_better(self) -> bool:
        """The direction of the metric: the bound tells it, or its name."""
        return self.minimum is not None if self.has_bound else self.metric not in _ERRORS

    def tolerance_at(self, value: float) -> float:
        """Return the loss that is still accepted beside a champion of this value."""
        if isinstance(self.tolerance, str):
            return abs(value) * share_of(self.tolerance)
        return self.tolerance


class Behaviour(_Rule):
    """A test of behaviour: what an answer must do when one column of a row is changed.

    Attributes:
        column: The column that is changed to another of its values, or to the next greater one.
        expect: The answer stays the `same`; for a greater value it is `not lower` or `not
            higher`.
        label: The class whose probability is meant, of a classification that is to rise or fall.
        allow: The share of rows that may do otherwise.
    """

    column: str
    expect: Literal["same", "not lower", "not higher"]
    label: str = ""
    allow: _Percent = "0 %"


class Rules(MetricRule):
    """The section `gate` of `params.yaml`.

    That a bound is the right one for the metric, `model/params.py` checks before anything is
    trained.

    Attributes:
        inconclusive: What happens to a candidate of which its rows show neither that it is good
            enough nor that it is worse: `pass` where it has lost no more than the tolerance, `ask`
            a person before such a one goes live, `hold` to accept none.
        also: Rules on further metrics.
        slices: Parts of the rows in which it must not be worse: a column, for each of its values,
            or a condition such as `age >= 65`.
        slice_rows: The least number of rows of a slice that is judged.
        calibration: How much greater than the champion's the Brier score of its probabilities may
            be.
        latency: How much longer than the champion it may take for one row.
        size: How much larger than the champion's its file may be.
        behaviour: Tests of behaviour.
        tests: Whether the tests in `tests/model` have to pass: those of the champion, and of the
            first model its own.
    """

    inconclusive: Literal["pass", "ask", "hold"] = "pass"
    also: tuple[MetricRule, ...] = ()
    slices: tuple[str, ...] = ()
    slice_rows: PositiveInt = 50
    calibration: NonNegativeFloat | _Percent | None = None
    latency: _Percent | None = None
    size: _Percent | None = None
    behaviour: tuple[Behaviour, ...] = ()
    tests: bool = False

    @property
    def metrics(self) -> tuple[MetricRule, ...]:
        """The rules on metrics, that of the metric that decides first."""
        return (self, *self.also)

    @property
    def compared(self) -> tuple[MetricRule, ...]:
        """The rules on what is compared with the champion: metrics, and calibration."""
        if self.calibration is None:
            return self.metrics
        return (*self.metrics, MetricRule(metric=BRIER, tolerance=self.calibration))

    def describe(self) -> dict[str, Any]:
        """Return the rules as JSON has them."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class TrustedRules:
    """The places of rules that the deploying side decides.

    Attributes:
        environment: Name of the environment.
        own: Rules in its file, None if it has none.
        parameters: The `params.yaml` of the checkout that deploys. Its rules judge where those of
            the live version cannot: before the first release, and where the metric is another.
        checkout: Name of that checkout, for messages.
        is_required: Whether the gate is required there: nothing counts then that is only stated.
    """

    environment: str
    own: Rules | None
    parameters: Path
    checkout: str = "the checkout that deploys"
    is_required: bool = False


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
        if not _is_of_other_task(rules, candidate):
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


def _is_of_other_task(rules: Rules, candidate: Metrics) -> bool:
    """Check that a candidate classifies, and the rules are for numbers, or the other way round.

    A candidate that only lacks the metric by which it would be judged chooses no other rules.
    """
    kinds = [frozenset({"accuracy", *CLASSES}), frozenset(ERRORS)]
    named = {rule.metric for rule in rules.metrics}
    for own, other in (kinds, reversed(kinds)):
        if named & own and not candidate.keys() & own and candidate.keys() & other:
            return True
    return False


def _parse(text: str, source: str) -> Mapping[str, Any]:
    try:
        values = load_yaml(text)
    except YAMLError as error:
        raise ConfigurationError(
            f"{source} cannot be read: {error}", state="nothing was released", next_step=CORRECT
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
            next_step=CORRECT,
        ) from error
