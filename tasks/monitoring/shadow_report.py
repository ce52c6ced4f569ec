"""The report on shadow traffic: how two versions have answered the same requests."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.monitoring.records import Value

Output = Value | tuple[float, ...]


class Side(BaseModel):
    """The requests that one version was asked.

    Attributes:
        requests: Number of requests that it has a record of.
        errors: Those of them that it refused or failed.
        milliseconds: Times that it took, by share of the requests: `0.5` is the median.
    """

    model_config = ConfigDict(frozen=True)

    requests: int
    errors: int
    milliseconds: dict[str, float]


class Difference(BaseModel):
    """One row that the two answered differently; `amount` is None for classes."""

    model_config = ConfigDict(frozen=True)

    inputs: dict[str, Value]
    live: Output
    new: Output
    amount: float | None


class Part(BaseModel):
    """A slice of the rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int
    different: int


class Change(BaseModel):
    """A class that became another, and in how many rows."""

    model_config = ConfigDict(frozen=True)

    live: str
    new: str
    rows: int


class ShadowReport(BaseModel):
    """The report on shadow traffic, as it is stored.

    Attributes:
        seconds: For how long requests were mirrored.
        by_id: Requests that were paired by their id.
        by_content: Requests that were paired by what was asked.
        ambiguous: Requests that could not be paired: they look the same, and were answered
            differently by one version.
        lost: Mirrored requests that the new version never answered, or refused or failed while the
            live one did not.
        rows: Rows that both answered.
        different: Those of them that they answered differently.
        amounts: Differences of numbers or probabilities over all rows: `mean`, and by share.
        changes: The most frequent changes of classes.
        largest: The greatest differences.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1] = 1
    seconds: float
    live: Side
    new: Side
    by_id: int
    by_content: int
    ambiguous: int
    lost: int
    rows: int
    different: int
    amounts: dict[str, float]
    changes: tuple[Change, ...]
    slices: tuple[Part, ...]
    largest: tuple[Difference, ...]

    @property
    def disagreement(self) -> float | None:
        """The share of answers that differ or are missing; None if nothing can be compared."""
        total = self.rows + self.lost
        return (self.different + self.lost) / total if total else None

    @property
    def summary(self) -> str:
        """The report in a line."""
        if self.disagreement is None:
            return "no request could be compared"
        lost = f", {self.lost:,} requests without an answer of it" if self.lost else ""
        share = f"{self.different:,} of {self.rows:,} answers differ"
        return f"{share}{lost} ({self.disagreement:.2%})"
