from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import pytest

from tasks.core.threads import in_thread


async def _by_task(work: Callable[[], Awaitable[None]], begun: threading.Event) -> None:
    task = asyncio.ensure_future(work())
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _by_timeout(work: Callable[[], Awaitable[None]], begun: threading.Event) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await work()


async def _by_scope(work: Callable[[], Awaitable[None]], begun: threading.Event) -> None:
    with anyio.move_on_after(0.1) as scope:
        await work()
    assert scope.cancelled_caught


@pytest.mark.parametrize("cancelled", [_by_task, _by_timeout, _by_scope])
@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_caller_waits_for_its_thread(
    cancelled: Callable[[Callable[[], Awaitable[None]], threading.Event], Awaitable[None]],
    fails: bool,
) -> None:
    begun, done = threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        threading.Event().wait(0.4)
        done.set()
        if fails:
            raise ValueError("too late to be told")

    await cancelled(lambda: in_thread(act), begun)
    assert done.is_set()


async def test_result_and_exception_are_passed_on() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)
