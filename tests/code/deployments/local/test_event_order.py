"""Automations of a Prefect server that was restarted act at once, not 15 minutes later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.server.events.ordering import EventArrivedEarly, memory
from prefect.server.events.schemas.events import ReceivedEvent, Resource

from deployments.local.event_order import CausalOrdering


def _number(made_at: datetime) -> UUID:
    """Return an identifier of version 7."""
    milliseconds = int(made_at.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | uuid4().int & (1 << 62) - 1)


def _event(follows: UUID) -> ReceivedEvent:
    now = datetime.now(UTC)
    resource = Resource({"prefect.resource.id": "prefect.flow-run.one"})
    return ReceivedEvent(
        id=uuid4(), follows=follows, event="prefect.flow-run.Crashed", occurred=now, received=now,
        resource=resource,
    )  # fmt: skip


async def test_event_does_not_wait_for_one_from_before_the_restart() -> None:
    now = datetime.now(UTC)
    crashed = _event(_number(now - timedelta(minutes=2)))
    with pytest.raises(EventArrivedEarly):
        await memory.CausalOrdering("a test").wait_for_leader(crashed)
    await CausalOrdering("a test").wait_for_leader(crashed)
    for follows in (_number(now + timedelta(seconds=1)), uuid4()):
        with pytest.raises(EventArrivedEarly):
            await CausalOrdering("a test").wait_for_leader(_event(follows))
