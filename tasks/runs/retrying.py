"""The decorator of every task: retries of transient errors, a time-out, no cached results."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from tasks.core.disk import explaining_disk_errors
from tasks.core.errors import TransientError

P = ParamSpec("P")
R = TypeVar("R")
AsyncFunction = Callable[P, Coroutine[Any, Any, R]]

_RETRIES = int(os.environ.get("SLIPWAY_RETRIES", "4"))
_BACKOFF_SECONDS = float(os.environ.get("SLIPWAY_BACKOFF_SECONDS", "2"))


async def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Check that another try of a failed task run can help.

    Args:
        task: The task.
        run: Its run.
        state: The final state, with the exception.

    Returns:
        True for a `TransientError` and for a run that took too long.
    """
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, TransientError | TimeoutError)


def without_prefect(function: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
    """Return the function of a task, for programs that are no flows.

    Outside of a flow a task would start a Prefect server.
    """
    return cast(Task[P, Coroutine[Any, Any, R]], function).fn


def capability(
    name: str, *, run_name: str | Callable[[], str] | None = None, timeout: float = 600.0
) -> Callable[[AsyncFunction[P, R]], AsyncFunction[P, R]]:
    """Make a function a Prefect task that is retried, with back-off, when that can help.

    Args:
        name: Name of the task in the UI: a verb and its object.
        run_name: Template over the arguments, for instance `"upload {package.label}"`, or a
            function that returns the name.
        timeout: Seconds for one try.
    """

    def decorate(function: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with explaining_disk_errors():
                return await function(*args, **kwargs)

        return task(
            name=name,
            task_run_name=run_name,
            retries=_RETRIES,
            retry_delay_seconds=exponential_backoff(_BACKOFF_SECONDS),
            retry_jitter_factor=0.5,
            retry_condition_fn=is_transient,
            timeout_seconds=timeout,
            cache_policy=NO_CACHE,
        )(run)

    return decorate
