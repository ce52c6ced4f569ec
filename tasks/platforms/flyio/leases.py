"""Leases of machines on Fly.io: while one is held, nobody else can change the machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from tasks.core.errors import TransientError
from tasks.platforms.base.no_answer import UNCHANGED
from tasks.platforms.base.rest import RefusedError

_SECONDS = 60
_NONCE = "fly-machine-lease-nonce"


class Leases:
    """The leases that a run holds.

    Args:
        call: Calls the Machines API.
        holder: Name of the holder, by which a lease with a lost reply is recognized.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], holder: str) -> None:
        self._call = call
        self._holder = holder
        self._nonces: dict[str, str] = {}

    def headers(self, machine: str) -> dict[str, str]:
        """Return the headers of a request that changes a machine.

        Args:
            machine: Path of the machine.

        Returns:
            Headers; none if we hold no lease of it.
        """
        return {_NONCE: self._nonces[machine]} if machine in self._nonces else {}

    @asynccontextmanager
    async def hold(self, machines: Iterable[str]) -> AsyncIterator[None]:
        """Hold leases for the time of a block of code.

        Args:
            machines: Paths of the machines.

        Raises:
            TransientError: Somebody else is changing one of them.
        """
        try:
            for machine in machines:
                self._nonces[machine] = await self._take(f"{machine}/lease")
            yield
        finally:
            for machine in list(self._nonces):
                # One that is not given back ends by itself, or has ended with its machine.
                with contextlib.suppress(TransientError, RefusedError):
                    await self._call("DELETE", f"{machine}/lease", headers=self.headers(machine))
                del self._nonces[machine]

    async def _take(self, path: str) -> str:
        try:
            lease = await self._call(
                "POST", path, json={"description": self._holder, "ttl": _SECONDS}
            )
        except RefusedError as error:
            if error.code != 409:
                raise
            lease = await self._call("GET", path, missing_ok=True) or {"data": {}}
            if lease["data"].get("description") != self._holder:
                raise lease_error(error) from error
        return str(lease["data"]["nonce"])


def lease_error(error: RefusedError) -> TransientError:
    """Make the error of a machine whose lease somebody else holds."""
    return TransientError(
        f"somebody else is changing a machine: {error.what}",
        state=UNCHANGED,
        next_step="wait until they have finished, then run the flow again",
    )
