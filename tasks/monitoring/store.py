"""The bucket's part of `monitor`: the prediction log is read there, and reports are kept."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, cast

from tasks.bucket.bucket import AbsentObject, Bucket, explaining_errors, load_bucket
from tasks.bucket.log_store import PREFIX
from tasks.bucket.requests import list_objects
from tasks.bucket.stores.base.store import ObjectState
from tasks.core import commands
from tasks.monitoring.records import MOST_BYTES
from tasks.monitoring.report import Report, parse_report
from tasks.monitoring.spool import wait_for_shipment
from tasks.monitoring.window import Span, Window, parse_name
from tasks.runs.retrying import capability

# Of reports before a window: more than the longest alarm looks back, also past empty windows.
_MOST_REPORTS = 60
# Of those near it, of whatever length: a cool-down's of one each half hour.
_MOST_NEAR = 200
_VERSION = re.compile(r"/version=([^/]+)/")
_PAGE = "text/html; charset=utf-8"
_JSON = "application/json"


@capability("read prediction log", run_name="read log of {span.name}", timeout=1800)
async def read_log(source: str, version: str, span: Span, label_days: float) -> Window:
    """Read a window of the prediction log.

    Args:
        source: Model and environment, as `/wine/local`.
        version: The version whose requests count.
        span: The time of the window.
        label_days: Time after it in which labels of its requests are looked for.

    Raises:
        TransientError: The bucket cannot be reached.
        TerminalError: The bucket denies access.
    """
    if span.end > datetime.now(UTC):
        await wait_for_shipment(source)
    window = Window(source, version, span)
    bucket = await load_bucket("read")
    until = min(datetime.now(UTC), span.end + timedelta(days=label_days))
    await asyncio.to_thread(_read_days, bucket, window, source, until)
    tally = window.tally
    commands.run_logger().info(
        "%s: %s requests of %s, %s rows; %s lines are no records",
        *(span.text, tally.requests, version, tally.rows, tally.invalid),
    )
    return window


def _read_days(bucket: Bucket, window: Window, source: str, until: datetime) -> None:
    day = window.span.start.date()
    with explaining_errors(bucket):
        while day <= until.date():
            # Beside the folder of the bucket that DVC has, see docs/prediction-log.md.
            prefix = f"{PREFIX}{source}/date={day.isoformat()}/"
            for stored in list_objects(bucket, prefix):
                _read_file(bucket, window, stored)
            day += timedelta(days=1)


def _read_file(bucket: Bucket, window: Window, stored: ObjectState) -> None:
    """Read a file; of one that is damaged, or not what it claims to be, only a part counts."""
    body = cast("IO[bytes]", bucket.store.open(stored.key))
    version = match[1] if (match := _VERSION.search(stored.key)) else ""
    read = 0
    try:
        with gzip.GzipFile(fileobj=body) as lines:
            while line := lines.readline(MOST_BYTES + 1):
                read += len(line)
                if read > MOST_BYTES:  # whole files are smaller: it was made to fill the memory
                    raise EOFError
                window.add(line, stored.modified, version)
    except (OSError, EOFError, zlib.error):
        window.tally.damaged_files += 1


def _folder(report: Report) -> str:
    return f"monitor/{report.model}/{report.environment}"


def page_key(report: Report) -> str:
    """Return the key of the page of a report in the bucket."""
    return f"{_folder(report)}/{report.span.name}.html"


def evidently_key(report: Report) -> str:
    """Return the key of Evidently's report on the same window."""
    return f"{_folder(report)}/{report.span.name}.evidently.html"


@capability("read reports", run_name="read earlier reports", timeout=300)
async def read_reports(report: Report, rest: timedelta) -> tuple[Report | None, list[Report]]:
    """Read the stored report on the same window, and those that an alarm follows from.

    Args:
        report: The report on a window.
        rest: Time around it in which reports are read, whatever they are on.

    Returns:
        The former report on this window, None if there is none; the others, newest first.

    Raises:
        TransientError: The bucket cannot be reached.
        TerminalError: The bucket denies access.
    """
    bucket = await load_bucket("read")
    return await asyncio.to_thread(_read_reports, bucket, report, rest)


def _read_reports(
    bucket: Bucket, report: Report, rest: timedelta
) -> tuple[Report | None, list[Report]]:
    folder, own = _folder(report), report.span
    with explaining_errors(bucket):
        names = [
            key.removeprefix(f"{folder}/").removesuffix(".json")
            for stored in list_objects(bucket, f"{folder}/")
            if (key := stored.key).endswith(".json")
        ]
        former = _read_report(bucket, f"{folder}/{own.name}.json") if own.name in names else None
        spans = [span for name in names if (span := parse_name(name)) and span != own]
        read = [
            _read_report(bucket, f"{folder}/{span.name}.json")
            for span in choose_spans(spans, own, rest)
        ]
    return former, [other for other in read if other]


def choose_spans(spans: Iterable[Span], own: Span, rest: timedelta) -> list[Span]:
    """Choose the windows whose reports are read for that on one: newest first. Pure.

    Args:
        spans: The windows with a report.
        own: The window.
        rest: Time around it in which all count; of those before it, the ones of its length do.
    """
    ordered = sorted(spans, key=lambda span: (span.end, span.start), reverse=True)
    length = own.end - own.start
    before = [span for span in ordered if span.end <= own.start and span.end - span.start == length]
    near = [span for span in ordered if abs(span.end - own.end) < rest]
    near.sort(key=lambda span: abs(span.end - own.end))
    # The newest one tells whether this window is.
    chosen = {*before[:_MOST_REPORTS], *near[:_MOST_NEAR], *ordered[:1]}
    return [span for span in ordered if span in chosen]


def _read_report(bucket: Bucket, key: str) -> Report | None:
    try:
        with explaining_errors(bucket):
            return parse_report(bucket.store.open(key).read())
    except AbsentObject:
        return None


@capability("store report", run_name="store report", timeout=300)
async def store_report(report: Report, page: str, evidently: bytes = b"") -> None:
    """Store a report and its page in the bucket; a former one on the same window is replaced.

    Args:
        report: The report.
        page: Its page.
        evidently: Evidently's report; empty if there is none.

    Raises:
        TransientError: The bucket cannot be reached.
        TerminalError: The bucket denies access.
    """
    bucket = await load_bucket("read-write")
    data = report.model_dump_json(indent=1).encode()
    files: Sequence[tuple[str, bytes, str]] = [
        *([(evidently_key(report), evidently, _PAGE)] if evidently else []),
        (page_key(report), page.encode(), _PAGE),
        # Last: where it is, the page is.
        (f"{_folder(report)}/{report.span.name}.json", data, _JSON),
    ]

    def put() -> None:
        with explaining_errors(bucket):
            for key, body, kind in files:
                bucket.store.put(key, body, kind)

    await asyncio.to_thread(put)
