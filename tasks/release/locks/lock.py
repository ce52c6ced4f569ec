"""Holding the lock of an environment, and waiting for whoever holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from tasks.core.commands import run_logger
from tasks.core.errors import TransientError
from tasks.platforms.base.settings import CANARY_SECONDS, Environment, HostEnvironment
from tasks.release.locks.holder import Holder
from tasks.release.locks.host import HostLock
from tasks.release.locks.shared import SharedLock

# Longer than who has it may take, and short enough to deploy before the flow's own time is up.
_WAIT_SECONDS = CANARY_SECONDS + 1800.0


class Lock(Protocol):
    """A lock that one flow run holds at a time."""

    name: str
    poll_seconds: float

    async def take(self, who: Holder) -> bool:
        """Take it, unless somebody has it; does not wait."""

    async def holder(self) -> Holder | None:
        """Who holds it now, None if nobody does or it cannot be said who."""

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Keep it for a block of code, then let go of it."""


def lock_of(environment: Environment) -> Lock:
    """The lock of an environment: of this host, if that is where it is, else of all hosts."""
    if isinstance(environment, HostEnvironment):
        return HostLock(environment.name)
    return SharedLock(environment.name)


@asynccontextmanager
async def hold(lock: Lock, version: str, *, wait: float = _WAIT_SECONDS) -> AsyncIterator[None]:
    """Hold a lock for a block of code, waiting for whoever has it.

    Args:
        lock: The lock.
        version: For which model version, told to those who wait.
        wait: Seconds to wait for it.

    Raises:
        TransientError: Somebody else still had it after that time, or it was lost.
    """
    await _wait_for(lock, Holder.this_run(version), wait)
    async with lock.kept():
        yield


async def _wait_for(lock: Lock, who: Holder, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    told = ""
    while not await lock.take(who):
        holder = str(await lock.holder() or "another run")
        if holder != told:
            run_logger().info("%s is locked by %s: waiting", lock.name, holder)
            told = holder
        if time.monotonic() > deadline:
            raise TransientError(
                f"{lock.name} was locked for {seconds:.0f} s by {holder}",
                state="nothing was changed",
                next_step="look at that run in the Prefect UI, cancel it if it hangs, run again",
            )
        await asyncio.sleep(lock.poll_seconds)
