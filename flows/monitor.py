"""Monitor an environment: compare its requests with the data that the live version learnt from."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import EnvironmentName, WindowOrNone
from tasks.core.settings import Settings
from tasks.monitoring.consequences import act_on_alarm
from tasks.monitoring.evidently import try_evidently
from tasks.monitoring.gauges import write_gauges
from tasks.monitoring.labels import read_labels
from tasks.monitoring.release import read_release
from tasks.monitoring.report import judge_window, raise_alarm
from tasks.monitoring.store import read_log, read_reports, store_report
from tasks.monitoring.window import parse_span
from tasks.platforms.catalogue import gate_rules, load_environment
from tasks.reports.monitor_report import (
    describe_evidently,
    make_page,
    publish_report,
    write_report,
)
from tasks.repository.release_history import read_history
from tasks.repository.workspace import DEFAULT_BRANCH, move_workspace, open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name


@flow(
    name="monitor",
    flow_run_name=run_name("monitor {environment} {window}"),
    timeout_seconds=2 * 3600,
)
@stop_when_cancelled
async def monitor(
    environment: EnvironmentName = "local", window: WindowOrNone = ""
) -> State[dict[str, Any]]:
    """Compare the requests of a window with the data that the live version was trained on.

    The report is an artifact, and a page in the bucket. If enough of the newest windows differ, an
    alarm emits the event `slipway.drift`, and starts a retrain. A window has one report, however
    often and by how many runs it is made.

    Args:
        environment: Name of a file in deployments/environments.
        window: A day, as `2026-11-30`, or start and end, as `2026-11-30T08:00/2026-11-30T12:00`, in
            UTC; empty for yesterday.

    Returns:
        The report; empty if nothing was live.
    """
    settings = load_environment(environment)
    span = parse_span(window, datetime.now(UTC))
    async with open_workspace(DEFAULT_BRANCH, signed_tags=settings.signed) as newest:
        history = await read_history(newest, environment)
        entry = next((entry for entry in history if entry.at < span.end), None)
        if entry is None:
            message = f"nothing was live in {environment} by the end of {span.text}"
            return Completed(message=message, data={})
        workspace = await move_workspace(newest, entry.commit)
        release = await read_release(workspace, entry, gate_rules(settings))
    rules = settings.monitor
    source = f"/{release.model}/{environment}"
    records = await read_log(source, release.version, span, rules.label_days)
    labels = await read_labels(rules.labels, records.answers)
    report = await asyncio.to_thread(judge_window, records, release, rules, labels)
    former, others = await read_reports(report, timedelta(hours=rules.cool_down_hours))
    report = raise_alarm(report, former, others, rules, is_live=entry is history[0])
    profile = release.reference.profile if release.reference else None
    text = await write_report(report, profile, records.answers, rules.distance)
    if report.acts and not (former and former.acts):
        await act_on_alarm(report, retrain=rules.retrain)
    # Stored after it acted: a run that is killed in between acts again, with the same key.
    await store_report(report, make_page(report, text))
    await publish_report(report, text)
    if all(other.end <= report.end for other in others):  # gauges are of the newest window
        write_gauges(Settings().gauges, report)
    if rules.evidently and release.reference and report.findings:
        further = await try_evidently(release.reference, records.answers)
        text += describe_evidently(report, further)
        await store_report(report, make_page(report, text), further.content)
        await publish_report(report, text, has_evidently=bool(further.content))
    name = "Alarm" if report.alarm else "Completed"
    data = report.model_dump(mode="json")
    return Completed(name=name, message=f"{span.text}: {report.summary}", data=data)
