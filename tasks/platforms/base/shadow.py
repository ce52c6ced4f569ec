"""Shadow traffic of an environment: its settings."""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tasks.platforms.base.duration import Duration, seconds_of

SHADOW_SECONDS = 3600.0
# Of more, another request says nothing new, and the records of all of them are in memory.
_MOST_REQUESTS = 50_000


class ShadowRules(BaseModel):
    """The requests that a new version is asked beside the live one, and what may come of it.

    Attributes:
        time: For how long requests are mirrored.
        requests: After so many, it is over earlier.
        processors: The share of the host's processors that answering them may take, if the new
            version takes as long as the live one; else fewer of them are mirrored.
        tolerance: Numbers that differ by a smaller share count as the same, probabilities that
            differ by less.
        max_disagreement: The share of different answers from which a version is refused; None to
            refuse none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: Duration = "1h"
    requests: int = Field(_MOST_REQUESTS, ge=1, le=_MOST_REQUESTS)
    processors: float = Field(0.02, gt=0, le=1)
    tolerance: float = Field(0.01, ge=0, lt=1)
    max_disagreement: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _take_a_while(self) -> Self:
        if not 0 < self.seconds <= SHADOW_SECONDS:
            raise ValueError(f"time: more than 0, and {SHADOW_SECONDS / 3600:g}h at most")
        return self

    @property
    def seconds(self) -> float:
        """The longest time."""
        return seconds_of(self.time)


def _read(value: object) -> object:
    """Read a time, a number of requests, or a table; in a variable, a table is JSON."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("{"):
            return json.loads(text)
        if not text:
            return None
        return {"requests": int(text)} if text.isdigit() else {"time": text}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"requests": value}
    return value


OptionalShadow = Annotated[ShadowRules | None, BeforeValidator(_read)]
