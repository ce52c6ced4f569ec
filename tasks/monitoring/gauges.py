"""Gauges of the newest report, for Prometheus: a file that the node exporter reads.

A flow run is over before anybody could ask it, so it leaves a file for the exporter's textfile
collector.
"""

from __future__ import annotations

from pathlib import Path

from tasks.monitoring.report import Report

_LABELS = ("model", "environment", "version")


def write_gauges(folder: Path, report: Report) -> None:
    """Write the gauges of a report in one move; those of an earlier one are replaced."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def add(name: str, text: str, value: float, **more: str) -> None:
        gauge = gauges.get(name) or Gauge(name, text, [*_LABELS, *more], registry=registry)
        gauges[name] = gauge
        gauge.labels(report.model, report.environment, report.version, *more.values()).set(value)

    gauges: dict[str, Gauge] = {}
    add("slipway_monitor_alarm", "1 while the newest windows differ", report.alarm)
    add("slipway_monitor_differs", "1 if the window differs", report.outcome == "differs")
    add("slipway_monitor_rows", "Rows of the window", report.rows)
    end = report.end.timestamp()
    add("slipway_monitor_window_end_timestamp_seconds", "End of the window", end)
    for finding in report.findings:
        labels = {"column": finding.column, "subject": finding.subject}
        text = "Distance of the window from the training rows"
        add("slipway_monitor_distance", text, finding.distance, **labels)
    for quality in report.quality:
        add(
            "slipway_monitor_metric",
            "Metric on rows with labels",
            quality.value,
            metric=quality.metric,
            slice=quality.part,
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(folder / f"slipway-monitor-{report.environment}.prom"), registry)
