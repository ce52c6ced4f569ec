"""Blocking calls in threads; a cancelled caller waits for their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a thread.

    A thread cannot be stopped. After a cancelled `asyncio.to_thread`, it could still start a server
    or switch the traffic, when a rollback has already read the state of the platform.

    Args:
        function: The function; it takes no longer than its clients' time-outs.
        args: Its arguments.
        kwargs: Its named arguments.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            await call
        raise
