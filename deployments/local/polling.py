"""Ask the Prefect server for runs as soon as its events say that there may be one.

Prefect's worker asks at a fixed interval: with a short one, half of what an idle server does is to
say no. This asks upon each event that may have made a run due or freed a slot, when a run with a
later start comes due, and every 15 s for what no event reports, such as the runs that the server
makes for schedules. While no events come, it asks each second.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseWorker

Subscriber = AbstractAsyncContextManager[AsyncIterator[Event]]

_RUNS = "prefect.flow-run."
# The pool and its queues: somebody may have resumed one, or allowed more runs at once.
_OTHERS = ("prefect.work-pool.", "prefect.work-queue.")
# States that make no run due and free no slot. Heartbeats are events without a state.
_IRRELEVANT_STATES = frozenset({None, "PENDING", "RUNNING", "CANCELLING"})
# What a run becomes that was started while another had its slot. To start it again at once would
# give the same answer, and the same event.
_NO_SLOT = "AwaitingConcurrencySlot"
_RECONNECT_SECONDS = 1.0


@dataclass(frozen=True)
class Pauses:
    """Seconds between two polls.

    Args:
        idle: With nothing due. Prefect calls a queue that nobody polls for 60 s not ready.
        due: While a run that is due has not started, and while no events come.
        no_slot: While a run waits for a slot, for what no event tells of: a lease that is over.
        after_event: If a poll upon an event has not found what it announced. The server sends an
            event before it commits the change.
    """

    idle: float = 15.0
    due: float = 1.0
    no_slot: float = 3.0
    after_event: float = 0.3


PAUSES = Pauses()


def subscribe() -> Subscriber:
    """Return a connection to the events of runs, pools and queues, not yet open."""
    events = EventFilter(event=EventNameFilter(prefix=[_RUNS, *_OTHERS]))
    return get_events_subscriber(filter=events, reconnection_attempts=0)


class Poller:
    """Polls for a worker, until it is cancelled.

    Args:
        worker: The worker, which may still be setting itself up.
        pool: Its work pool.
        prefetch_seconds: How long before its time the worker starts a run.
        subscribe: Returns a new connection to the server's events.
        pauses: Seconds between two polls.
    """

    def __init__(
        self,
        worker: BaseWorker[Any, Any, Any],
        pool: str,
        prefetch_seconds: int,
        *,
        subscribe: Callable[[], Subscriber] = subscribe,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._worker = worker
        self._pool = pool
        self._prefetch = datetime.timedelta(seconds=prefetch_seconds)
        self._subscribe = subscribe
        self._pauses = pauses
        self._has_events = False
        self._wake = asyncio.Event()
        self._new_runs: set[UUID] = set()

    async def run(self) -> None:
        """Listen and poll."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._poll())

    def take(self, event: Event) -> None:
        """Wake for an event that may have made a run due or freed a slot."""
        if event.event.startswith(_RUNS):
            state = event.resource.get("prefect.state-type")
            if state in _IRRELEVANT_STATES or event.event == _RUNS + _NO_SLOT:
                return
            if state == "SCHEDULED":
                self._new_runs.add(UUID(event.resource.id.removeprefix(_RUNS)))
        self._wake.set()

    async def _listen(self) -> None:
        is_outage = False
        while True:
            try:
                async with self._subscribe() as events:
                    print("the worker gets the events of the Prefect server", flush=True)
                    self._has_events, is_outage = True, False
                    self._wake.set()  # there may be runs of the time without events
                    async for event in events:
                        self.take(event)
                reason = "the server closed the connection"
            except Exception as error:  # Prefect raises bare Exceptions, besides those of sockets
                reason = f"{type(error).__name__}: {error}"
            self._has_events = False
            self._wake.set()
            if not is_outage:  # once: the next attempts fail for the same reason
                print(f"the worker gets no events, and polls instead: {reason}", flush=True)
                is_outage = True
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _poll(self) -> None:
        while True:
            upon_event = self._wake.is_set()
            self._wake.clear()
            pause = self._pauses.due
            # Neither is for long: the server starts again, or the pool is about to be made.
            with contextlib.suppress(httpx.HTTPError, ObjectNotFound):
                if self._worker.is_setup:
                    pause = await self._start_runs(upon_event=upon_event)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def _start_runs(self, *, upon_event: bool) -> float:
        """Start what is due; return the seconds until the next poll."""
        expected, self._new_runs = self._new_runs, set()
        starting = await self._worker.get_and_submit_flow_runs()
        now = datetime.datetime.now(datetime.UTC)
        ahead = datetime.timedelta(seconds=self._pauses.idle + self._pauses.due)
        rows = await self._worker.client.get_scheduled_flow_runs_for_work_pool(
            self._pool, scheduled_before=now + self._prefetch + ahead
        )
        runs = [row.flow_run for row in rows]
        known = {run.id for run in (*starting, *runs)}
        # Looked for twice: a run that is due another day, or in another pool, is never found.
        if upon_event and (missing := expected - known):
            self._new_runs |= missing
            return self._pauses.after_event
        if not self._has_events:
            return self._pauses.due
        return self.pause(runs, now, upon_event=upon_event)

    def pause(self, runs: Sequence[FlowRun], now: datetime.datetime, *, upon_event: bool) -> float:
        """Return the seconds until the next poll.

        Args:
            runs: Runs that are to start, due or soon.
            now: The time of the last poll.
            upon_event: Whether that was because of an event.
        """
        seconds = self._pauses.idle
        for run in runs:
            if (start := run.next_scheduled_start_time) is None:
                continue
            # Its slot may be free already, and that not yet be committed.
            if upon_event and start - self._prefetch <= now:
                return self._pauses.after_event
            if run.state_name == _NO_SLOT:
                seconds = min(seconds, self._pauses.no_slot)
            else:
                left = (start - self._prefetch - now).total_seconds()
                seconds = min(seconds, max(left, self._pauses.due))
        return seconds
