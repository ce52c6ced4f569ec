"""A window of the prediction log: what its records add up to. Pure.

The result depends on the records alone, not on the order in which files were read, as long as no id
comes twice with different content.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from hashlib import blake2b
from typing import Generic, TypeVar

from tasks.core.errors import ConfigurationError
from tasks.monitoring.records import SHADOW, Record, Value, parse_record
from tasks.training.rows import MOST_ROWS

T = TypeVar("T")
_RING = 1 << 64
_NAME = "%Y%m%dT%H%M%SZ"
# Clocks of servers differ by less where they are set by a network.
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Span:
    """A time, from its start up to its end."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    @property
    def name(self) -> str:
        """The span as ISO 8601 writes it, to the second."""
        return f"{self.start:{_NAME}}--{self.end:{_NAME}}"

    @property
    def text(self) -> str:
        """The span for people: a day, or start and end."""
        if self.end - self.start == timedelta(days=1) and self.start.time() == time():
            return f"{self.start:%Y-%m-%d}"
        seconds = ":%S" if self.start.second or self.end.second else ""
        end = "" if self.end.date() == self.start.date() else "%Y-%m-%d "
        return f"{self.start:%Y-%m-%d %H:%M{seconds}} to {self.end:{end}%H:%M{seconds}} UTC"


def parse_name(text: str) -> Span | None:
    """Parse the name of a span; None if it is none."""
    first, _, last = text.partition("--")
    try:
        start, end = (datetime.strptime(text, _NAME).replace(tzinfo=UTC) for text in (first, last))
    except ValueError:
        return None
    return Span(start, end)


def parse_span(text: str, now: datetime) -> Span:
    """Parse the window that somebody asks for.

    Args:
        text: A day, or start and end with a slash between; empty for yesterday. All in UTC.
        now: The present moment.

    Raises:
        ConfigurationError: It is no time, or its end is not after its start.
    """
    if not text:
        end = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return Span(end - timedelta(days=1), end)
    first, slash, last = text.partition("/")
    try:
        start = _parse_moment(first)
        end = _parse_moment(last) if slash else start + timedelta(days=1)
    except ValueError:
        start = end = now
    if end <= start:
        raise ConfigurationError(
            f"invalid window {text!r}",
            state="nothing was read",
            next_step="name a day (2026-11-30), or start and end"
            " (2026-11-30T08:00/2026-11-30T12:00), in UTC",
        )
    return Span(start, end)


def _parse_moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Answer:
    """One row of a request, with the answer to it.

    Attributes:
        request: Id of the request.
        number: Number of the row in it.
        inputs: Values by column.
        output: The answer; None where probabilities were the answer.
        probabilities: Those of the classes; empty where they were not the answer.
    """

    request: str
    number: int
    inputs: Mapping[str, Value]
    output: Value
    probabilities: Sequence[float] = ()


@dataclass
class Tally:
    """Numbers of a window.

    Attributes:
        lines: Lines read that belong to the window, or could not be read.
        damaged_files: Files that could not be read to their end.
        invalid: Lines that are no record.
        foreign: Records that name another model, environment or version than their folder.
        ahead: Records later than the file that they are in: of a server whose clock is wrong.
        repeated: Records of a request that was counted already.
        other_versions: Number of requests by version, of versions that are not compared.
        proofs: Golden predictions of deploys.
        requests: Requests that count.
        rows: Rows of those that were answered.
        refused: Requests that were refused.
        failed: Requests that failed in the server.
        problems: Number of refused requests by column and reason.
        feedback_replaced: Feedback that newer feedback on the same request replaces.
    """

    lines: int = 0
    damaged_files: int = 0
    invalid: int = 0
    foreign: int = 0
    ahead: int = 0
    repeated: int = 0
    other_versions: Counter[str] = field(default_factory=Counter)
    proofs: int = 0
    requests: int = 0
    rows: int = 0
    refused: int = 0
    failed: int = 0
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    feedback_replaced: int = 0


class _Sample(Generic[T]):
    """Values, or of many a share: those whose hash is in a lower part, whatever came first."""

    def __init__(self, most: int) -> None:
        self._most, self._limit = most, _RING
        self._values: dict[int, T] = {}

    def put(self, place: int, value: T) -> None:
        """Take a value by its hash."""
        if place >= self._limit:
            return
        self._values[place] = value
        while len(self._values) > self._most:
            self._limit //= 2
            self._values = {at: value for at, value in self._values.items() if at < self._limit}

    def list(self) -> list[T]:
        """Return the values in the order of their hashes."""
        return [self._values[place] for place in sorted(self._values)]


