"""The sections of params.yaml: keys, types and defaults."""

import codecs
from typing import Any, Literal

from pydantic.v1 import (
    BaseModel,
    ConstrainedFloat,
    ConstrainedStr,
    Extra,
    Field,
    NonNegativeFloat,
    root_validator,
    validator,
)

from model.split_rule import SplitRule, parse_rule


class Section(BaseModel):
    """A part of params.yaml."""

    class Config:
        """Unknown keys are mistakes; parameters do not change while a stage runs."""

        extra = Extra.forbid
        allow_mutation = False


class ColumnSchema(Section):
    """Type and values of a column; whatever is left out is read from the cells."""

    type: Literal["number", "integer", "boolean", "text", "date"] | None = None
    format: str | None = None
    missing: list[str] = []
    categories: list[str] | None = None
    minimum: float | None = None
    maximum: float | None = None

    @validator("format")
    def _require_date(cls, value: str | None, values: dict[str, Any]) -> str | None:
        if value is not None and values.get("type") != "date":
            raise ValueError("only a column of type date has a format")
        return value


class Data(Section):
    """The data, the column to predict, the split."""

    source: str
    database: str | None = Field(None, regex=r"^[a-z][a-z0-9-]{0,30}$")  # retrain reads it
    encoding: str = "utf-8"
    separator: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)
    decimal: Literal[".", ","] = "."
    thousands: str | None = Field(None, min_length=1, max_length=1)
    missing: list[str] = []
    columns: dict[str, ColumnSchema] = Field({}, alias="schema")
    target: str
    meaning: str = ""
    unit: str = ""
    drop: list[str] = []
    private: list[str] = []
    drop_classes: list[str] = []
    merge_classes: dict[str, list[str]] = {}
    missing_target: float = Field(0.05, ge=0, lt=1)
    task: Literal["classification", "regression"]
    split: SplitRule
    test_size: float = Field(0.2, gt=0, lt=1)
    weights: str | None = None
    positive: str | None = None

    # The random split is what files had that were written before `split` existed: they name the
    # share of test rows, and keep the rows that they were tested on.
    @root_validator(pre=True)
    def _choose_split(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("split") is None:
            return values | {"split": "random" if "test_size" in values else "stable"}
        return values

    @validator("split", pre=True)
    def _parse_split(cls, value: Any) -> SplitRule:
        return parse_rule(value)

    @validator("encoding")
    def _require_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError("unknown encoding") from None
        return value

    @validator("thousands")
    def _tell_from_decimal(cls, value: str | None, values: dict[str, Any]) -> str | None:
        if value is not None and value == values.get("decimal"):
            raise ValueError("data.decimal is the same")
        return value


class _Share(ConstrainedFloat):
    gt = 0
    lt = 1


class Transformer(Section):
    """A transformer of one's own, and its arguments; its name is what the grid calls it."""

    transformer: str
    params: dict[str, Any] = {}
    name: str | None = Field(None, regex=r"^[a-z](_?[a-z0-9])*$")


class Train(Section):
    """The estimator, and the choice of its parameters."""

    estimator: str
    params: dict[str, Any] = {}
    search: Literal["grid", "random", "halving"] = "grid"  # above `grid`, which is checked by it
    grid: dict[str, Any] = {}
    probabilities: bool = True
    preparation: bool | None = None
    max_categories: int = Field(100, ge=2)
    min_frequency: int = Field(1, ge=1)
    transformers: list[Transformer] = []
    threshold: Literal["tuned"] | _Share | None = None
    candidates: int = Field(10, ge=1)
    cv: int = Field(5, ge=2, le=50)
    scoring: str
    metrics: list[str] = []
    jobs: int = Field(1, ge=1)

    @validator("params", "grid", pre=True)
    def _replace_none(cls, value: Any) -> Any:
        return {} if value is None else value  # "grid:" with nothing below it

    @validator("transformers", each_item=True, pre=True)
    def _read_path(cls, value: Any) -> Any:
        return {"transformer": value} if isinstance(value, str) else value

    @validator("grid")
    def _require_values(cls, value: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        for key, choices in value.items():
            if not choices and isinstance(choices, list):
                raise ValueError(f"{key} has no values to choose from")
            if isinstance(choices, dict) and values.get("search", "random") != "random":
                raise ValueError(f"{key} is a distribution, which only `search: random` draws from")
            if not isinstance(choices, list | dict):
                raise ValueError(f"{key} has to be a list of values, or a distribution")
        return value


class Save(Section):
    """Files beside the model."""

    golden: int = Field(32, ge=20, le=1000)
    arrow: bool = False  # the model's server takes Arrow and Parquet, too


class _Percent(ConstrainedStr):
    regex = r"^\d+(\.\d+)? ?%$"


class MetricRule(Section):
    """The condition on one metric."""

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    tolerance: NonNegativeFloat | _Percent = 0.0


class Behaviour(Section):
    """A test of behaviour: the effect of another value of one column on answers."""

    column: str
    expect: Literal["same", "not lower", "not higher"]
    label: str = ""
    allow: _Percent = "0 %"  # type: ignore[assignment]  # pydantic takes the text


class Gate(MetricRule):
    """Conditions for a new model to replace the live one; the orchestrator reads them."""

    inconclusive: Literal["pass", "ask", "hold"] = "pass"
    also: list[MetricRule] = []
    slices: list[str] = []
    slice_rows: int = Field(50, ge=1)
    calibration: NonNegativeFloat | _Percent | None = None
    latency: _Percent | None = None
    size: _Percent | None = None
    behaviour: list[Behaviour] = []
    tests: bool = False
