"""The newest report of `monitor` on an environment, as its run published it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deployments.prefect_api.client import PrefectAPI

_MOST_REPORTS = 200  # as many as the server returns at once


def read_monitor_reports(api: PrefectAPI) -> dict[str, Mapping[str, Any]]:
    """Return the newest report on each environment: its `summary`, and the key of its `page`."""
    query = {
        "artifacts": {"key": {"like_": "%-monitor-data"}, "type": {"any_": ["json"]}},
        "sort": "UPDATED_DESC",
        "limit": _MOST_REPORTS,
    }
    reports: dict[str, Mapping[str, Any]] = {}
    for artifact in api.post("/artifacts/latest/filter", query):
        data = artifact["data"]
        report = json.loads(data) if isinstance(data, str) else data
        reports.setdefault(report["environment"], report)
    return reports
