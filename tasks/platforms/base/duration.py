"""Durations as people write them into an environment's file: `90s`, `30m`, `2h`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smh]))?")


def _check_duration(text: str) -> str:
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration has a unit: 90s, 30m or 2h")
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]


def seconds_of(duration: Duration) -> float:
    """Return the seconds of a duration; an empty one has none."""
    match = _DURATION.fullmatch(duration)
    return float(match[1]) * _UNITS[match[2]] if match and match[1] else 0.0
