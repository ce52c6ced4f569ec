"""Compare what two versions have answered to the same requests: shadow traffic. Pure.

Both keep a prediction log. A client's `X-Request-Id` reaches both of them, so requests with one are
paired by it. Of the others each server makes an id of its own: they are paired by what was asked,
which is exact, since a version answers the same question in the same way. Where it seems not to,
because the log lacks what made the difference, they are counted and not compared.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.monitoring.records import Record, Value, parse_record, write_row
from tasks.monitoring.shadow_report import Change, Difference, Output, Part, ShadowReport, Side
from tasks.monitoring.window import Span, find_percentile
from tasks.training.rows import normalize
from tasks.training.slices import choose

_LISTED = 20
_QUANTILES = (0.5, 0.95, 0.99)
_LEAST_AMOUNT = 1e-9


@dataclass(frozen=True)
class Traffic:
    """The records of both versions, line by line, as they stood in their logs.

    Attributes:
        span: From when to when requests were mirrored.
        live: Lines of the live version.
        new: Lines of the new version, which gets some of the requests, each once the live one has
            answered it.
        sent: Number of requests that the new version was sent.
    """

    span: Span
    live: Sequence[bytes]
    new: Sequence[bytes]
    sent: int


@dataclass(frozen=True)
class _Pair:
    inputs: Mapping[str, Value]
    live: Output
    new: Output


def compare(
    traffic: Traffic,
    *,
    tolerance: float,
    slices: Sequence[str] = (),
    private: Collection[str] = (),
) -> ShadowReport:
    """Compare the answers of two versions to the same requests.

    Args:
        traffic: Their records.
        tolerance: Numbers that differ by a smaller share count as the same, probabilities that
            differ by less.
        slices: The slices of the gate.
        private: Columns whose values no report shows.
    """
    live = [record for record in _parse(traffic.live) if record.at in traffic.span]
    new = [record for record in _parse(traffic.new) if record.at >= traffic.span.start]
    pairs, by_id, by_content, ambiguous = _pair(live, new)
    rows = list(_split(pairs))
    amounts = [_amount(row.live, row.new) for row in rows]
    different = [
        at for at, row in enumerate(rows) if _differs(row.live, row.new, amounts[at], tolerance)
    ]
    of_live, of_new = _describe(live), _describe(new)
    missing = max(0, traffic.sent - of_new.requests)
    order = sorted(different, key=lambda at: -(amounts[at] or 0.0))
    return ShadowReport(
        seconds=(traffic.span.end - traffic.span.start).total_seconds(),
        live=of_live,
        new=of_new,
        by_id=by_id,
        by_content=by_content,
        ambiguous=ambiguous,
        lost=missing + _count_failures(live, new),
        rows=len(rows),
        different=len(different),
        amounts=_summarize([amount for amount in amounts if amount is not None]),
        changes=tuple(_count_changes(rows[at] for at in different if amounts[at] is None)),
        slices=tuple(_cut(rows, set(different), slices, private)),
        largest=tuple(
            Difference(
                inputs={name: v for name, v in rows[at].inputs.items() if name not in private},
                live=rows[at].live,
                new=rows[at].new,
                amount=amounts[at],
            )
            for at in order[:_LISTED]
        ),
    )


def _parse(lines: Iterable[bytes]) -> Iterator[Record]:
    for line in lines:
        record = parse_record(line)
        if record and record.kind in ("prediction", "refusal"):
            yield record


def _pair(
    live: Sequence[Record], new: Sequence[Record]
) -> tuple[list[tuple[Record, Record]], int, int, int]:
    """Pair the answered requests of two versions.

    Returns:
        The pairs; the number of those paired by their ids, and by what was asked; and the number of
        those that cannot be told apart.
    """
    predictions = [
        [record for record in side if record.kind == "prediction"] for side in (live, new)
    ]
    # A column that only one of the two has, or keeps in its log, tells no requests apart.
    shared = set.intersection(
        *({name for record in s for name in _columns(record)} for s in predictions)
    )
    by_id: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in reversed(predictions[0]):
        by_id[record.id, _content(record, shared)].append(record)
    pairs, rest = [], []
    for record in predictions[1]:
        content = _content(record, shared)
        if same := by_id[record.id, content]:
            pairs.append((same.pop(), record))
        else:
            rest.append((content, record))
    count, ambiguous = len(pairs), 0
    groups: dict[str, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for (_, content), left in by_id.items():
        groups[content][0].extend(left)
    for content, record in rest:
        groups[content][1].append(record)
    for of_live, of_new in groups.values():
        together = list(zip(of_live, of_new, strict=False))
        if all(
            len({_answer(record) for record in side}) == 1 for side in (of_live, of_new) if side
        ):
            pairs += together
        else:
            ambiguous += len(together)
    return pairs, count, len(pairs) - count, ambiguous


def _columns(record: Record) -> Iterable[str]:
    return record.inputs[0] if record.inputs else ()


def _content(record: Record, columns: Collection[str]) -> str:
    """Return what was asked, as a text that is the same for both versions."""
    rows = [{name: row.get(name) for name in columns} for row in record.inputs]
    return json.dumps([bool(record.probabilities), rows], sort_keys=True)


def _answer(record: Record) -> str:
    return json.dumps([record.outputs, record.probabilities])


def _split(pairs: Iterable[tuple[Record, Record]]) -> Iterator[_Pair]:
    """Yield each row of the requests with both answers."""
    for live, new in pairs:
        yield from map(_Pair, live.inputs, _outputs(live), _outputs(new))


def _outputs(record: Record) -> Sequence[Output]:
    return [tuple(row) for row in record.probabilities] or record.outputs


def _amount(live: Output, new: Output) -> float | None:
    """Return by how much two answers differ; None for classes."""
    if isinstance(live, tuple) and isinstance(new, tuple):
        if len(live) != len(new):
            return None  # of other classes
        return max((abs(a - b) for a, b in zip(live, new, strict=True)), default=0.0)
    # JSON writes the numbers of a regression with a point, and those that are classes without.
    if isinstance(live, float) and isinstance(new, float):
        return min(abs(new - live), sys.float_info.max)  # an infinity cannot be stored
    return None


def _differs(live: Output, new: Output, amount: float | None, tolerance: float) -> bool:
    if amount is None:
        return isinstance(live, tuple) or normalize(live) != normalize(new)
    if isinstance(live, tuple):
        return amount > max(tolerance, _LEAST_AMOUNT)
    assert isinstance(live, float)
    assert isinstance(new, float)
    return not math.isclose(live, new, rel_tol=tolerance, abs_tol=_LEAST_AMOUNT)


def _summarize(amounts: list[float]) -> dict[str, float]:
    if not amounts:
        return {}
    mean = math.fsum(amount / len(amounts) for amount in amounts)
    return {"mean": mean, **_quantiles([*amounts], 1.0)}


def _quantiles(values: list[float], *more: float) -> dict[str, float]:
    values.sort()
    quantiles = {f"{share:g}": find_percentile(values, share) for share in (*_QUANTILES, *more)}
    return {share: value for share, value in quantiles.items() if value is not None}


def _count_changes(rows: Iterable[_Pair]) -> list[Change]:
    changes = Counter(
        (normalize(row.live), normalize(row.new)) for row in rows if not isinstance(row.live, tuple)
    )
    return [Change(live=old, new=new, rows=n) for (old, new), n in changes.most_common(_LISTED)]


def _cut(
    rows: Sequence[_Pair], different: set[int], slices: Sequence[str], private: Collection[str]
) -> Iterator[Part]:
    texts = [write_row(row.inputs) for row in rows]
    for name, positions in choose(slices, texts, private):
        if positions:
            wrong = len(different.intersection(positions))
            yield Part(name=name, rows=len(positions), different=wrong)


def _count_failures(live: Iterable[Record], new: Iterable[Record]) -> int:
    """Count the requests that the new version has refused or failed, and the live one has not.

    Most of them cannot be paired, since a refusal's record has no values. So one that the live
    version has refused for the same reasons is taken to be the same.
    """
    live_failures, new_failures = (
        Counter(
            (record.status, frozenset(record.problems))
            for record in side
            if record.kind == "refusal"
        )
        for side in (live, new)
    )
    return (new_failures - live_failures).total()


def _describe(records: Sequence[Record]) -> Side:
    return Side(
        requests=len(records),
        errors=sum(record.kind == "refusal" for record in records),
        milliseconds=_quantiles([record.milliseconds for record in records]),
    )
