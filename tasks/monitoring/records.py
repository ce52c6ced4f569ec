"""Records of the prediction log: parsed as data only, each checked, none believed. Pure.

Anybody who may write to the log can write anything. A line that is no record is counted and stepped
over; docs/prediction-log.md has the format.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tasks.training.rows import normalize

Value = str | int | float | bool | None
Kind = Literal["prediction", "refusal", "feedback", "proof"]

# Of each record where servers print them: its beginning, and its end.
RECORD_START, RECORD_END = '{"specversion":', "}}"
SHADOW = "shadow"  # stands for the version in records of mirrored requests
MOST_BYTES = 64 << 20  # of a line: the server takes no request of that size
_MOST_ID = 200
_MOST_NUMBER = sys.float_info.max  # a longer one is an infinity, or no float at all
_TRUTHS = ("true", "false")
_KINDS: Mapping[str, Kind] = {
    "slipway.prediction": "prediction",
    "slipway.refusal": "refusal",
    "slipway.feedback": "feedback",
    "slipway.proof": "proof",
}


@dataclass(frozen=True)
class Problem:
    """A problem of a request that the server refused.

    Attributes:
        column: The column; empty if it was the whole request.
        reason: A word such as `missing`.
    """

    column: str
    reason: str


@dataclass(frozen=True)
class Record:
    """A request and its answer, or a label that came later.

    Attributes:
        id: Of the request; of a feedback, that of the request that it is on.
        kind: A prediction, a refused request, the feedback on an earlier request, or the proof of a
            deploy.
        source: Model and environment, as `/wine/local`.
        version: The version that answered.
        at: When.
        status: HTTP status of the answer.
        milliseconds: Time that it took.
        inputs: The rows of a prediction.
        outputs: The answer to each; empty where probabilities were the answer.
        probabilities: The probabilities of each; empty where they were not the answer.
        problems: Of a refused request.
        actual: Of a feedback: the true value of each row.
    """

    id: str
    kind: Kind
    source: str
    version: str
    at: datetime
    status: int = 200
    milliseconds: float = 0.0
    inputs: Sequence[Mapping[str, Value]] = ()
    outputs: Sequence[Value] = ()
    probabilities: Sequence[Sequence[float]] = ()
    problems: Sequence[Problem] = ()
    actual: Sequence[Value] = ()


class _InvalidRecord(ValueError):
    """A line that is no record."""


def parse_record(line: bytes) -> Record | None:
    """Parse a line of the log; None if it is no record."""
    if len(line) > MOST_BYTES:
        return None
    try:
        event = json.loads(line, parse_constant=_refuse_constant)
        if b"\\u" in line:  # half a character cannot be written into a report
            json.dumps(event, ensure_ascii=False).encode()
        return _read_event(_require(event, dict))
    # Wrong bytes and numbers too long are ValueErrors; a time may be before the first year of UTC.
    except (ValueError, RecursionError, OverflowError):
        return None


def write_row(row: Mapping[str, Value]) -> dict[str, str]:
    """Write a row as texts, as slices of the gate read it; the empty text is a missing value."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


def normalize_value(value: Value) -> str:
    """Return a value as a text that is the same however it is written; databases write `true`."""
    text = normalize(value)
    return text.capitalize() if text.lower() in _TRUTHS else text


def _refuse_constant(text: str) -> Any:
    raise _InvalidRecord(text)  # NaN and infinities are no JSON


def _require(value: Any, kind: type | tuple[type, ...]) -> Any:
    """Return a value of a kind; True is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _InvalidRecord
    return value


def _require_number(value: Any) -> float:
    _require(value, (int, float))
    if not _is_value(value):
        raise _InvalidRecord
    return float(value)


def _is_value(value: Any) -> bool:
    if isinstance(value, (int, float)):
        return -_MOST_NUMBER <= value <= _MOST_NUMBER
    return value is None or isinstance(value, str)


def _read_event(event: Mapping[str, Any]) -> Record:
    kind = _KINDS.get(_require(event.get("type"), str))
    if event.get("specversion") != "1.0" or kind is None:
        raise _InvalidRecord
    identity = _require(event.get("id"), str)
    at = datetime.fromisoformat(_require(event.get("time"), str))
    if not 0 < len(identity) <= _MOST_ID or at.tzinfo is None:
        raise _InvalidRecord
    data = _require(event.get("data"), dict)
    common = {
        "id": identity,
        "kind": kind,
        "source": _require(event.get("source"), str),
        "version": _require(event.get("subject", ""), str),
        "at": at.astimezone(UTC),
    }
    if kind == "feedback":
        actual = data.get("actual")
        values = actual if isinstance(actual, list) else [actual]
        common["id"] = _require(data.get("prediction"), str)
        return Record(**common, actual=_read_values(values))
    milliseconds = _require_number(data.get("milliseconds", 0))
    common |= {"status": _require(data.get("status", 200), int), "milliseconds": milliseconds}
    if kind == "refusal":
        return Record(**common, problems=_read_problems(data.get("problems", [])))
    inputs = [_read_row(row) for row in _require(data.get("inputs"), list)]
    outputs: Sequence[Value] = ()
    probabilities: Sequence[Sequence[float]] = ()
    if "probabilities" in data:
        answers = _require(data["probabilities"], list)
        probabilities = [_read_numbers(row) for row in answers]
    else:
        outputs = _read_values(_require(data.get("outputs"), list))
    if len(inputs) != len(outputs or probabilities):
        raise _InvalidRecord
    return Record(**common, inputs=inputs, outputs=outputs, probabilities=probabilities)


def _read_row(row: Any) -> Mapping[str, Value]:
    values: Mapping[str, Value] = _require(row, dict)
    _read_values(list(values.values()))
    return values


def _read_values(values: Sequence[Any]) -> Sequence[Value]:
    if not all(map(_is_value, values)):
        raise _InvalidRecord
    return values


def _read_numbers(values: Any) -> Sequence[float]:
    return [_require_number(value) for value in _require(values, list)]


def _read_problems(problems: Any) -> list[Problem]:
    return [
        Problem(
            _require(_require(problem, dict).get("column") or "", str),
            _require(problem.get("reason") or "", str),
        )
        for problem in _require(problems, list)
    ]
