"""Gauges of the shipper for Prometheus: a file for the node exporter, beside that of `monitor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.bucket.shipper import Waiting

_FILE = "slipway-log-shipper.prom"


def write_gauges(folder: Path, waiting: Waiting) -> None:
    """Write what waits for the bucket, in one move."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    values = {
        "slipway_log_waiting_files": ("Files of records that wait for the bucket", waiting.files),
        "slipway_log_waiting_bytes": ("Their size", waiting.size),
        "slipway_log_oldest_seconds": ("Age of the oldest", waiting.oldest),
        "slipway_log_dropped_files": ("Files that made room since the start", waiting.dropped),
    }
    for name, (text, value) in values.items():
        Gauge(name, text, registry=registry).set(value)
    folder.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(folder / _FILE), registry)
