"""Target `flyio`: model servers as machines of an app on Fly.io, green beside blue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio

from tasks.core import commands
from tasks.core.errors import SlipwayError, TerminalError, TransientError
from tasks.images.registry import Login
from tasks.package.package import Package
from tasks.platforms.base.cloud_target import CloudTarget
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.base.proof import Candidate, prove, soak, version
from tasks.platforms.base.rest import load_token
from tasks.platforms.base.target import Live, Released
from tasks.platforms.flyio.app import FlyApp, registry_password, release_error
from tasks.platforms.flyio.config import CREATED, machine_config, machine_metadata
from tasks.platforms.flyio.machine import Machine, kept_images, live, of_release, routed_releases
from tasks.platforms.flyio.settings import REGISTRY, FlyioEnvironment

_LOOK_SECONDS = 2.0  # Fly counts requests


class FlyioTarget(CloudTarget[FlyioEnvironment, Released[StagedImage]]):
    """One environment, which is an app on Fly.io.

    Live is the release that Fly's proxies send requests to. While a switch is under way there are
    two of them for some seconds; then it is the older one, which has been proven.
    """

    def __init__(self, environment: FlyioEnvironment) -> None:
        super().__init__(environment)
        self._app = FlyApp(environment)
        self._created = False
        self._old: str | None = None
        self._proxies_know = True
        self._look_again = 0.0

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return self._environment.url

    async def status(self) -> Live | None:
        """Return the release that is live, None if there is none."""
        machines = await self._machines()
        release = live(machines)
        if release is None:
            return None
        labels = of_release(machines, release)[0].metadata
        answer = await version(self.url) or {}
        return Live(
            release=release,
            model=labels["slipway_model"],
            commit=labels["slipway_commit"],
            md5=labels["slipway_md5"],
            serving=labels["slipway_serving"],
            version=labels["slipway_version"],
            healthy=routed_releases(machines) == {release} and answer.get("release") == release,
        )

    async def preflight(self, package: Package, file: Path, version: str) -> StagedImage:
        """Prove the package on the worker, push its image; if that fails, leave no new app."""
        try:
            return await super().preflight(package, file, version)
        except TransientError:  # the repetition needs the app
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                try:
                    await self._leave_no_app()
                except SlipwayError as error:  # it must not hide why it came to this
                    commands.run_logger().warning("the new app stays: %s", error.what)
            raise

    async def release(self, staged: StagedImage, version: str) -> Released[StagedImage]:
        """Start the new machines beside the live ones; they get no requests."""
        machines = await self._machines()
        self._old = live(machines)
        old = of_release(machines, self._old)
        await self._route(old, away=False)  # all of them: a killed run may have hidden some
        await self._end([m for m in machines if m.release not in {self._old, staged.release}])
        released = Released(staged, version)
        config = await self._configure(released, old)
        there = {machine.name for machine in machines}
        for name in self._names(staged.release):
            if name not in there:
                await self._app.launch(name, config)
        return released

    async def verify(self, released: Released[StagedImage]) -> None:
        """Wait until each new machine passes its check, which is the server's own proof."""
        for machine in self._require_machines(await self._machines(), released.staged.release):
            if not machine.cordoned:  # `status` would take it for live
                raise release_error(
                    f"Fly.io did not report new machine {machine.identifier} as cordoned"
                )
            await self._app.wait_until_healthy(machine, self._environment.ready_seconds)

    async def settle(self, released: Released[StagedImage]) -> None:
        """Let Fly's proxies send requests to the new machines alone, and prove the public URL."""
        machines, release = await self._machines(), released.staged.release
        ours = self._require_machines(machines, release)
        others = [machine for machine in machines if machine not in ours]
        await self._route(ours, away=False)
        await self._route(others, away=True)
        hint = f"`fly logs --app {self._environment.app}` shows what it said"
        candidate = Candidate(
            self.url,
            released.staged.package,
            release,
            crashed=lambda: self._has_crashed(release),
            last_lines=lambda: hint,
        )
        await prove(candidate, self._environment.ready_seconds)
        await soak(candidate, self._environment.soak_seconds)

    def _has_crashed(self, release: str) -> bool:
        """Return whether a new machine has ended on its own; Fly is asked every few seconds."""
        if time.monotonic() < self._look_again:
            return False
        self._look_again = time.monotonic() + _LOOK_SECONDS
        return asyncio.run(self._has_ended(release))

    async def _has_ended(self, release: str) -> bool:
        try:
            machines = await self._machines()
        except TransientError:  # the next look may tell
            return False
        return any(machine.end for machine in of_release(machines, release))

    async def rollback(self, staged: StagedImage) -> None:
        """Route requests to the old machines again, and leave nothing of the new ones."""
        machines = await self._machines()
        await self._route(of_release(machines, self._old), away=False)
        await self._end(of_release(machines, staged.release))
        await self._retire()
        await self._leave_no_app()

    async def tidy(self) -> None:
        """End the machines that are not live, drop images beyond those kept.

        A stopped machine would be charged for, and its host may have no room when it is to start
        again; the image is enough to go back.
        """
        machines = await self._machines()
        release = live(machines)
        await self._end([machine for machine in machines if machine.release != release])
        await self._retire()

    async def remove(self) -> None:
        """Take the environment down, with the app if it was created for it and is empty."""
        machines = await self._machines()
        self._created |= _is_created_here(machines)
        await self._end(machines)
        await self._retire()
        await self._leave_no_app()

    async def check(self) -> Sequence[str]:
        """Prove the token, the app and the registry by reading."""
        app, organization = self._environment.app, self._environment.organization
        variables = await self._variables.check()
        if not await self._app.exists():
            count = await self._app.siblings()
            return [
                f"organization {organization} is accessible; it has {count} apps",
                f"app {app} does not exist yet: the first deploy creates it",
                *variables,
            ]
        addresses = ", ".join(await self._app.addresses()) or "none yet"
        finding = f"app {app} exists; its addresses: {addresses}"
        return [finding, await self._try_registry(), *variables]

    async def _prepare(self) -> None:
        if not await self._app.exists():
            self._created = True  # even if the reply is lost
            try:
                await self._app.create()
            except TerminalError:  # the name is taken by somebody else's app
                self._created = False
                raise
        await self._app.ensure_public_ips()

    async def _leave_no_app(self) -> None:
        """Delete the app if it was created for the environment and has no machines."""
        if self._created and not await self._app.machines():
            await self._app.delete()

    async def _log_in(self) -> Login | None:
        # The token is for Fly's own registry, and for no other.
        if self._environment.registry_block or not self._pushes_to(REGISTRY):
            return await super()._log_in()
        return Login("x", registry_password(await load_token(self._environment.token_block)))

    async def _images_in_use(self) -> Collection[str]:
        machines = await self._machines()
        return kept_images(of_release(machines, live(machines)))

    async def _machines(self) -> list[Machine]:
        machines = await self._app.machines()
        ours = self._environment.name
        return [
            machine for machine in machines if machine.metadata.get("slipway_environment") == ours
        ]

    def _names(self, release: str) -> list[str]:
        stem = f"{self._environment.name}-{release}".lower().replace("_", "-")
        return [f"{stem}-{number}" for number in range(self._environment.machines)]

    async def _configure(
        self, released: Released[StagedImage], old: Sequence[Machine]
    ) -> dict[str, Any]:
        staged, image = released.staged, released.staged.image.reference
        metadata = machine_metadata(
            self._environment,
            staged.package,
            release=staged.release,
            version=released.version,
            images=[image.digest or "", *kept_images(old)],
            created=self._created or _is_created_here(old),
        )
        # Not Fly's app secrets: those belong to the app, so that a machine of an earlier release
        # would start with the values of a later one.
        variables = (await self._variables.read()).reveal()
        variables |= self._release_variables(staged, released.version)
        return machine_config(self._environment, str(image), variables, metadata)

    def _require_machines(self, machines: Iterable[Machine], release: str) -> list[Machine]:
        ours = of_release(machines, release)
        if len(ours) < self._environment.machines:
            raise release_error(
                f"only {len(ours)} of {self._environment.machines} new machines exist"
            )
        return ours

    async def _route(self, machines: Iterable[Machine], *, away: bool) -> None:
        """Cordon or uncordon machines, and wait until Fly's proxies know."""
        if changed := [machine for machine in machines if machine.cordoned is not away]:
            self._proxies_know = False
            await self._app.route(changed, away=away)
        if not self._proxies_know:
            await asyncio.sleep(self._environment.proxy_seconds)
            self._proxies_know = True

    async def _end(self, machines: Sequence[Machine]) -> None:
        await self._route(machines, away=True)
        for machine in machines:  # stop all before waiting for the first
            await self._app.stop(machine)
        for machine in machines:
            await self._app.destroy(machine)


def _is_created_here(machines: Iterable[Machine]) -> bool:
    return any(machine.metadata["slipway_app"] == CREATED for machine in machines)
