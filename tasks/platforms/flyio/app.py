"""An app on Fly.io, through the Machines API: its machines, their leases, its addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from tasks.core.errors import TerminalError
from tasks.platforms.base.no_answer import UNCHANGED
from tasks.platforms.base.rest import RefusedError, RestAPI, load_token
from tasks.platforms.flyio.leases import Leases, lease_error
from tasks.platforms.flyio.machine import Machine
from tasks.platforms.flyio.settings import FlyioEnvironment

_POLL_SECONDS = 1.0  # as often as Fly lets us
_ENDING = {"started", "stopping"}
_STOP_POLLS = 45  # for longer than a machine gets to end by itself


class FlyApp:
    """The app of an environment."""

    def __init__(self, environment: FlyioEnvironment) -> None:
        self._environment = environment
        self._path = f"/apps/{environment.app}"
        self._leases = Leases(self._call, f"slipway {environment.name} {uuid4().hex[:8]}")
        self._api: RestAPI | None = None

    async def exists(self) -> bool:
        """Return whether the app exists."""
        return await self._call("GET", self._path, missing_ok=True) is not None

    async def create(self) -> None:
        """Create it."""
        body = {
            "app_name": self._environment.app,
            "org_slug": self._environment.organization,
        }
        await self._call("POST", "/apps", json=body)

    async def siblings(self) -> int:
        """Count the apps of its organization, which only members may list."""
        query = {"org_slug": self._environment.organization}
        answer = await self._call("GET", "/apps", params=query)
        return len(answer.get("apps") or [])

    async def delete(self) -> None:
        """Delete the app with everything in it."""
        await self._call("DELETE", self._path, missing_ok=True)

    async def addresses(self) -> list[str]:
        """Return its IP addresses."""
        answer = await self._call("GET", f"{self._path}/ip_assignments")
        return [assignment["ip"] for assignment in answer.get("ips") or []]

    async def ensure_public_ips(self) -> None:
        """Give it a shared IPv4 and an IPv6 address, unless it has some, or is private."""
        there = await self.addresses()
        if any(address.startswith("fdaa:") for address in there):  # reached over Flycast alone
            return
        if not any("." in address for address in there):
            await self._assign("shared_v4")
        if not any(":" in address for address in there):
            await self._assign("v6")

    async def machines(self) -> list[Machine]:
        """Return its machines, none if there is no such app."""
        answer = await self._call("GET", f"{self._path}/machines", missing_ok=True)
        machines = map(Machine.of, answer or [])
        return [machine for machine in machines if not machine.is_gone]

    async def machine(self, machine: Machine) -> Machine | None:
        """Return a machine as it is now, None if it is gone."""
        answer = await self._call("GET", self._of(machine), missing_ok=True)
        now = Machine.of(answer) if answer else None
        return now if now and not now.is_gone else None

    async def launch(self, name: str, config: Mapping[str, Any]) -> None:
        """Create and start a machine that gets no requests yet; one of that name stays as it is.

        Args:
            config: Its configuration.
        """
        body = {
            "name": name,
            "region": self._environment.region,
            "config": config,
            "skip_service_registration": True,
        }
        try:
            await self._call("POST", f"{self._path}/machines", json=body)
        except RefusedError as error:
            if error.code != 409 or name not in error.what:
                raise

    async def route(self, machines: Sequence[Machine], *, away: bool) -> None:
        """Keep requests away from machines, or let them come again.

        Args:
            away: True to keep requests away.
        """
        async with self._leases.hold(map(self._of, machines)):
            for machine in machines:
                await self._change("POST", machine, "/cordon" if away else "/uncordon")

    async def stop(self, machine: Machine) -> None:
        """Ask a machine to finish its requests and end."""
        if machine.state == "started":
            with contextlib.suppress(RefusedError):  # it has ended by itself meanwhile
                await self._change("POST", machine, "/stop", json={})

    async def destroy(self, machine: Machine) -> None:
        """Remove a machine once it has ended, or should have."""
        for _ in range(_STOP_POLLS):
            now = await self.machine(machine)
            if now is None or now.state not in _ENDING:
                break
            await asyncio.sleep(_POLL_SECONDS)
        await self._change("DELETE", machine, params={"force": "true"})

    async def wait_until_healthy(self, machine: Machine, within: float) -> None:
        """Wait until a machine passes its check, which is the server's own proof.

        Args:
            within: Seconds in which it has to.

        Raises:
            TerminalError: It ended, or does not.
        """
        now: Machine | None = machine
        try:
            async with asyncio.timeout(within):
                while True:
                    now = await self.machine(machine)
                    if now and now.healthy:
                        return
                    if now is None or now.end:
                        why = now.end if now else "it was removed"
                        raise release_error(f"machine {machine.identifier} ended at start: {why}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            summary = now.summary if now else ""
            raise release_error(
                f"the machine did not get ready within {within:g} s:\n{summary}"
            ) from None

    async def _change(self, method: str, machine: Machine, what: str = "", **options: Any) -> None:
        """Change a machine, if it is still there."""
        path = self._of(machine)
        headers = self._leases.headers(path)
        try:
            await self._call(method, f"{path}{what}", headers=headers, missing_ok=True, **options)
        except RefusedError as error:
            if error.code == 409:
                raise lease_error(error) from error
            raise

    async def _assign(self, kind: str) -> None:
        await self._call("POST", f"{self._path}/ip_assignments", json={"type": kind})

    def _of(self, machine: Machine) -> str:
        return f"{self._path}/machines/{machine.identifier}"

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        if self._api is None:
            block = self._environment.token_block
            scheme, token = _parts(await load_token(block))
            self._api = RestAPI("Fly.io", self._environment.api, token, block, scheme)
        return await self._api.call(method, path, **options)


def release_error(what: str) -> TerminalError:
    """Make the error of a release that cannot serve."""
    return TerminalError(
        what,
        state=UNCHANGED,
        next_step="see `fly logs`; fix the model or the serving code, or give the machine more"
        " memory, then deploy again",
    )


def registry_password(token: SecretStr) -> SecretStr:
    """Return the password for Fly's registry.

    Args:
        token: A token as `fly tokens create` prints it.

    Returns:
        It without the scheme that may stand before it.
    """
    return _parts(token)[1]


def _parts(token: SecretStr) -> tuple[str, SecretStr]:
    """Split a token into the scheme that introduces it and the token itself."""
    text = token.get_secret_value().strip()
    bare = text.rpartition(" ")[2]
    return ("FlyV1" if bare.startswith("fm") else "Bearer"), SecretStr(bare)
