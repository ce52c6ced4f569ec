"""What shadow traffic has shown, for the release note and the form of an approval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tasks.monitoring.records import Value
from tasks.monitoring.shadow_report import Difference, Output, ShadowReport, Side
from tasks.reports import markdown

_MOST_CHARACTERS = 300  # of the inputs of a row


def describe_shadow(report: ShadowReport) -> str:
    """Describe the report in markdown, under a heading of its own."""
    return "\n\n".join(filter(None, ["## Shadow traffic", *_parts(report)]))


def _parts(report: ShadowReport) -> Iterator[str]:
    yield (
        f"Clients asked the live version {report.live.requests:,} times in {report.seconds:.0f} s."
        f" The new one was asked {report.new.requests:,} of the same requests."
    )
    yield f"**{report.summary}**."
    if report.disagreement is None:
        yield (
            "No client has asked for a prediction, or the live version was released before the"
            " environment had `log`."
        )
    yield markdown.markdown_table(
        ("", "requests", "refused or failed", "median ms", "95 % within ms", "99 % within ms"),
        [_row("live", report.live), _row("new", report.new)],
    )
    paired = [f"{report.by_id:,} requests were paired by their id"]
    paired += [f"{report.by_content:,} by what was asked"] if report.by_content else []
    paired += [f"{report.ambiguous:,} could not be told apart"] if report.ambiguous else []
    yield f"{', '.join(paired)}."
    if report.amounts:
        words = {"mean": "mean", "0.5": "median", "0.95": "95 %", "0.99": "99 %", "1": "largest"}
        cells = [report.amounts.get(name, 0.0) for name in words]
        yield markdown.markdown_table(("difference", *words.values()), [("", *cells)])
    if report.changes:
        rows = [(_quote(item.live), _quote(item.new), item.rows) for item in report.changes]
        yield markdown.markdown_table(("live", "new", "rows"), rows)
    if report.slices:
        parts = [
            (_quote(part.name), part.rows, part.different, f"{part.different / part.rows:.1%}")
            for part in report.slices
        ]
        yield markdown.markdown_table(("slice", "rows", "different", "share"), parts)
    if report.largest:
        yield f"The {len(report.largest)} largest differences:"
        yield markdown.markdown_table(
            ("live", "new", "difference", "inputs"), [_list(item) for item in report.largest]
        )


def _row(name: str, side: Side) -> tuple[object, ...]:
    times = [side.milliseconds.get(share, "-") for share in ("0.5", "0.95", "0.99")]
    return (name, side.requests, side.errors, *times)


def _list(item: Difference) -> tuple[object, ...]:
    amount = "-" if item.amount is None else item.amount
    return (_show(item.live), _show(item.new), amount, _quote(_join(item.inputs)))


def _show(output: Output) -> str:
    if isinstance(output, tuple):
        return _quote(", ".join(f"{value:.3g}" for value in output))
    return _quote(f"{output:.6g}" if isinstance(output, float) else str(output))


def _join(inputs: Mapping[str, Value]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in inputs.items())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _quote(text: str) -> str:
    """Return text as code: what clients have sent is no markdown."""
    return f"`{text.replace('`', chr(39))}`" if text else "-"
