"""The watch: after its switch a release is compared with the last hour of the version before it.

The two have not answered the same clients at the same time, as in a canary step. So what differs
between two hours (clients, load, neighbours) looks like a difference of the versions; `canary_*`
say how large a difference has to be.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tasks.core import commands
from tasks.core.errors import TransientError
from tasks.core.threads import in_thread
from tasks.platforms.base.watch import WatchResult
from tasks.platforms.host.counters import Counters
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.judgement import CERTAIN, OBVIOUS, Limits, describe, judge_later

_LOOK_SECONDS = 5.0


class Watch:
    """The watch over one release.

    Args:
        limits: How much worse it may be than the version before it.
    """

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self._gateway = gateway
        self._limits = limits

    async def run(self, release: str, before: Counters, until: datetime) -> WatchResult:
        """Compare until the end, until the release is obviously worse, or another one is live.

        Args:
            release: Name of the release.
            before: Counters of the version before it, in its last hour.
            until: The end.

        Raises:
            TransientError: At the end, the proxy does not answer.
        """
        new, reading = Counters(), Counters()
        while True:
            over = datetime.now(UTC) >= until
            try:
                route = await in_thread(self._gateway.route)
                if route is None or route.release != release:
                    return WatchResult("superseded", f"new {describe(new)}")
                (now,) = await in_thread(self._gateway.counters, route)
            except TransientError as error:
                if over:
                    raise
                commands.run_logger().warning("the proxy will be asked again: %s", error.what)
            else:
                # Added up, because a proxy that is started again counts from 0.
                new, reading = new.plus(now.since(reading)), now
                certainty = CERTAIN if over else OBVIOUS
                if worse := judge_later(before, new, self._limits, certainty):
                    return WatchResult("worse", worse)
                if over:
                    return WatchResult("no worse", self._compare(before, new))
            left = (until - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, left)))

    def _compare(self, before: Counters, new: Counters) -> str:
        few = min(before.requests, new.requests) < self._limits.requests
        return (
            f"new {describe(new)}; before {describe(before)}:"
            f" {'too few to compare' if few else 'no worse'}"
        )
