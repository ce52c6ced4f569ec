"""The profile of the rows that a version learnt from, as `model/profile.py` wrote it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import TerminalError

PROFILE = "data/profile.json"
OTHERS = "(others)"  # stands for all categories without a count of their own
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Column(_Part):
    """A column of the training rows.

    Attributes:
        kind: Of what its values are; `other` if they are not compared.
        missing: Number of missing values.
        points: Sorted points of the distribution of numbers.
        counts: Number of rows of each frequent category.
        others: Number of rows of all other categories.
    """

    kind: Literal["number", "category", "other"]
    missing: _Count
    points: tuple[float, ...] = ()
    counts: dict[str, _Count] = {}
    others: _Count = 0

    @property
    def categories(self) -> dict[str, int]:
        """Number of rows of each frequent category, and of all others together."""
        return {**self.counts, OTHERS: self.others}


class Profile(_Part):
    """The training rows.

    Attributes:
        rows: Their number.
        columns: The columns that the model takes.
    """

    format: Literal[1]
    rows: int = Field(gt=0)
    columns: dict[str, Column]


def parse_profile(text: str, label: str) -> Profile:
    """Parse a profile; code of the version's commit has written it.

    Args:
        text: Content of its file.
        label: Label of the version.

    Raises:
        TerminalError: It is none.
    """
    try:
        return Profile.model_validate_json(text)
    except ValidationError as error:
        raise TerminalError(
            f"{PROFILE} of {label} is invalid: {error.error_count()} wrong values",
            state="nothing was compared",
            next_step="correct model/profile.py, or take it over from the template, then retrain",
        ) from None  # the error quotes values
