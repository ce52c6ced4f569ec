"""Canary steps: a growing share of the predictions goes to a new version.

At every step the golden predictions are replayed at its private URL, and what the proxy has counted
of it is compared with the live version. Until the last step has passed, that one stays live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tasks.core import commands
from tasks.core.errors import TerminalError
from tasks.core.threads import in_thread
from tasks.platforms.base.proof import Candidate, soak
from tasks.platforms.base.settings import HostEnvironment
from tasks.platforms.host.counters import Counters
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.judgement import CERTAIN, OBVIOUS, Exposure, Limits, describe, judge
from tasks.platforms.host.route import Route

_LOOK_SECONDS = 1.0


class Canary:
    """The steps of one deploy.

    Args:
        environment: Settings with the shares, their duration and the limits.
    """

    def __init__(self, gateway: Gateway, environment: HostEnvironment) -> None:
        self._gateway = gateway
        self._environment = environment
        self._limits = Limits.of(environment)

    async def walk(self, live: Route, new: Route, candidates: Sequence[Candidate]) -> None:
        """Take every step; afterwards, the last share is still in force.

        Args:
            live: Route of the live version.
            new: Route of the new version.
            candidates: The new version at the private URL of each of its servers.

        Raises:
            TerminalError: The new version is worse, or predicts otherwise than it was saved.
            TransientError: The proxy does not answer.
        """
        await self._read_counters(
            live
        )  # a proxy that does not count is told of before it shares out
        for percent in self._environment.canary:
            await in_thread(self._gateway.share, live, new, percent)
            await self._step(live, new, candidates, percent)

    async def _step(
        self, live: Route, new: Route, candidates: Sequence[Candidate], percent: int
    ) -> None:
        loop = asyncio.get_running_loop()
        before = await self._read_counters(live, new)
        start = loop.time()
        end = start + self._environment.canary_seconds
        while True:
            for candidate in candidates:
                await soak(candidate, 0)  # once
            over = loop.time() >= end
            after = await self._read_counters(live, new)
            of_live, of_new = (now.since(then) for now, then in zip(after, before, strict=True))
            exposure = Exposure(percent, loop.time() - start)
            worse = judge(of_live, of_new, exposure, self._limits, CERTAIN if over else OBVIOUS)
            if worse:
                raise TerminalError(
                    f"the new version is worse, at {percent} % of the predictions: {worse}",
                    state="what was live before gets all of the traffic again",
                    next_step="fix the model or the serving code, commit, and deploy that commit;"
                    " what counts as worse are the `canary_*` settings of the environment",
                )
            if over:
                break
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, end - loop.time())))
        few = min(of_live.requests, of_new.requests) < self._limits.requests
        commands.run_logger().info(
            "canary at %d %%: new %s; live %s: %s",
            percent,
            describe(of_new),
            describe(of_live),
            "too few to compare" if few else "no worse",
        )

    async def _read_counters(self, *routes: Route) -> list[Counters]:
        return await in_thread(self._gateway.counters, *routes)
