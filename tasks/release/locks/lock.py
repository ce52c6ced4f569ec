"""Holding the lock of an environment, and waiting until it is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from tasks.core.commands import run_logger
from tasks.core.disk import explaining_disk_errors
from tasks.core.errors import TransientError
from tasks.platforms.base.settings import CANARY_SECONDS, Environment, HostEnvironment
from tasks.platforms.base.shadow import SHADOW_SECONDS
from tasks.release.locks.holder import Holder
from tasks.release.locks.host import HostLock
from tasks.release.locks.shared import SharedLock

# Longer than a deploy may take, and short enough to deploy before the flow's own time-out.
_WAIT_SECONDS = SHADOW_SECONDS + CANARY_SECONDS + 1800.0


class Lock(Protocol):
    """A lock that one flow run holds at a time."""

    name: str
    poll_seconds: float

    async def take(self, holder: Holder) -> bool:
        """Take the lock, unless another run holds it; do not wait."""

    async def read_holder(self) -> Holder | None:
        """Return the holder, None if there is none or it is unknown."""

    def keep(self) -> AbstractAsyncContextManager[None]:
        """Keep the lock for a block of code, then release it."""


def lock_of(environment: Environment) -> Lock:
    """Return the lock of an environment: one of this host if it lives here, else of all hosts."""
    if isinstance(environment, HostEnvironment):
        return HostLock(environment.name)
    return SharedLock(environment.name)


@asynccontextmanager
async def hold(lock: Lock, version: str, *, wait: float = _WAIT_SECONDS) -> AsyncIterator[None]:
    """Hold a lock for a block of code; wait until it is free.

    Args:
        lock: The lock.
        version: The model version to deploy, shown to runs that wait for this one.
        wait: Seconds to wait for the lock.

    Raises:
        TransientError: Another run still held the lock after that time, or the lock was lost.
    """
    with explaining_disk_errors():
        await _wait_for(lock, Holder.this_run(version), wait)
        async with lock.keep():
            yield


async def _wait_for(lock: Lock, holder: Holder, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    logged = ""
    while not await lock.take(holder):
        other = str(await lock.read_holder() or "another run")
        if other != logged:
            run_logger().info("%s is locked by %s: waiting", lock.name, other)
            logged = other
        if time.monotonic() > deadline:
            raise TransientError(
                f"{lock.name} was locked for {seconds:.0f} s by {other}",
                state="nothing was changed",
                next_step="open that run in the Prefect UI; if it hangs, cancel it; run this again",
            )
        await asyncio.sleep(lock.poll_seconds)