class Window:
    """The records of one version in a span of time.

    Args:
        source: Model and environment of the records, as `/wine/local`.
        version: The version to compare; all requests to others are only counted.
        span: The time.
        most_rows: Of more rows a share is kept, chosen by a hash of the request's id.
    """

    def __init__(self, source: str, version: str, span: Span, most_rows: int = MOST_ROWS) -> None:
        self.version, self.span, self.tally = version, span, Tally()
        self._source = source
        self._seen: set[int] = set()
        self._answers: _Sample[Answer] = _Sample(most_rows)
        self._times: _Sample[float] = _Sample(most_rows)
        self._labels: dict[str, tuple[datetime, tuple[Value, ...]]] = {}

    def add(self, line: bytes, stored_at: datetime, version: str) -> None:
        """Take a line of the log.

        Args:
            line: The line.
            stored_at: When its file was put into the bucket, by the bucket's clock.
            version: The version that the file's key names: what writes a line is its code.
        """
        record = parse_record(line)
        if record is None:
            self.tally.lines += 1
            self.tally.invalid += 1
            return
        if record.kind == "feedback":
            if record.version == version:
                self._label(record)
            return
        if record.at not in self.span:
            return
        self.tally.lines += 1
        if record.source != self._source or record.version != version:
            self.tally.foreign += 1
        elif record.at > stored_at + _SKEW:
            self.tally.ahead += 1
        elif record.kind == "proof":
            self.tally.proofs += 1
        else:
            self._count(record)

    def _label(self, record: Record) -> None:
        """Keep the newest label of a request, whenever it came."""
        # A version that only mirrors requests has no clients, and nobody has released its code.
        if record.source == self._source and record.version != SHADOW:
            label = (record.at, tuple(record.actual))
            former = self._labels.get(record.id)
            self.tally.feedback_replaced += former is not None
            if former is None or former[0] <= record.at:
                self._labels[record.id] = label

    def _count(self, record: Record) -> None:
        # Of one id there are two requests where the new version is asked the same as the live one,
        # and where a client sends one again that was refused.
        number = _hash_request(record.version, record.kind, record.id)
        if number in self._seen:
            self.tally.repeated += 1
            return
        self._seen.add(number)
        if record.version != self.version:
            self.tally.other_versions[record.version] += 1
            return
        self.tally.requests += 1
        self._times.put(number, record.milliseconds)
        if record.kind == "refusal":
            self.tally.failed += record.status >= 500
            self.tally.refused += record.status < 500
            self.tally.problems.update(
                {(problem.column, problem.reason) for problem in record.problems}
            )
            return
        self.tally.rows += len(record.inputs)
        for at, inputs in enumerate(record.inputs):
            if record.probabilities:
                # As an array: of 50,000 rows and 100 classes, a list would take 160 MB.
                answer = Answer(record.id, at, inputs, None, array("d", record.probabilities[at]))
            else:
                answer = Answer(record.id, at, inputs, record.outputs[at])
            self._answers.put(_hash(f"{at} {record.id}"), answer)

    @property
    def answers(self) -> list[Answer]:
        """The rows, or a share of them, in an order of their own."""
        return self._answers.list()

    @property
    def milliseconds(self) -> list[float]:
        """The times of the requests, or of a share of them, sorted."""
        return sorted(self._times.list())

    @property
    def labels(self) -> Mapping[str, tuple[Value, ...]]:
        """The newest labels of requests, by their ids."""
        return {request: values for request, (_, values) in self._labels.items()}

    @property
    def unknown_labels(self) -> int:
        """The number of labels for requests that are not in the window, perhaps in another."""
        return sum(
            _hash_request(self.version, "prediction", request) not in self._seen
            for request in self._labels
        )


def _hash_request(version: str, kind: str, identity: str) -> int:
    return _hash(f"{version} {kind} {identity}")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest())


def find_percentile(values: list[float], share: float) -> float | None:
    """Return the value that a share of sorted values does not exceed; None of none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None
