"""What this host has of the prediction log, and the bucket not yet."""

from __future__ import annotations

import asyncio
import time

from tasks.bucket.held_spools import is_held
from tasks.core import commands
from tasks.core.settings import Settings

# In which a server writes what is in its queue.
_QUEUE_SECONDS = 1.5
_SHIP_SECONDS = 10.0


async def wait_for_shipment(source: str, seconds: float = _SHIP_SECONDS) -> None:
    """Wait until the bucket has the records that servers of this host hold now.

    It is not waited for long: a bucket that is away, or files that are written for a minute, delay
    a report that can be made again.

    Args:
        source: Model and environment, as `/wine/local`.
        seconds: To wait at most.
    """
    folder = Settings().spool / source.strip("/")
    if not folder.is_dir():
        return  # its servers run elsewhere
    await asyncio.sleep(_QUEUE_SECONDS)
    files = {
        path.with_name(path.name.removesuffix(".part"))
        for path in folder.glob("*/*.jsonl*")
        if not is_held(path.parent)
    }
    end = time.monotonic() + seconds
    while files := {
        path for path in files if path.exists() or path.with_name(f"{path.name}.part").exists()
    }:
        if time.monotonic() > end:
            commands.run_logger().info("%d files of records are not in the bucket yet", len(files))
            return
        await asyncio.sleep(0.1)
