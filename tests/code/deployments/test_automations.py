"""What is declared, without a server; `test_self_healing.py` sees it work."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import get_current_settings

from deployments.catalogue.automation_timeouts import HEARTBEAT_SECONDS, Timeouts
from deployments.catalogue.automations import declare_automations
from deployments.catalogue.prefect_yaml import Manifest
from deployments.catalogue.resources.automations import PREFIX
from tasks.core.settings import CHECKOUT

_GRANULARITY = get_current_settings().server.events.proactive_granularity


def by_name(automations: list[AutomationCore]) -> dict[str, EventTrigger]:
    triggers = {}
    for automation in automations:
        assert isinstance(automation.trigger, EventTrigger)
        triggers[automation.name.removeprefix(PREFIX)] = automation.trigger
    return triggers


def test_names_have_our_prefix_and_differ() -> None:
    names = [automation.name for automation in declare_automations(uuid4())]
    assert all(name.startswith("slipway: ") for name in names)
    assert len(set(names)) == len(names)


def test_command_of_every_run_sets_the_heartbeat() -> None:
    command = Manifest.read(CHECKOUT).pool["command"].split()
    assert f"PREFECT_FLOWS_HEARTBEAT_FREQUENCY={HEARTBEAT_SECONDS}" in command


def test_lost_run_crashes_within_two_minutes_and_survives_a_missed_heartbeat() -> None:
    lost = by_name(declare_automations(None))["crash runs without heartbeats"]
    assert lost.within + _GRANULARITY <= timedelta(minutes=2)
    assert lost.within >= timedelta(seconds=2 * HEARTBEAT_SECONDS)


def test_only_our_runs_are_changed() -> None:
    for name, trigger in by_name(declare_automations(uuid4())).items():
        if name == "notify when live requests differ from the training data":
            continue  # it is of no run, and changes none
        related = trigger.match_related
        specifications = related if isinstance(related, list) else [related]
        tags = [
            str(specification)
            for specification in specifications
            if "prefect.tag." in str(specification)
        ]
        assert tags
        assert trigger.for_each == {"prefect.resource.id"}


def test_any_event_of_a_run_is_a_sign_of_life() -> None:
    for trigger in by_name(declare_automations(None)).values():
        if trigger.posture == Posture.Proactive:
            assert trigger.expect == {"prefect.flow-run.*"}


def test_without_a_block_nobody_is_notified() -> None:
    actions = [
        action.type for automation in declare_automations(None) for action in automation.actions
    ]
    assert set(actions) == {"change-flow-run-state"}
    notifying = [item for item in declare_automations(uuid4()) if "send-notification" in
            [action.type for action in item.actions]]  # fmt: skip
    assert len(notifying) == 3


def test_failed_releases_and_status_checks_notify() -> None:
    notify = by_name(declare_automations(uuid4()))[
        "notify when a deploy, retrain, rollback, watch, monitor, score or status check fails"
    ]
    names = {event.removeprefix("prefect.flow-run.") for event in notify.expect}
    assert {"DataRejected", "Failed", "Unhealthy", "RolledBack"} <= names
    assert "['deploy', 'monitor', 'retrain', 'rollback', 'score', 'status', 'watch']" in str(
        notify.match_related
    )


def test_timeouts_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LATE_HOURS", "1.5")
    late = by_name(declare_automations(None))["cancel runs that are too late"]
    assert late.within == timedelta(minutes=90)
    assert Timeouts(late_hours=2).late_hours == 2
