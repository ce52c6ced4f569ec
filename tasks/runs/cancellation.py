"""The watch of each flow run for its own cancellation, which outlives outages of the server.

Prefect watches from the process that started the run, but gives up for good after three failed
looks, half a minute of outage: from then on such a run could not be cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled

P = ParamSpec("P")
R = TypeVar("R")

_LOOK_SECONDS = 15.0
# Prefect's own watch looks every 10 s, and kills 30 s later what has not ended by itself: it has
# given up if the run is still there after this time. Earlier, its clean-up would be interrupted.
_GRACE_SECONDS = 60.0
_MESSAGE = "the run stopped itself: Prefect's own watch for cancellations had given up"


def stop_when_cancelled(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a flow end as Cancelled, cleaned up, if nobody else stops it when it is cancelled."""

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        limit = asyncio.timeout(None)
        try:
            async with limit, _watch(limit):
                return await function(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
        return cast("R", Cancelled(message=_MESSAGE))  # Prefect takes it as the run's state

    # Prefect looks for the types of a flow's parameters in this module otherwise.
    run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return run


@contextlib.asynccontextmanager
async def _watch(limit: asyncio.Timeout) -> AsyncIterator[None]:
    """Watch the flow run beside a block of code, which ends once the run stays cancelled."""
    task = asyncio.create_task(_end_if_cancelled(UUID(flow_run.get_id()), limit))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])  # until its connection is closed


async def _end_if_cancelled(run_id: UUID, limit: asyncio.Timeout) -> None:
    """Let the time of a block of code be up once its flow run has been cancelled for a while."""
    loop = asyncio.get_running_loop()
    since: float | None = None
    async with get_client() as client:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                state = (await client.read_flow_run(run_id)).state
            except (httpx.HTTPError, PrefectException):
                continue  # an outage
            if state is None or not state.is_cancelling():
                since = None
                continue
            since = since or loop.time()
            if loop.time() - since >= _GRACE_SECONDS:
                return limit.reschedule(loop.time())
