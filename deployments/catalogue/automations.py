"""What the Prefect server does by itself when a run is lost, crashes, is late or fails.

Declarations only: `declared()` says what there should be, applying it is another module's business.
They are for every run with the tag `slipway`. On SQLite automations lock the database and fire
twice, so there they are left out; see `docs/architecture.md`, "Self-healing".
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.catalogue.automation_timeouts import Patience
from deployments.catalogue.resources.automations import PREFIX
from tasks.core.settings import TAG

# Of a deployment whose runs may run again at any time, whatever they had done before.
IDEMPOTENT = "idempotent"
# Flows that people want to hear of when they do not end well.
_TOLD = ["deploy", "rollback", "status"]
_EVENT = "prefect.flow-run."
_ANY = {f"{_EVENT}*"}
_FACTS = """\
{{ flow_run.name }}: {{ flow_run.state.name }}.

{{ flow_run.state.message or "No reason was given." }}

Run: {{ flow_run|ui_url }}"""


def declared(notify: UUID | None, patience: Patience | None = None) -> list[AutomationCore]:
    """Every automation that the server should have.

    Args:
        notify: Id of the block `slipway-notify`; without one nobody is told of anything.
        patience: How long to wait; by default what the environment says.

    Returns:
        The automations; their names, which begin with `slipway: `, are what identifies them.
    """
    patience = patience or Patience.from_environment()
    return [
        _lost(patience),
        _lost_before_start(patience),
        _lost_while_cancelling(patience),
        _crashed(),
        _late(patience, notify),
        *([_failed(notify)] if notify else []),
    ]


def _lost(patience: Patience) -> AutomationCore:
    return _settled(
        "a run without heartbeats has crashed",
        "Its process is gone, or cannot reach the server. Frees the slot it holds.",
        after={f"{_EVENT}Running", f"{_EVENT}heartbeat"},
        within=timedelta(seconds=patience.lost_seconds),
        becomes=StateType.CRASHED,
        message=f"no heartbeat for {patience.lost_seconds:.0f} s: its worker or its process was"
        " killed, or cannot reach the Prefect server",
    )


def _lost_before_start(patience: Patience) -> AutomationCore:
    return _settled(
        "a run that does not start has crashed",
        "Its worker was killed as it took it. Frees the slot it holds.",
        after={f"{_EVENT}Pending"},
        within=timedelta(minutes=patience.start_minutes),
        becomes=StateType.CRASHED,
        message=f"not started {patience.start_minutes:g} minutes after a worker took it: the worker"
        " was killed, or what it starts runs in takes longer. See its log, then run it again",
    )


def _lost_while_cancelling(patience: Patience) -> AutomationCore:
    return _settled(
        "a run that nobody cancels is cancelled",
        "Its worker is gone. Not crashed: it would run again, which nobody wants.",
        after={f"{_EVENT}Cancelling"},
        within=timedelta(seconds=patience.lost_seconds),
        becomes=StateType.CANCELLED,
        message="its worker did not confirm that it was stopped: it is gone",
    )


def _settled(
    name: str,
    description: str,
    *,
    after: set[str],
    within: timedelta,
    becomes: StateType,
    message: str,
) -> AutomationCore:
    """A run of which nothing is heard any more gets a state that is final."""
    return AutomationCore(
        name=f"{PREFIX}{name}",
        description=description,
        trigger=_silence(after=after, within=within),
        actions=[_become(becomes, becomes.value.capitalize(), message)],
    )


def _crashed() -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}a crashed run is run again, once",
        description="The same run, so nothing is doubled. Only deployments tagged `idempotent`.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={f"{_EVENT}Crashed"},
            # How often it has run: after a second crash, or one at the start, people should look.
            # Subflow runs belong to no deployment; they come with the run that started them.
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
                "it crashed, and is run again by itself, once",
            )
        ],
    )


def _late(patience: Patience, notify: UUID | None) -> AutomationCore:
    hours = f"{patience.late_hours:g} hours"
    actions: list[ActionTypes] = [
        _become(
            StateType.CANCELLED,
            "Cancelled",
            f"late for {hours}: no worker has started it. Start a worker of its work pool,"
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
        name=f"{PREFIX}a run that is late for too long is cancelled",
        description="So that a worker that comes back does not do yesterday's work.",
        # Prefect calls no run late that is to be tried again.
        trigger=_silence(
            after={f"{_EVENT}Late", f"{_EVENT}AwaitingRetry"},
            within=timedelta(hours=patience.late_hours),
        ),
        actions=actions,
    )


def _failed(notify: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}a deploy, rollback or status that does not succeed is told",
        description="What was live goes on serving, unless it is `status` that fails.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={f"{_EVENT}{name}" for name in ("Failed", "Unhealthy", "Crashed", "TimedOut")},
            match=_resource({"prefect.resource.id": f"{_EVENT}*"}),
            match_related=[_tagged(TAG), _related("flow", {"prefect.resource.name": _TOLD})],
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=notify,
                subject="Slipway: {{ flow_run.name }} did not succeed",
                body=_FACTS,
            )
        ],
    )


def _silence(*, after: set[str], within: timedelta) -> EventTrigger:
    """Fires when nothing is heard of a run for some time after one of these events."""
    return EventTrigger(
        posture=Posture.Proactive,
        after=after,
        expect=_ANY,  # also states of names of ours; a run that has ended is left alone
        match=_resource({"prefect.resource.id": f"{_EVENT}*"}),
        match_related=_tagged(TAG),
        for_each={"prefect.resource.id"},
        threshold=1,
        within=within,
    )


def _become(state: StateType, name: str, message: str) -> ChangeFlowRunState:
    # Not by force: what has ended meanwhile has ended.
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _tagged(tag: str) -> ResourceSpecification:
    return _related("tag", {"prefect.resource.id": f"prefect.tag.{tag}"})


def _related(role: str, labels: dict[str, str | list[str]]) -> ResourceSpecification:
    return _resource({"prefect.resource.role": role, **labels})


def _resource(labels: dict[str, str | list[str]]) -> ResourceSpecification:
    return ResourceSpecification.model_validate(labels)
