"""The consequences of an alarm: an event for whoever listens, and a retrain."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

import httpx
from prefect.deployments import arun_deployment
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound

from tasks.core import commands
from tasks.core.errors import ConfigurationError, TransientError
from tasks.monitoring.report import Report
from tasks.runs.retrying import capability

EVENT = "slipway.drift"
_RETRAIN = "retrain/retrain"
_RETRAIN_STARTS = (
    'A retrain starts. If it ends with "nothing to retrain", get newer data or labels.'
)
_RETRAIN_IS_OFF = "No retrain starts: `monitor.retrain` of the environment is false."


@capability("act on alarm", run_name="act on the alarm of {report.environment}", timeout=60)
async def act_on_alarm(report: Report, *, retrain: bool) -> None:
    """Emit the event of an alarm, and start a retrain on the newest data.

    Two runs on the same window start one retrain. It is not left to an automation of the event:
    those need a server on PostgreSQL, and would start one for each run.

    Args:
        report: A report whose alarm acts.
        retrain: Whether to start the retrain.

    Raises:
        ConfigurationError: The Prefect server lacks the deployment of `retrain`.
        TransientError: The Prefect server does not answer.
    """
    name = f"{report.model}/{report.environment}/{report.span.name}"
    emit_event(
        EVENT,
        resource={
            "prefect.resource.id": f"slipway.environment.{report.environment}",
            "prefect.resource.name": f"{report.model} in {report.environment}",
        },
        payload={
            "model": report.model,
            "environment": report.environment,
            "version": report.version,
            "window": report.span.text,
            "summary": report.summary,
            "reasons": list(report.reasons),
            "retrain": _RETRAIN_STARTS if retrain else _RETRAIN_IS_OFF,
        },
        id=uuid5(NAMESPACE_URL, f"{EVENT}/{name}"),
    )
    if not retrain:
        return
    parameters = {"environment": report.environment}
    try:
        run = await arun_deployment(
            _RETRAIN,
            parameters=parameters,
            timeout=0,
            as_subflow=False,
            idempotency_key=f"{EVENT}/{name}",
        )
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"cannot start the retrain of an alarm: the Prefect server has no {_RETRAIN}",
            state="the report on the window is not stored",
            next_step="run `slipway apply`, then `monitor` again on the same window",
        ) from error
    except httpx.HTTPError as error:
        raise TransientError(
            f"cannot start the retrain of an alarm: {error!r}",
            state="the report on the window is not stored",
            next_step="check PREFECT_API_URL and the server, then run `monitor` again on the same"
            " window",
        ) from error
    commands.run_logger().warning(
        'the alarm has started %s; if it ends with "nothing to retrain", get newer data or labels',
        run.name,
    )
