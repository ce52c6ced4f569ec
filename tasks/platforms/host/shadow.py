"""Shadow traffic: a new version is asked what the live one is, and nobody gets its answers.

The proxy mirrors a request once the live version has answered it, so no client waits for the new
one. Both keep their records, which are read here while they are written.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import anyio

from tasks.core import commands
from tasks.core.threads import in_thread
from tasks.monitoring.shadow import Traffic
from tasks.monitoring.window import Span
from tasks.platforms.base.shadow import ShadowRules
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.records import RecordReader
from tasks.platforms.host.route import Route

# Often enough to find a file of records before the shipper, which takes it after a second at least.
_LOOK_SECONDS = 0.4
# Servers write their records once a second; the last mirrored requests come after the last answers.
_DRAIN_SECONDS = 2.5
# Of both versions: their records are in memory, and parsed they take about ten times as much.
_MOST_BYTES = 64 << 20


async def mirror_traffic(
    gateway: Gateway, rules: ShadowRules, live: Route, new: Route, folders: tuple[Path, Path]
) -> Traffic:
    """Mirror the requests to the live version for a while, and return what both recorded.

    Args:
        gateway: The proxy.
        rules: For how long.
        live: Route of the live version.
        new: Route of the new version, which runs and gets no other requests.
        folders: The folders of their records.

    Raises:
        TransientError: The proxy does not answer; it may go on mirroring until the next deploy.
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(RecordReader(folder, _MOST_BYTES)) for folder in folders]
        of_live, of_new = readers
        try:
            await in_thread(gateway.mirror, live, new)
            start = datetime.now(UTC)
            commands.run_logger().info(
                "live requests are mirrored to %s, for %.0f s at most", new.release, rules.seconds
            )
            while True:
                for reader in readers:
                    await in_thread(reader.read)
                passed = (datetime.now(UTC) - start).total_seconds()
                enough = min(len(of_live.lines), len(of_new.lines)) >= rules.requests
                full = of_live.size + of_new.size > _MOST_BYTES
                if enough or full or passed >= rules.seconds:
                    break
                await asyncio.sleep(min(_LOOK_SECONDS, rules.seconds - passed))
            end = datetime.now(UTC)
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(gateway.switch, live)
        for _ in range(round(_DRAIN_SECONDS / _LOOK_SECONDS)):
            await asyncio.sleep(_LOOK_SECONDS)
            for reader in readers:
                await in_thread(reader.read)
        return Traffic(Span(start, end), of_live.lines, of_new.lines)
