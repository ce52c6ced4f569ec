"""The base of targets on the worker's own host: two servers side by side, and a proxy in front that
moves the traffic from one to the other.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core import commands
from tasks.core.errors import SlipwayError
from tasks.core.free_port import find_free_ports
from tasks.core.settings import Settings
from tasks.core.threads import in_thread
from tasks.monitoring.records import SHADOW
from tasks.monitoring.shadow import Traffic
from tasks.package.package import Package
from tasks.platforms.base.proof import Candidate, prove, soak, version
from tasks.platforms.base.settings import HostEnvironment
from tasks.platforms.base.target import Live, Target, name_of_release
from tasks.platforms.base.watch import WatchPlan, WatchResult
from tasks.platforms.host.canary import Canary
from tasks.platforms.host.counters import Counters
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.host_release import HostRelease, S
from tasks.platforms.host.judgement import Limits
from tasks.platforms.host.route import Route
from tasks.platforms.host.samples import describe_samples, read_last_hour
from tasks.platforms.host.shadow import mirror_traffic
from tasks.platforms.host.spools import Spools
from tasks.platforms.host.watch import Watch


class GatewaySettings(BaseSettings):
    """The address of this host's proxy; the local stack sets the variables.

    Attributes:
        gateway: Folder from which the proxy reads its routes.
        gateway_api: URL of the proxy's API.
    """

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_", extra="ignore")

    gateway: Path
    gateway_api: str


class HostTarget(Target[S, HostRelease[S]]):
    """One environment on the worker's own host, behind its proxy."""

    _base = ""  # of the image, if there is one

    def __init__(self, environment: HostEnvironment) -> None:
        host = GatewaySettings()  # type: ignore[call-arg]  # from the environment
        self._host = environment
        self._gateway = Gateway(host.gateway, host.gateway_api, environment.name)
        self._samples = Settings().counters
        self._spools = Spools(environment)
        self._variables = environment.variable_reader()
        self._started: HostRelease[S] | None = None
        self._switched = False

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return self._host.url

    @property
    def page(self) -> str:
        """The page to try the live model."""
        return self.url

    async def check(self) -> Sequence[str]:
        """Prove that the proxy and the runner of the servers answer."""
        address = await in_thread(self._gateway.address)
        runner, variables = await self._check_runner(), await self._variables.check()
        watch = [describe_samples(self._samples)] if self._host.watch_seconds else []
        return [f"the proxy has an entry point at {address}", *runner, *variables, *watch]

    async def status(self) -> Live | None:
        """Return the release that is live, None if there is none."""
        route = await in_thread(self._gateway.route)
        description = await in_thread(self._describe, route.release) if route else None
        if route is None or description is None:  # or the routed release is gone
            return None
        answer = await version(self.url)
        replicas = await in_thread(self._gateway.replicas, route) if route.balanced else None
        return Live(
            release=route.release,
            model=description["name"],
            commit=description["commit"],
            md5=(answer or description).get("md5", ""),
            serving=description["serving"],
            version=description.get("version"),
            healthy=answer is not None and answer.get("release") == route.release,
            replicas=replicas,
        )

    async def preflight(self, package: Package, file: Path, version: str) -> S:
        """Stage the release, start it as it is to run, and prove it; it stays, without traffic."""
        release = name_of_release(package)
        try:
            staged = await self._make(package, file, release)
            await self.verify(await self._launch(staged, version, on_trial=True))
        except BaseException:
            with anyio.CancelScope(shield=True):  # a cancelled deploy leaves nothing either
                try:
                    await self._abandon(release)
                    await self._drop([release])
                except SlipwayError as error:  # must not hide why it came to this
                    commands.run_logger().warning(
                        "server, files and images of %s stay until the next deploy: %s",
                        release, error.what,
                    )  # fmt: skip
            raise
        return staged

    async def shadow(self, staged: S, private: Collection[str]) -> Traffic | None:
        """Start the new version, and mirror requests to it; nothing of it runs afterwards."""
        rules, live = self._host.shadow, await in_thread(self._gateway.route)
        if rules is None or live is None:
            return None
        await self._abandon(staged.release)  # it has other variables than one that is asked so
        await in_thread(self._sweep, live)
        description = await in_thread(self._describe, live.release)
        if description is None or not await live.answers():
            commands.run_logger().warning("no shadow traffic: the live version does not answer")
            return None
        route = Route(staged.release, find_free_ports(self._host.replicas))
        trial = HostRelease(staged, SHADOW, route, live, private)
        spools = (
            self._spools.make_for(description["name"], description.get("version") or SHADOW),
            self._spools.make_for(staged.package.model, SHADOW),
        )
        try:
            await self._start(trial)
            await self.verify(trial)
            return await mirror_traffic(self._gateway, rules, live, route, spools)
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(self._discard, staged.release)

    async def release(self, staged: S, version: str) -> HostRelease[S]:
        """Let the servers that preflight has proven serve, or start new ones beside the live one.

        New ones are started if one has ended since, if preflight left none, or if the version got
        another name than was expected.
        """
        if self._started and (
            self._started.version != version or await in_thread(self._has_crashed, staged.release)
        ):
            await self._abandon(staged.release)
        started = self._started or await self._launch(staged, version)
        await in_thread(self._confirm, started)
        return started

    async def verify(self, released: HostRelease[S]) -> None:
        """Prove each new server at its private URL."""
        for candidate in self._candidates(released):
            await prove(candidate, self._host.ready_seconds)

    async def settle(self, released: HostRelease[S]) -> None:
        """Move the traffic, in canary steps if there are any, and prove the public URL."""
        route = released.route
        self._switched = True
        if self._host.canary and (old := await self._live_beside(route)):
            canary = Canary(self._gateway, self._host)
            await canary.walk(old, route, self._candidates(released))
        await in_thread(self._gateway.switch, route)
        await soak(self._candidate(released, self.url), self._host.soak_seconds)

    async def plan_watch(self) -> WatchPlan | None:
        """Read the counters of the last hour of what is live; None without `watch`."""
        live = await in_thread(self._gateway.route) if self._host.watch_seconds else None
        if live is None or (self._started and live == self._started.route):
            return None
        (counters,) = await in_thread(self._gateway.counters, live)
        hour = read_last_hour(self._samples, live.release, counters, time.time())
        return WatchPlan(self._host.watch_seconds, hour.to_json())

    async def watch(
        self, release: str, baseline: Mapping[str, Any], until: datetime
    ) -> WatchResult:
        """Compare the proxy's counters of a release with those of the version before it."""
        watch = Watch(self._gateway, Limits.of(self._host))
        return await watch.run(release, Counters.from_json(baseline), until)

    async def rollback(self, staged: S) -> None:
        """Route to the old server again, and leave nothing of the new one."""
        if self._started:
            if self._switched:  # or tried to: the proxy may take the route later
                await in_thread(self._gateway.switch, self._started.old)
            # Wait for an answer first: a server that is stopped while it starts would drop the
            # requests that the proxy has sent to it already.
            for url in self._started.route.urls:
                await version(url)
            await in_thread(self._stop, staged.release)
            await in_thread(self._spools.remove_held)
        await self._drop([staged.release])

    async def tidy(self) -> None:
        """Stop servers that no route leads to, drop releases beyond those kept."""
        route = await in_thread(self._gateway.route)
        await in_thread(self._sweep, route)
        await self._prune(route, self._host.keep)

    async def remove(self) -> None:
        """Take the environment down: no route, no server, nothing kept."""
        await in_thread(self._gateway.switch, None)
        await in_thread(self._sweep, None)
        await self._prune(None, 0)

    async def _launch(self, staged: S, version: str, *, on_trial: bool = False) -> HostRelease[S]:
        """Start the servers of a release beside the live ones."""
        old = await in_thread(self._gateway.route)
        await in_thread(self._sweep, old)
        ports = find_free_ports(self._host.replicas)
        route = Route(staged.release, ports)
        self._started = started = HostRelease(staged, version, route, old, on_trial=on_trial)
        await self._start(started)
        return started

    async def _abandon(self, release: str) -> None:
        """Stop what was started of a release that has no traffic, and remove its records."""
        if self._started:
            await in_thread(self._discard, release)
            await in_thread(self._spools.remove_held)
            self._started = None

    def _confirm(self, released: HostRelease[S]) -> None:
        """End the trial of a release's servers, if they are on trial; may be called again."""
        self._spools.let_go(released)

    def _candidates(self, released: HostRelease[S]) -> list[Candidate]:
        return [self._candidate(released, url) for url in released.route.urls]

    def _candidate(self, released: HostRelease[S], url: str) -> Candidate:
        release = released.staged.release
        return Candidate(
            url,
            released.staged.package,
            release,
            crashed=lambda: self._has_crashed(release),
            last_lines=lambda: self._last_lines(release),
            base=self._base,
        )

    async def _live_beside(self, route: Route) -> Route | None:
        """Return the live route to compare with; None if there is none, or it does not answer."""
        live = await in_thread(self._gateway.route)
        if live is None or live == route:  # or this is a repetition
            return None
        return live if await live.answers() else None

    async def _prune(self, live: Route | None, keep: int) -> None:
        """Drop the oldest releases beside the live one until, with it, no more than these stay."""
        others = sorted({*await self._releases()} - {live.release if live else ""})
        await self._drop(others[: max(0, len(others) - max(0, keep - 1))])

    def _sweep(self, live: Route | None) -> None:
        # A killed run left its canary, or its mirror.
        if self._gateway.shares() or self._gateway.mirrored_percent() is not None:
            self._gateway.switch(live)
        for release in self._running():
            if live is None or release != live.release:
                self._stop(release)
        self._spools.remove_held()

    @abstractmethod
    async def _check_runner(self) -> Sequence[str]:
        """Prove that servers can be started; return findings, each in one sentence."""

    @abstractmethod
    def _describe(self, release: str) -> Mapping[str, Any] | None:
        """Describe a release: name, commit, md5, serving, version; None if it is not there."""

    @abstractmethod
    async def _make(self, package: Package, file: Path, release: str) -> S:
        """Stage the release: make the files or the image of its server."""

    @abstractmethod
    async def _start(self, released: HostRelease[S]) -> None:
        """Start the servers where they stay, one per port."""

    @abstractmethod
    def _stop(self, release: str) -> None:
        """Let the servers of a release finish their requests, and stop them."""

    def _discard(self, release: str) -> None:
        """Stop the servers of a release so that it can be started anew."""
        self._stop(release)

    @abstractmethod
    def _running(self) -> list[str]:
        """List the releases of this environment that run."""

    @abstractmethod
    def _has_crashed(self, release: str) -> bool:
        """Return whether a server of a release has ended, even if it was started again."""

    @abstractmethod
    def _last_lines(self, release: str) -> str:
        """Return the last lines of the logs of a release's servers."""

    @abstractmethod
    async def _releases(self) -> Collection[str]:
        """Return the releases of this environment that are on this host, running or not."""

    @abstractmethod
    async def _drop(self, releases: Collection[str]) -> None:
        """Remove releases from this host."""
