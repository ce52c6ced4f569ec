"""The order in which the stack's Prefect server takes events: Prefect's own, over restarts too.

The change of a run's state follows the one before, and automations take it after that. Prefect
remembers in memory alone which it has taken. So after a restart the next change of each run would
wait 15 minutes for one that will not come again, and a run that crashes would be run again so late.
"""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import Event

_STARTED_AT = time.time()


class CausalOrdering(memory.CausalOrdering):
    """Prefect's order; what is from before this process has been taken, or never will be."""

    # Of its own: Prefect returns one instance for each scope.
    _instances: dict[str, memory.CausalOrdering] = {}  # noqa: RUF012
    _locks: dict[str, asyncio.Lock] = {}  # noqa: RUF012

    async def event_has_been_seen(self, event: UUID | Event) -> bool:
        """Return whether an event need not be waited for."""
        number = event.id if isinstance(event, Event) else event
        return _is_older(number) or await super().event_has_been_seen(event)


def _is_older(number: UUID) -> bool:
    """Return whether an identifier, that of a state of a run, was made before this process."""
    made_at = (number.int >> 80) / 1000  # version 7 begins with milliseconds
    return number.version == 7 and made_at < _STARTED_AT
