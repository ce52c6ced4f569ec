"""Shadow traffic: a new version is asked what the live one is, and nobody gets its answers.

The proxy mirrors a request once the live version has answered it, so no client waits for the new
one. On a busy host it mirrors only some of them: else the new version would take the processors
that the live one needs. Both keep their records, which are read here while they are written.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import anyio

from tasks.core import commands
from tasks.core.threads import in_thread
from tasks.monitoring.shadow import Traffic
from tasks.monitoring.window import Span
from tasks.platforms.base.shadow import ShadowRules
from tasks.platforms.host.counters import Counters
from tasks.platforms.host.gateway import MIRROR_SECONDS, Gateway
from tasks.platforms.host.records import RecordReader
from tasks.platforms.host.route import Route

# Often enough to find a file of records before the shipper, which takes it after a second at least.
_LOOK_SECONDS = 0.4
# The load of the live version is measured over so long, first before requests are mirrored.
_FIRST_SECONDS, _MEASURE_SECONDS = 1.0, 5.0
# A smaller change of the share is noise, and the proxy would read its routes for it.
_LEAST_CHANGE = 0.25
# Servers write their records once a second; the last mirrored requests come after the last answers.
_DRAIN_SECONDS = 2.5
# Of both versions: their records are in memory, and parsed they take about ten times as much.
_MOST_BYTES = 64 << 20


def choose_percent(requests: Counters, seconds: float, processors: float) -> int:
    """Choose the share of the requests to mirror.

    Args:
        requests: The requests to the live version in some time.
        seconds: The time.
        processors: Number of processors that the answers of the new version may take, if it takes
            as long as the live one.

    Returns:
        The share in percent, at least 1.
    """
    busy = requests.seconds / seconds
    return 100 if busy <= processors else max(1, int(100 * processors / busy))


class _Mirror:
    """The share of the requests to one version that the proxy sends to another one."""

    def __init__(self, gateway: Gateway, processors: float, live: Route, new: Route) -> None:
        self._gateway, self._live, self._new = gateway, live, new
        self._processors = processors * (os.cpu_count() or 1)
        self._percent = 0
        self._read()
        self._before = gateway.mirror_counters()

    def _read(self) -> None:
        (self._counters,) = self._gateway.counters(self._live)
        self._second = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the load was measured."""
        return time.monotonic() - self._second

    def adjust(self) -> None:
        """Measure the load of the live version, and choose the share anew."""
        counters, second = self._counters, self._second
        self._read()
        requests, seconds = self._counters.since(counters), self._second - second
        percent = choose_percent(requests, seconds, self._processors)
        if abs(percent - self._percent) > _LEAST_CHANGE * self._percent:
            self._gateway.mirror(self._live, self._new, percent)
            self._percent = percent
            commands.run_logger().info(
                "%d %% of the live requests are mirrored to %s: the live version gets %.1f"
                " requests a second, and takes %.1f ms for each",
                percent, self._new.release, requests.requests / seconds, 1000 * requests.mean,
            )  # fmt: skip

    def end(self) -> None:
        """Mirror no more requests, and go on counting those under way."""
        self._gateway.mirror(self._live, self._new, 0)

    def count(self) -> int:
        """Count the mirrored requests that were answered, or given up."""
        return self._gateway.mirror_counters().since(self._before).requests


async def mirror_traffic(
    gateway: Gateway, rules: ShadowRules, live: Route, new: Route, folders: tuple[Path, Path]
) -> Traffic:
    """Mirror requests to the live version for a while, and return what both recorded.

    Args:
        gateway: The proxy.
        rules: For how long, and how many.
        live: Route of the live version.
        new: Route of the new version, which runs and gets no other requests.
        folders: The folders of their records.

    Raises:
        TransientError: The proxy does not answer; it may go on mirroring until the next deploy.
    """
    mirror = await in_thread(_Mirror, gateway, rules.processors, live, new)
    await asyncio.sleep(_FIRST_SECONDS)
    with ExitStack() as opened:
        readers = [opened.enter_context(RecordReader(folder, _MOST_BYTES)) for folder in folders]
        of_live, of_new = readers
        try:
            start = datetime.now(UTC)  # before the first request is mirrored
            await in_thread(mirror.adjust)
            while True:
                for reader in readers:
                    await in_thread(reader.read)
                passed = (datetime.now(UTC) - start).total_seconds()
                enough = min(len(of_live.lines), len(of_new.lines)) >= rules.requests
                full = of_live.size + of_new.size > _MOST_BYTES
                if enough or full or passed >= rules.seconds:
                    break
                if mirror.age > _MEASURE_SECONDS:
                    await in_thread(mirror.adjust)
                await asyncio.sleep(min(_LOOK_SECONDS, rules.seconds - passed))
            await in_thread(mirror.end)
            end = datetime.now(UTC)
            sent = await _drain(mirror, readers)
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(gateway.switch, live)
    return Traffic(Span(start, end), of_live.lines, of_new.lines, sent)


async def _drain(mirror: _Mirror, readers: list[RecordReader]) -> int:
    """Wait for the last answers and their records; return the number of mirrored requests."""
    begin, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begin) < _DRAIN_SECONDS or (
        # The proxy counts a request that is never answered when it gives up.
        not 0 < sent <= len(readers[-1].lines) and passed < MIRROR_SECONDS + _DRAIN_SECONDS
    ):
        await asyncio.sleep(_LOOK_SECONDS)
        for reader in readers:
            await in_thread(reader.read)
        sent = await in_thread(mirror.count)
    return sent
