"""The automations by which the Prefect server handles runs that are lost, crash, are late or fail.

Declarations only: `resources/automations.py` applies them. They hold for every run with the tag
`slipway`, and need a server on PostgreSQL, as events of several runs at once lock SQLite; see
`docs/architecture.md`, "Self-healing".
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypesOrUnknown, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.catalogue.automation_timeouts import Timeouts
from deployments.catalogue.resources.automations import PREFIX
from tasks.core.settings import TAG

# Of a deployment whose runs may run again at any time, whatever they had done before.
IDEMPOTENT = "idempotent"
# Flows whose failure notifies people.
_NOTIFYING = ["deploy", "monitor", "retrain", "rollback", "score", "status", "watch"]
_FAILURES = ("Failed", "DataRejected", "Unhealthy", "RolledBack", "Crashed", "TimedOut")
_EVENT = "prefect.flow-run."
_ANY = {f"{_EVENT}*"}
_FACTS = """\
{{ flow_run.name }}: {{ flow_run.state.name }}.

{{ flow_run.state.message or "No reason was given." }}

Run: {{ flow_run|ui_url }}"""

_DRIFT = """\
{{ event.payload.window }}: {{ event.payload.summary }}

{{ event.payload.retrain }}
The report: slipway open report {{ event.payload.environment }}"""


def declare_automations(
    notify: UUID | None, timeouts: Timeouts | None = None
) -> list[AutomationCore]:
    """Return every automation that the server should have.

    Args:
        notify: Id of the block `slipway-notify`; without one, nobody is notified.
        timeouts: Time-outs; by default those of the environment.

    Returns:
        The automations, identified by their names, which begin with `slipway: `.
    """
    timeouts = timeouts or Timeouts.from_environment()
    return [
        _lost(timeouts),
        _lost_before_start(timeouts),
        _lost_while_cancelling(timeouts),
        _crashed(),
        _late(timeouts, notify),
        *([_failed(notify), _drifted(notify)] if notify else []),
    ]


def _lost(timeouts: Timeouts) -> AutomationCore:
    return _end_silent_run(
        "crash runs without heartbeats",
        "The process of the run is gone, or cannot reach the server. Frees its slot.",
        after={f"{_EVENT}Running", f"{_EVENT}heartbeat"},
        within=timedelta(seconds=timeouts.lost_seconds),
        becomes=StateType.CRASHED,
        message=f"no heartbeat for {timeouts.lost_seconds:.0f} s: its worker or its process was"
        " killed, or cannot reach the Prefect server",
    )


def _lost_before_start(timeouts: Timeouts) -> AutomationCore:
    return _end_silent_run(
        "crash runs that do not start",
        "The worker was killed while it started the run. Frees its slot.",
        after={f"{_EVENT}Pending"},
        within=timedelta(minutes=timeouts.start_minutes),
        becomes=StateType.CRASHED,
        message=f"not started {timeouts.start_minutes:g} minutes after a worker took the run: the"
        " worker was killed, or its infrastructure starts slower. Read the worker's log, then run"
        " it again",
    )


def _lost_while_cancelling(timeouts: Timeouts) -> AutomationCore:
    return _end_silent_run(
        "cancel runs whose worker is gone",
        "Somebody cancelled the run, and its worker is gone. Not crashed: it would run again.",
        after={f"{_EVENT}Cancelling"},
        within=timedelta(seconds=timeouts.lost_seconds),
        becomes=StateType.CANCELLED,
        message="the worker did not confirm that it stopped the run: the worker is gone",
    )


def _end_silent_run(
    name: str,
    description: str,
    *,
    after: set[str],
    within: timedelta,
    becomes: StateType,
    message: str,
) -> AutomationCore:
    """Return an automation that puts a run without events into a final state."""
    return AutomationCore(
        name=f"{PREFIX}{name}",
        description=description,
        trigger=_silence(after=after, within=within),
        actions=[_become(becomes, becomes.value.capitalize(), message)],
    )


def _crashed() -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}run crashed runs again, once",
        description="Restarts the same run. Only for deployments tagged `idempotent`.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={f"{_EVENT}Crashed"},
            # Only after the first crash: a second one, or one at the start, needs a person.
            # Subflow runs belong to no deployment; they restart with their parent.
            match=_resource({"prefect.resource.id": f"{_EVENT}*", "prefect.run-count": "1"}),
            match_related=[
                _tagged(IDEMPOTENT),
                _related("deployment", {"prefect.resource.id": "prefect.deployment.*"}),
            ],
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            _become(
                StateType.SCHEDULED,
                "AwaitingRetry",
                "the run crashed and restarts by itself, once",
            )
        ],
    )


def _late(timeouts: Timeouts, notify: UUID | None) -> AutomationCore:
    hours = f"{timeouts.late_hours:g} hours"
    actions: list[ActionTypesOrUnknown] = [
        _become(
            StateType.CANCELLED,
            "Cancelled",
            f"late for {hours}: no worker has started the run. Start a worker of its work pool,"
            " then run it again",
        )
    ]
    if notify:
        actions.append(
            SendNotification(
                block_document_id=notify,
                subject="Slipway: a run of {{ flow.name }}/{{ deployment.name }} was cancelled",
                body=f"No worker has started it for {hours}.\n\nRun: {{{{ flow_run|ui_url }}}}",
            )
        )
    return AutomationCore(
        name=f"{PREFIX}cancel runs that are too late",
        description="A worker that returns does not do yesterday's work.",
        # A run that is to be retried never becomes Late in Prefect.
        trigger=_silence(
            after={f"{_EVENT}Late", f"{_EVENT}AwaitingRetry"},
            within=timedelta(hours=timeouts.late_hours),
        ),
        actions=actions,
    )


def _failed(notify: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}notify when a deploy, retrain, rollback, watch, monitor, score or status"
        " check fails",
        description="The live model goes on serving, unless `status` failed.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={f"{_EVENT}{name}" for name in _FAILURES},
            match=_resource({"prefect.resource.id": f"{_EVENT}*"}),
            match_related=[_tagged(TAG), _related("flow", {"prefect.resource.name": _NOTIFYING})],
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=notify,
                subject="Slipway: {{ flow_run.name }} failed",
                body=_FACTS,
            )
        ],
    )


def _drifted(notify: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}notify when live requests differ from the training data",
        description="The flow `monitor` has raised an alarm that acts.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"slipway.drift"},
            match=_resource({"prefect.resource.id": "slipway.environment.*"}),
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=notify, subject="Slipway: {{ event.resource.name }}", body=_DRIFT
            )
        ],
    )


def _silence(*, after: set[str], within: timedelta) -> EventTrigger:
    """Return a trigger that fires when a run emits no event for a time after one of these."""
    return EventTrigger(
        posture=Posture.Proactive,
        after=after,
        expect=_ANY,  # custom states are events too; the end of a run disarms the trigger
        match=_resource({"prefect.resource.id": f"{_EVENT}*"}),
        match_related=_tagged(TAG),
        for_each={"prefect.resource.id"},
        threshold=1,
        within=within,
    )


def _become(state: StateType, name: str, message: str) -> ChangeFlowRunState:
    # Not forced: the run may have ended meanwhile.
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _tagged(tag: str) -> ResourceSpecification:
    return _related("tag", {"prefect.resource.id": f"prefect.tag.{tag}"})


def _related(role: str, labels: dict[str, str | list[str]]) -> ResourceSpecification:
    return _resource({"prefect.resource.role": role, **labels})


def _resource(labels: dict[str, str | list[str]]) -> ResourceSpecification:
    return ResourceSpecification.model_validate(labels)
