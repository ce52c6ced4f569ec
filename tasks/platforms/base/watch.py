"""The watch over a release after its switch: its numbers before, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class WatchPlan:
    """The numbers to compare a release with after its switch.

    Attributes:
        seconds: For how long.
        baseline: The numbers of the version before it, as JSON values; its target understands them.
    """

    seconds: float
    baseline: Mapping[str, Any]


@dataclass(frozen=True)
class WatchResult:
    """The end of a watch.

    Attributes:
        outcome: Whether the release is worse than the version before it; superseded if another
            release is live.
        numbers: What was compared, for people.
    """

    outcome: Literal["no worse", "worse", "superseded"]
    numbers: str
