"""A lock of all hosts: a Prefect variable, which its holder keeps renewing.

The server lets one run only create a variable of a name, keeps it over restarts, and shows it in
the UI with its holder. It is renewed and deleted by its id, so that a run that has lost the lock
cannot touch that of its successor. Clocks of two hosts are never compared: a run that waits takes
the holder for dead if it did not renew its lock for some time in which the server answered, and a
holder stops well before that.

(Prefect's own concurrency limits cannot do this: the server does not show who holds a slot and for
what, and after a restart the slot stays taken, while its lease is forgotten.)
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
    """The times of a lock, in seconds.

    Attributes:
        renew: Between two renewals.
        lost: Without a renewal, after which the holder takes the lock for lost.
        gone: Without a renewal, after which other runs take the holder for dead.
        poll: Between two attempts of a run that waits.
    """

    renew: float = 15.0
    lost: float = 60.0
    # The time between is for the holder to roll back.
    gone: float = 100.0
    poll: float = 2.0


_USUAL = Rhythm()


class SharedLock:
    """A lock that all workers of a Prefect server share.

    Args:
        name: Name of the environment.
        rhythm: Its times.
    """

    def __init__(self, name: str, rhythm: Rhythm = _USUAL) -> None:
        self.name = name
        self.poll_seconds = rhythm.poll
        self._rhythm = rhythm
        self._variable = f"slipway_lock_{name.lower()}"
        self._token = uuid4().hex
        self._holder: Holder | None = None
        self._id: UUID | None = None
        self._renewal: tuple[UUID, Any] | None = None
        self._renewal_at = 0.0

    async def take(self, holder: Holder) -> bool:
        """Take the lock, unless another run holds it and is alive.

        Raises:
            TerminalError: The Prefect server refuses to create the variable.
        """
        self._holder = holder
        try:
            variable = await self._create()
            if variable and self._is_ours(variable):
                self._id = variable.id
                return True
            if variable and self._is_gone(variable):
                run_logger().warning(
                    "took the lock of %s from %s, which has not renewed it for %g s",
                    self.name, _holder_of(variable) or "another run", self._rhythm.gone,
                )  # fmt: skip
                await self._delete(variable.id)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _REFUSED:
                raise TerminalError(
                    f"the Prefect server refuses to lock {self.name}:"
                    f" {error.response.status_code} for variable {self._variable}",
                    state="nothing was changed",
                    next_step="allow the worker's API key to write variables, then run this again",
                ) from error
            self._renewal = None  # a renewal in this time could not be seen
            run_logger().warning("cannot ask for the lock of %s: %r", self.name, error)
        return False

    async def read_holder(self) -> Holder | None:
        """Return the holder, None if there is none or it is unknown."""
        try:
            async with get_client() as client:
                variable = await client.read_variable_by_name(self._variable)
        except httpx.HTTPError:
            return None
        # For display only: here the clock of this host meets that of the server.
        silent = timedelta(seconds=self._rhythm.gone)
        if (
            variable is None
            or variable.updated is None
            or datetime.now(UTC) - variable.updated > silent
        ):
            return None
        return _holder_of(variable)

    @asynccontextmanager
    async def keep(self) -> AsyncIterator[None]:
        """Keep the lock for a block of code, then release it.

        Raises:
            TransientError: The lock was lost, and the block cancelled.
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
        """Create the variable, and return it, or the one that exists; None if that just went."""
        variable = VariableCreate(name=self._variable, value=self._value(), tags=[_TAG])
        async with get_client() as client:
            try:
                return await client.create_variable(variable)
            except ObjectAlreadyExists:
                return await client.read_variable_by_name(self._variable)

    def _is_ours(self, variable: Variable) -> bool:
        # Also if an earlier attempt created it, and the server's answer was lost.
        return isinstance(variable.value, dict) and variable.value.get("token") == self._token

    def _is_gone(self, variable: Variable) -> bool:
        """Check that the holder has not renewed its lock for long enough, by our clock."""
        now, renewal = time.monotonic(), (variable.id, variable.value)
        if renewal != self._renewal:
            self._renewal, self._renewal_at = renewal, now
        return now - self._renewal_at > self._rhythm.gone

    async def _renew(self, lease: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._rhythm.renew)
            start = loop.time()
            try:
                async with asyncio.timeout(self._rhythm.lost / 3):
                    renewed = await self._touch()
            except (httpx.HTTPError, TimeoutError) as error:
                run_logger().warning("could not renew the lock of %s: %r", self.name, error)
                continue
            if not lease.expired():  # else the block is rolling back, for which the lock is kept
                lease.reschedule(start + self._rhythm.lost if renewed else start)
            if not renewed:
                run_logger().error("another run took the lock of %s", self.name)
                return

    async def _touch(self) -> bool:
        """Renew the lock; return False if it is gone."""
        path, body = {"id": self._id}, {"value": self._value()}
        async with get_client() as client:
            try:
                await client.request("PATCH", "/variables/{id}", path_params=path, json=body)
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
                "could not release the lock of %s, which expires in %g s: %r",
                self.name, self._rhythm.gone, error,
            )  # fmt: skip

    async def _delete(self, variable: UUID) -> None:
        async with get_client() as client:
            try:
                await client.request("DELETE", "/variables/{id}", path_params={"id": variable})
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise

    def _value(self) -> dict[str, Any]:
        assert self._holder
        renewed = datetime.now(UTC).isoformat()
        return {**self._holder.to_json(), "renewed": renewed, "token": self._token}


def _holder_of(variable: Variable) -> Holder | None:
    try:
        return Holder.from_json(variable.value) if isinstance(variable.value, dict) else None
    except KeyError:
        return None
