"""The address of a report of `monitor`, and of Evidently's beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deployments.cli.monitoring import find_report_address
from tasks.core.errors import ConfigurationError


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Have the newest reports of the server be these, and the address of an object its key."""
    reports: dict[str, dict[str, Any]] = {}

    async def load_bucket(_: str) -> None:
        return None

    monkeypatch.setattr(
        "deployments.prefect_api.monitor_report.read_monitor_reports", lambda _: reports
    )
    monkeypatch.setattr("tasks.bucket.bucket.load_bucket", load_bucket)
    monkeypatch.setattr("tasks.bucket.requests.make_address", lambda _, key, __: key)
    return reports


def _find(page: str) -> str:
    place: Any = SimpleNamespace(choose_server=lambda: None)
    return find_report_address(place, None, "local", page)  # type: ignore[arg-type]


def test_address_is_of_the_page_that_is_asked_for(reports: dict[str, dict[str, Any]]) -> None:
    reports["local"] = {"page": "day.html", "evidently": "day.evidently.html"}
    assert _find("page") == "day.html"
    assert _find("evidently") == "day.evidently.html"


@pytest.mark.parametrize("report", [{"page": "day.html", "evidently": None}, {"page": "day.html"}])
def test_missing_report_names_the_setting(
    reports: dict[str, dict[str, Any]], report: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="local has no report of `monitor` yet"):
        _find("page")
    reports["local"] = report
    with pytest.raises(ConfigurationError, match="no report of Evidently on the newest") as refused:
        _find("evidently")
    assert "monitor = {evidently = true}" in refused.value.next_step
