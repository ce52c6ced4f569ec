"""An alarm starts one retrain, however many runs find it, and none where it is not to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from tasks.core.errors import ConfigurationError, TransientError
from tasks.monitoring import consequences
from tasks.monitoring.report import Report
from tasks.reports.monitor_report import make_page
from tests.code.tasks.monitoring.logs import DAY

REPORT = Report(
    model="wine", environment="local", version="v0.0.1", commit="c" * 40, start=DAY.start,
    end=DAY.end, outcome="differs", reasons=("values of ash differ by 0.20",), alarm=True,
    acts=True,
)  # fmt: skip


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect events and runs instead of sending them."""
    collected: list[dict[str, Any]] = []

    async def start(name: str, **options: Any) -> SimpleNamespace:
        collected.append({"name": name, **options})
        return SimpleNamespace(name="retrain main")

    def emit(event: str, **options: Any) -> None:
        collected.append({"name": event, **options})

    monkeypatch.setattr(consequences, "arun_deployment", start)
    monkeypatch.setattr(consequences, "emit_event", emit)
    return collected


async def test_two_runs_on_a_window_start_one_retrain(acts: list[dict[str, Any]]) -> None:
    for _ in range(2):
        await consequences.act_on_alarm.fn(REPORT, retrain=True)
    events, runs = acts[::2], acts[1::2]
    assert {event["name"] for event in events} == {"slipway.drift"}
    assert len({event["id"] for event in events}) == 1
    assert {run["name"] for run in runs} == {"retrain/retrain"}
    assert {run["parameters"]["environment"] for run in runs} == {"local"}
    assert len({run["idempotency_key"] for run in runs}) == 1
    assert {event["payload"]["retrain"].partition(".")[0] for event in events} == {
        "A retrain starts"
    }


async def test_alarm_without_retrain_only_emits_its_event(acts: list[dict[str, Any]]) -> None:
    await consequences.act_on_alarm.fn(REPORT, retrain=False)
    (event,) = acts
    assert event["resource"]["prefect.resource.id"] == "slipway.environment.local"
    assert event["payload"]["window"] == "2026-11-29"
    assert event["payload"]["retrain"].startswith("No retrain starts")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ObjectNotFound(Exception()), ConfigurationError),
        (httpx.ConnectError("away"), TransientError),
    ],
)
async def test_retrain_that_cannot_be_started_fails_the_run(
    acts: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    error: type[Exception],
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(consequences, "arun_deployment", fail)
    with pytest.raises(error, match="retrain"):
        await consequences.act_on_alarm.fn(REPORT, retrain=True)


def test_page_takes_nothing_of_the_log_as_its_own() -> None:
    text = "# T\n\n| a |\n| --- |\n| <script>x</script> |\n\n![p](data:image/png;base64,aa)"
    page = make_page(REPORT, text)
    assert "<script>" not in page
    assert "<table>" in page
    assert '<img src="data:image/png;base64,aa"' in page
    assert "default-src 'none'" in page
