"""Lines of a prediction log, as model servers write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.monitoring.records import parse_record
from tasks.monitoring.window import Span, Window

SOURCE = "/wine/local"
DAY = Span(datetime(2026, 11, 29, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC))
NOON = DAY.start + timedelta(hours=12)


def make_line(
    number: object,
    rows: Sequence[dict[str, Any]] = ({"ash": 1.0},),
    outputs: Sequence[Any] = ("a",),
    **changes: Any,
) -> bytes:
    """Make the record of a request; `changes` are of the event, those of `data` in `data`."""
    data = {"status": 200, "milliseconds": 1.5, "inputs": list(rows), "outputs": list(outputs)}
    event = {
        "specversion": "1.0",
        "type": "slipway.prediction",
        "id": f"r{number}",
        "source": SOURCE,
        "subject": "v0.0.1",
        "time": NOON.isoformat(),
        **changes,
        "data": {**data, **changes.get("data", {})},
    }
    return json.dumps(event).encode() + b"\n"


def make_feedback(
    number: object, actual: Any, at: datetime = NOON, subject: str = "v0.0.1"
) -> bytes:
    """Make the record of a label that came later."""
    return make_line(
        f"feedback {number} {at}",
        type="slipway.feedback",
        subject=subject,
        time=at.isoformat(),
        data={"prediction": f"r{number}", "actual": actual},
    )


def read_window(lines: Sequence[bytes], most_rows: int = 1000) -> Window:
    """Read lines that were stored right after the window, by the versions that they name."""
    window = Window(SOURCE, "v0.0.1", DAY, most_rows)
    for line in lines:
        record = parse_record(line)
        window.add(line, DAY.end, record.version if record else window.version)
    return window
