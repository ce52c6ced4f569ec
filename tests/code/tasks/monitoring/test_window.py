"""A window counts what is in the log, and believes no line of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.errors import ConfigurationError
from tasks.monitoring.records import MOST_BYTES, parse_record
from tasks.monitoring.window import parse_span
from tests.code.tasks.monitoring.logs import DAY, NOON, make_feedback, make_line, read_window


def test_window_counts_requests_and_rows() -> None:
    window = read_window([make_line(n, [{"ash": 1.0}] * 2, ["a", "b"]) for n in range(3)])
    assert (window.tally.requests, window.tally.rows) == (3, 6)
    assert sorted(answer.output for answer in window.answers) == ["a"] * 3 + ["b"] * 3
    assert window.milliseconds == [1.5] * 3


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"specversion": "1.0"',
        make_line(1, specversion="2.0"),
        make_line(1, type="slipway.other"),
        make_line(1, id=""),
        make_line(1, id=7),
        make_line("x" * 300),
        make_line(1, time="yesterday"),
        make_line(1, time="2026-11-29T12:00:00"),
        make_line(1, source=None),
        make_line(1).replace(b'"data": {', b'"data": 1, "x": {'),
        make_line(1, [{"ash": float("nan")}]),
        make_line(1, [{"ash": [1]}]),
        make_line(1, [["ash"]]),
        make_line(1, outputs=["a", "b"]),
        make_line(1, outputs=[{}]),
        make_line(1, data={"milliseconds": "1"}),
        make_line(1, data={"status": True}),
        make_line(1, type="slipway.refusal", data={"problems": [1]}),
        make_line(1, subject="\ud800"),
        make_line(1).replace(b"1.5", b"1e999"),
        make_line(1).replace(b"1.5", b"9" * 400),
        make_line(1, [{"ash": 10**400}]),
        make_line(1, outputs=[-(10**400)]),
        make_line(1).replace(b'["a"]', b"[1e999]"),
        b"1" * (MOST_BYTES + 1),
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_line_that_is_no_record_is_counted(line: bytes) -> None:
    assert parse_record(line) is None
    window = read_window([line, make_line(2)])
    assert (window.tally.invalid, window.tally.requests) == (1, 1)


def test_other_records_are_counted_apart() -> None:
    window = read_window(
        [
            make_line(1),
            make_line(1),
            make_line(2, subject="v0.0.2"),
            make_line(3, source="/wine/production"),
            make_line(4, type="slipway.proof"),
            make_line(5, time=(DAY.start - timedelta(seconds=1)).isoformat()),
            make_line(6, time=DAY.end.isoformat()),
            make_line(7, type="slipway.refusal", data={"status": 422, "problems": [
                {"row": 0, "column": "ash", "reason": "missing"},
                {"row": 1, "column": "ash", "reason": "missing"},
                {"row": None, "column": None, "reason": "too_long"},
            ]}),
            make_line(8, type="slipway.refusal", data={"status": 503}),
        ]
    )  # fmt: skip
    tally = window.tally
    assert (tally.requests, tally.rows, tally.repeated, tally.foreign, tally.proofs) == (
        3, 1, 1, 1, 1,
    )  # fmt: skip
    assert tally.other_versions == {"v0.0.2": 1}
    assert (tally.refused, tally.failed) == (1, 1)
    assert tally.problems == {("ash", "missing"): 1, ("", "too_long"): 1}


def test_record_of_a_clock_that_is_ahead_does_not_count() -> None:
    window = read_window([])
    window.add(make_line(1), NOON - timedelta(hours=1), "v0.0.1")
    window.add(make_line(2), NOON - timedelta(minutes=1), "v0.0.1")
    assert (window.tally.ahead, window.tally.requests) == (1, 1)


def test_version_writes_no_records_of_another() -> None:
    window = read_window([make_line(1)])
    for line in (make_line(2), make_feedback(1, "a"), make_feedback(1, "a", subject="shadow")):
        window.add(line, DAY.end, "shadow")
    assert (window.tally.requests, window.tally.foreign) == (1, 1)
    assert window.labels == {}


@pytest.mark.parametrize("order", [1, -1])
def test_request_that_was_refused_before_it_was_answered_counts_as_both(order: int) -> None:
    refusal = make_line(1, type="slipway.refusal", data={"status": 503})
    tally = read_window([refusal, make_line(1)][::order]).tally
    assert (tally.requests, tally.failed, tally.rows, tally.repeated) == (2, 1, 1, 0)


def test_share_of_many_rows_does_not_depend_on_their_order() -> None:
    lines = [make_line(n, [{"ash": float(n)}]) for n in range(300)]
    chosen = [answer.request for answer in read_window(lines, 50).answers]
    random.Random(1).shuffle(lines)
    window = read_window(lines, 50)
    assert [answer.request for answer in window.answers] == chosen
    assert 25 <= len(chosen) <= 50
    assert window.tally.rows == 300


def test_newest_label_counts_in_whatever_order_labels_come() -> None:
    later = NOON + timedelta(days=2)
    labels = [make_feedback(1, "old"), make_feedback(1, "new", later), make_feedback(9, ["a", "b"])]
    for order in (labels, labels[::-1]):
        assert read_window(order).labels == {"r1": ("new",), "r9": ("a", "b")}


NOW = datetime(2026, 11, 30, 14, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "2026-11-29"),
        ("2026-11-30", "2026-11-30"),
        ("2026-11-30T08:00/2026-11-30T12:00Z", "2026-11-30 08:00 to 12:00 UTC"),
        ("2026-11-29/2026-12-01", "2026-11-29 00:00 to 2026-12-01 00:00 UTC"),
        ("2026-11-30T08:00:01/2026-11-30T08:00:09", "2026-11-30 08:00:01 to 08:00:09 UTC"),
    ],
)
def test_window_of_time_is_a_day_or_start_and_end(text: str, shown: str) -> None:
    assert parse_span(text, NOW).text == shown


@pytest.mark.parametrize("text", ["2026-13-01", "2026-11-30/2026-11-30", "2026-11-30/2026-11-01"])
def test_no_window_of_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid window"):
        parse_span(text, NOW)


@pytest.mark.parametrize("order", [1, -1])
def test_mirrored_request_does_not_hide_the_live_one(order: int) -> None:
    lines = [make_line(1, subject="shadow"), make_line(1)][::order]
    tally = read_window(lines).tally
    assert (tally.requests, tally.repeated) == (1, 0)
    assert tally.other_versions == {"shadow": 1}
