"""The key `monitor` of an environment's file: when a window differs, and when it is an alarm."""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class AlarmRule(BaseModel):
    """The rule by which windows that differ raise an alarm.

    Attributes:
        windows: Number of windows that have to differ.
        of: Number of the newest judged windows among which they are counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    windows: int = Field(2, ge=1)
    of: int = Field(3, ge=1, le=30)

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.windows > self.of:
            raise ValueError("windows: more than `of`")
        return self


REQUEST = "request"  # a key of its own: the id of the request, not a column of the model


class LabelTable(BaseModel):
    """A table with labels that come later.

    Attributes:
        file: CSV or Parquet file: absolute path on the worker's host, or `s3://…` in the models'
            bucket.
        query: SQL query; what it returns last for a row counts.
        database: Name of the database, as `data.database` has it.
        key: Columns by which its lines and the requests' rows are matched: `request`, the id of
            the request, or columns that the model takes.
        label: Column with the label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field("", pattern=r"^(/.+|(s3|azure)://.+)?$")
    query: str = ""
    database: str = Field("", pattern=r"^([a-z][a-z0-9-]{0,30})?$")
    key: tuple[str, ...] = Field((REQUEST,), min_length=1)
    label: str = "label"

    @model_validator(mode="after")
    def _name_one_source(self) -> Self:
        if bool(self.file) == bool(self.query) or bool(self.query) != bool(self.database):
            raise ValueError("name a `file`, or a `query` with its `database`")
        if REQUEST in self.key and len(self.key) > 1:
            raise ValueError(f"key: `{REQUEST}` cannot be combined with columns")
        return self


class MonitorRules(BaseModel):
    """The rules of the flow `monitor`.

    Attributes:
        least_rows: With fewer rows, a window is not judged.
        distance: Difference from which one counts, however sure it is: of numbers the greatest
            difference of their cumulated shares, of categories the share of rows.
        alarm: When windows that differ raise an alarm.
        retrain: Whether an alarm starts a retrain.
        cool_down_hours: Time around the window of an alarm that acts, in which no other acts.
        labels: Table with labels, beside those that clients send as feedback.
        evidently: Whether Evidently's report is made, too.
        label_days: Time after a window in which feedback on its requests is looked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_rows: int = Field(100, ge=20)
    distance: float = Field(0.1, gt=0, lt=1)
    alarm: AlarmRule = Field(default_factory=lambda: AlarmRule.model_validate({}))
    retrain: bool = True
    cool_down_hours: float = Field(72.0, ge=0)
    labels: LabelTable | None = None
    evidently: bool = False
    label_days: float = Field(7.0, ge=0, le=90)


def _read_json(value: object) -> object:
    """Read a table that a variable holds as JSON."""
    return json.loads(value) if isinstance(value, str) else value


Monitor = Annotated[
    MonitorRules,
    BeforeValidator(_read_json),
    Field(default_factory=lambda: MonitorRules.model_validate({})),
]
