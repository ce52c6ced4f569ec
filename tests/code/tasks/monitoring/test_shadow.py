"""Two versions are compared on the requests that both were asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tasks.monitoring.shadow import Traffic, compare
from tasks.monitoring.shadow_report import ShadowReport
from tasks.monitoring.window import Span
from tests.code.tasks.monitoring.logs import DAY, NOON, make_line, read_window

_AFTER = (NOON + timedelta(milliseconds=5)).isoformat()


def _lines(
    side: str, outputs: Sequence[Any], ids: str = "", key: str = "outputs", **columns: Sequence[Any]
) -> list[bytes]:
    """Make a record for each output; without `ids` each server has made its own."""
    columns = columns or {"ash": range(len(outputs))}
    return [
        make_line(
            f"{ids or side}-{number}",
            [{name: values[number] for name, values in columns.items()}],
            time=NOON.isoformat() if side == "live" else _AFTER,
            subject="v0.0.1" if side == "live" else "shadow",
            data={"outputs": None, key: [output]},
        )
        for number, output in enumerate(outputs)
    ]


def _compare(
    live: list[bytes], new: list[bytes], sent: int | None = None, **options: Any
) -> ShadowReport:
    """Compare records; the proxy has sent as many requests as the new version has recorded."""
    sent = len(new) if sent is None else sent
    return compare(Traffic(DAY, live, new, sent), **{"tolerance": 0.0, **options})


@pytest.mark.parametrize("ids", ["", "client"])
def test_classes_are_compared_whatever_the_order(ids: str) -> None:
    live = _lines("live", ["a", "a", "b", "b"], ids)
    new = _lines("new", ["a", "b", "b", "b"], ids)
    random.Random(1).shuffle(new)
    report = _compare(live, new)
    assert (report.rows, report.different, report.disagreement) == (4, 1, 0.25)
    assert (report.by_id, report.by_content) == ((4, 0) if ids else (0, 4))
    (change,) = report.changes
    assert (change.live, change.new, change.rows) == ("a", "b", 1)
    assert report.largest[0].inputs == {"ash": 1}


def test_report_of_strange_records_can_be_made_and_stored() -> None:
    """Code that nobody has released writes them."""
    live = [*_lines("live", [-1e308] * 3, "x"), *_lines("live", [1.0], "y", city=["Bern"])]
    new = [*_lines("new", [1e308] * 3, "x"), *_lines("new", [2.0], "y", city=["Bern"])]
    report = _compare(live, new, slices=("ash", "city"))
    assert (report.rows, report.different) == (4, 4)
    assert ShadowReport.model_validate_json(report.model_dump_json()) == report


def test_id_that_a_client_sends_twice_pairs_what_was_asked() -> None:
    live = [*_lines("live", ["a"], "x", ash=[1]), *_lines("live", ["b"], "x", ash=[2])]
    new = [*_lines("new", ["b"], "x", ash=[2]), *_lines("new", ["a"], "x", ash=[1])]
    assert _compare(live, new).different == 0


def test_equal_requests_are_not_mixed_with_those_that_only_look_equal() -> None:
    equal = _compare(_lines("live", ["a"] * 3, ash=[1] * 3), _lines("new", ["b"] * 2, ash=[1] * 2))
    assert (equal.rows, equal.different, equal.ambiguous) == (2, 2, 0)
    # A private column, which the log lacks, has made the difference.
    alike = _compare(_lines("live", ["a", "b"], ash=[1, 1]), _lines("new", ["a", "b"], ash=[1, 1]))
    assert (alike.rows, alike.ambiguous) == (0, 2)


def test_numbers_differ_by_more_than_the_tolerance() -> None:
    live = _lines("live", [100.0, 100.0, 100.0, 0.0])
    new = _lines("new", [100.5, 103.0, 90.0, 0.0])
    report = _compare(live, new, tolerance=0.01)
    assert (report.rows, report.different) == (4, 2)
    assert [item.amount for item in report.largest] == [10.0, 3.0]
    assert report.amounts == {"mean": 3.375, "0.5": 0.5, "0.95": 10.0, "0.99": 10.0, "1": 10.0}
    assert report.changes == ()


def test_probabilities_differ_by_their_largest_difference() -> None:
    live = _lines("live", [[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]], key="probabilities")
    new = _lines("new", [[0.495, 0.505], [0.6, 0.4], [0.5, 0.3, 0.2]], key="probabilities")
    report = _compare(live, new, tolerance=0.01)
    assert report.different == 2  # the last has another class
    assert report.largest[0].amount == pytest.approx(0.3)
    assert report.largest[1].amount is None


def test_numbers_of_classes_are_classes() -> None:
    report = _compare(_lines("live", [1, 2]), _lines("new", [1, 3]))
    assert (report.different, report.amounts) == (1, {})


def test_slices_of_the_gate_and_private_columns() -> None:
    columns: dict[str, Any] = {"region": ["n", "n", "s"], "age": [70, 20, None], "name": [*"xyz"]}
    live, new = _lines("live", "aaa", **columns), _lines("new", "aba", **columns)
    report = _compare(
        live, new, slices=("region", "age >= 65", "gone"), private=frozenset({"name"})
    )
    slices = [(part.name, part.rows, part.different) for part in report.slices]
    assert slices == [("region == n", 2, 1), ("region == s", 1, 0), ("age >= 65", 1, 0)]
    assert report.largest[0].inputs == {"region": "n", "age": 20}


def test_only_twenty_differences_are_listed() -> None:
    report = _compare(_lines("live", [0.0] * 30), _lines("new", [float(n + 1) for n in range(30)]))
    assert [item.amount for item in report.largest] == [float(n) for n in range(30, 10, -1)]


def _refuse(time: str, *reasons: str, status: int = 422) -> bytes:
    problems = [{"row": 0, "column": "ash", "reason": reason} for reason in reasons]
    data = {"status": status, "problems": problems}
    return make_line(f"{time}{reasons}", type="slipway.refusal", time=time, data=data)


def test_request_without_an_answer_counts_as_a_difference() -> None:
    new = [*_lines("new", ["a"] * 7), _refuse(_AFTER, "missing")]
    # Two more were mirrored, and the new version has no record of them.
    report = _compare(_lines("live", ["a"] * 20), new, sent=10)
    assert (report.rows, report.different, report.lost) == (7, 0, 3)
    assert report.disagreement == 0.3
    assert report.summary == "0 of 7 answers differ, 3 requests without an answer of it (30.00%)"


def test_request_that_the_live_version_has_refused_is_not_a_difference() -> None:
    live = [*_lines("live", ["a"] * 20), *[_refuse(NOON.isoformat(), "missing")] * 9]
    new = [_refuse(_AFTER, "missing"), _refuse(_AFTER, status=500), _refuse(_AFTER, "float_type")]
    assert _compare(live, new[:1]).lost == 0
    assert _compare(live, new).lost == 2  # however many the live version has refused


def test_nothing_was_asked() -> None:
    report = _compare([], [])
    assert report.disagreement is None
    assert report.summary == "no request could be compared"


def test_records_from_before_proofs_and_lines_that_are_no_record_are_left_out() -> None:
    span = Span(NOON, NOON + timedelta(seconds=1))
    old = make_line(1, time=(NOON - timedelta(seconds=1)).isoformat())
    proof = make_line(2, type="slipway.proof")
    report = compare(
        Traffic(
            span, [old, proof, b"{}", *_lines("live", "a")], [old, b"", *_lines("new", "a")], 1
        ),
        tolerance=0.0,
    )
    assert (report.live.requests, report.new.requests, report.rows) == (1, 1, 1)


def test_report_survives_json() -> None:
    columns = {"ash": [1.0, 2.0], "kind": ["a", None]}
    report = _compare(_lines("live", [1.0, 2.0], **columns), _lines("new", [1.5, 2.5], **columns))
    assert ShadowReport.model_validate(report.model_dump(mode="json")) == report


def test_mirrored_request_does_not_hide_that_of_the_live_version() -> None:
    """Both have the id that the client has sent, and the shadow's record may be read first."""
    window = read_window([make_line(1, subject="shadow"), make_line(1)])
    assert (window.tally.requests, window.tally.repeated) == (1, 0)
    assert window.tally.other_versions == {"shadow": 1}
