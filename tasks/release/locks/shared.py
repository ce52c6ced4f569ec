"""A lock of all hosts: a Prefect variable, which its holder keeps renewing.

The server lets only one of all who try create a variable of a name, keeps it over restarts, and
shows it in the UI with what is in it. It is renewed and deleted by its id, so that nobody touches
the lock of whoever came after. No clock is compared with that of another host: whoever waits takes
a holder for gone when it has not renewed its lock for some time in which the server answered; a
holder gives up well before that.

(Prefect's own concurrency limits are no such lock: the server neither tells who holds a slot nor
for what, and forgets its leases, but not that the slot is taken, when it is restarted.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate
from prefect.exceptions import ObjectAlreadyExists

from tasks.core.commands import run_logger
from tasks.core.errors import TerminalError, TransientError
from tasks.release.locks.holder import Holder

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Variable

# Not the tag of what `apply` declares, which would remove it.
_TAG = "slipway-lock"
_REFUSED = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}


@dataclass(frozen=True)
class Rhythm:
    """How often a lock is renewed, and what its silence means; in seconds.

    Attributes:
        renew: Between two renewals.
        lost: Without a renewal, its holder takes it for lost.
        gone: Without a renewal, others take its holder for gone.
        poll: Between two looks of whoever waits.
    """

    renew: float = 15.0
    lost: float = 60.0
    # What a holder that has lost it does last, giving the traffic back, needs the time between.
    gone: float = 100.0
    poll: float = 2.0


_USUAL = Rhythm()


class SharedLock:
    """A lock for which all workers of a Prefect server wait.

    Args:
        name: What is locked, for instance an environment.
        rhythm: How often it is renewed.
    """

    def __init__(self, name: str, rhythm: Rhythm = _USUAL) -> None:
        self.name = name
        self.poll_seconds = rhythm.poll
        self._rhythm = rhythm
        self._variable = f"slipway_lock_{name.lower()}"
        self._token = uuid4().hex
        self._who: Holder | None = None
        self._id: UUID | None = None
        self._seen: tuple[UUID, Any] | None = None
        self._seen_at = 0.0

    async def take(self, who: Holder) -> bool:
        """Take it, unless somebody has it who is still there.

        Raises:
            TerminalError: The Prefect server does not let us.
        """
        self._who = who
        try:
            found = await self._create()
            if found and self._is_ours(found):
                self._id = found.id
                return True
            if found and self._is_gone(found):
                run_logger().warning(
                    "%s is still locked by %s, not heard of for %g s: it is taken from it",
                    self.name, _holder(found) or "another run", self._rhythm.gone,
                )  # fmt: skip
                await self._delete(found.id)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _REFUSED:
                raise TerminalError(
                    f"the Prefect server lets nobody with this key lock {self.name}:"
                    f" {error.response.status_code} for variable {self._variable}",
                    state="nothing was changed",
                    next_step="give the worker's API key the right to write variables, run again",
                ) from error
            self._seen = None  # it could not have been seen renewed
            run_logger().warning("the lock of %s cannot be asked for: %r", self.name, error)
        return False

    async def holder(self) -> Holder | None:
        """Who holds it now, None if nobody does or it cannot be said who."""
        try:
            async with get_client() as client:
                found = await client.read_variable_by_name(self._variable)
        except httpx.HTTPError:
            return None
        # Roughly, for people: by the clock of this host and the server's.
        silent = timedelta(seconds=self._rhythm.gone)
        if found is None or found.updated is None or datetime.now(UTC) - found.updated > silent:
            return None
        return _holder(found)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep it for a block of code, then let go of it.

        Raises:
            TransientError: It was lost; the block was cancelled.
        """
        try:
            async with asyncio.timeout(self._rhythm.lost) as lease:
                renewing = asyncio.create_task(self._renew(lease))
                try:
                    yield
                finally:
                    renewing.cancel()
        except TimeoutError:
            if not lease.expired():
                raise
            raise TransientError(
                f"lost the lock of {self.name}: it could not be renewed, or another run took it",
                state=f"the run was stopped; another one may change {self.name} now",
                next_step="see that the worker reaches the Prefect server, then run the flow again",
            ) from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._release()

    async def _create(self) -> Variable | None:
        """Create the variable; what is there, which may be ours, or None if it just went."""
        value = {**self._described(), "token": self._token}
        async with get_client() as client:
            try:
                wanted = VariableCreate(name=self._variable, value=value, tags=[_TAG])
                return await client.create_variable(wanted)
            except ObjectAlreadyExists:
                return await client.read_variable_by_name(self._variable)

    def _is_ours(self, found: Variable) -> bool:
        # Also that of an earlier try, the answer to which was lost.
        return isinstance(found.value, dict) and found.value.get("token") == self._token

    def _is_gone(self, found: Variable) -> bool:
        """Whether it has been the same for long enough, as seen from here."""
        now, seen = time.monotonic(), (found.id, found.value)
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at > self._rhythm.gone

    async def _renew(self, lease: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._rhythm.renew)
            asked = loop.time()
            try:
                async with asyncio.timeout(self._rhythm.lost / 3):
                    renewed = await self._touch()
            except (httpx.HTTPError, TimeoutError) as error:
                run_logger().warning("the lock of %s was not renewed: %r", self.name, error)
                continue
            if not lease.expired():  # else it is being given up, and kept for as long as that takes
                lease.reschedule(asked + self._rhythm.lost if renewed else asked)
            if not renewed:
                run_logger().error("somebody else has taken the lock of %s", self.name)
                return

    async def _touch(self) -> bool:
        """Renew it; whether it is still ours."""
        value = {**self._described(), "token": self._token}
        async with get_client() as client:
            try:
                await client.request(
                    "PATCH", "/variables/{id}", path_params={"id": self._id}, json={"value": value}
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    return False
                raise
        return True

    async def _release(self) -> None:
        assert self._id
        try:
            async with asyncio.timeout(self._rhythm.lost):
                await self._delete(self._id)
        except (httpx.HTTPError, TimeoutError) as error:
            run_logger().warning(
                "the lock of %s was not released; it is free in %g s: %r",
                self.name, self._rhythm.gone, error,
            )  # fmt: skip

    async def _delete(self, variable: UUID) -> None:
        async with get_client() as client:
            try:
                await client.request("DELETE", "/variables/{id}", path_params={"id": variable})
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise

    def _described(self) -> dict[str, Any]:
        assert self._who
        return {**self._who.describe(), "renewed": datetime.now(UTC).isoformat()}


def _holder(found: Variable) -> Holder | None:
    try:
        return Holder.read(found.value) if isinstance(found.value, dict) else None
    except KeyError:
        return None
