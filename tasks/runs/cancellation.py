"""How each flow run ends when it is cancelled: surely, and where it waits.

Prefect watches from the process that started the run, but gives up for good after three failed
looks, half a minute of outage: from then on such a run could not be cancelled. So each run has a
watch of its own. If Prefect does see the cancellation, it sends SIGTERM, see `_end_where_it_waits`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException, TerminationSignal
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
            with _end_where_it_waits():
                async with limit, _watch(limit):
                    return await function(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
        return cast("R", Cancelled(message=_MESSAGE))  # Prefect takes it as the run's state

    # Prefect looks for the types of a flow's parameters in this module otherwise.
    run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return run


@contextlib.contextmanager
def _end_where_it_waits() -> Iterator[None]:
    """Let SIGTERM cancel what the flow waits for, once, and raise what Prefect then expects.

    Prefect's own handler raises between any two instructions of the main thread. If these are of a
    callback of the event loop, asyncio logs the exception, and the run goes on until it is killed.

    Raises:
        TerminationSignal: The signal came.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread alone
        return
    is_asked = False

    def cancel(*_: object) -> None:
        nonlocal is_asked
        if not is_asked:  # another one would break off the clean-up
            is_asked = True
            loop.call_soon_threadsafe(task.cancel)

    handler_before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    except asyncio.CancelledError:
        if not is_asked:
            raise
        task.uncancel()
        raise TerminationSignal(signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, handler_before)


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
