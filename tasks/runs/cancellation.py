"""How each flow run ends when it is cancelled, whatever is lost on the way.

Prefect watches from the process that started the run, but gives up for good after three failed
looks, half a minute of outage: from then on such a run could not be cancelled. So each run has a
watch of its own. If Prefect does see the cancellation, it sends SIGTERM, see `_lose_no_signal`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import signal
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
            with _lose_no_signal():
                async with limit, _watch(limit):
                    return await function(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
        return cast("R", Cancelled(message=_MESSAGE))  # Prefect takes it as the run's state

    # Prefect looks for the types of a flow's parameters in this module otherwise.
    run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return run


class _Termination(TerminationSignal, SystemExit):
    """Prefect's exception upon SIGTERM, of a kind that the event loop passes on from a callback."""

    code = 1  # of the process, as without this class


@contextlib.contextmanager
def _lose_no_signal() -> Iterator[None]:
    """Let SIGTERM end the event loop also while it runs a callback.

    Prefect's handler raises between any two instructions. If these are of a callback, asyncio logs
    the exception, and the run goes on until it is killed. Another handler is no way out: without
    its own, Prefect takes the end of the run for a crash.

    Raises:
        TerminationSignal: From the loop, whose tasks are cancelled then.
    """
    loop = asyncio.get_running_loop()
    handler_before = loop.get_exception_handler()

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), TerminationSignal):
            raise _Termination(signal.SIGTERM) from error
        if handler_before:
            handler_before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(handler_before)


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
