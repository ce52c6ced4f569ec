"""Locks that say who holds them, and that the kernel releases when their holder dies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import AsyncFileLock, Timeout
from prefect.runtime import flow_run

from tasks.commands import run_logger
from tasks.errors import TransientError
from tasks.settings import Settings

_WAIT_SECONDS = 1800.0
_POLL_SECONDS = 0.5


@asynccontextmanager
async def hold(name: str, version: str, *, wait: float = _WAIT_SECONDS) -> AsyncIterator[None]:
    """Hold a lock of this host for a block of code, waiting for whoever has it.

    Args:
        name: What is locked, for instance an environment.
        version: For which model version, told to those who wait.
        wait: Seconds to wait for it.

    Raises:
        TransientError: Somebody else still had it after that time.
    """
    folder = Settings().locks
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    holder = path.with_suffix(".json")
    lock = AsyncFileLock(path, poll_interval=_POLL_SECONDS)
    try:
        await lock.acquire(blocking=False)
    except Timeout:
        run_logger().info("%s is locked by %s: waiting", name, _told(holder))
        try:
            await lock.acquire(timeout=wait)
        except Timeout:
            raise TransientError(
                f"{name} was locked for {wait:.0f} s by {_told(holder)}",
                state="nothing was changed",
                next_step="look at that run in the Prefect UI, cancel it if it hangs, run again",
            ) from None
    try:
        who = {
            "flow_run": flow_run.get_name() or "by hand",
            "id": flow_run.get_id(),
            "version": version,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        holder.write_text(json.dumps(who))
        yield
    finally:
        holder.unlink(missing_ok=True)
        await lock.release()


def _told(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
    except (OSError, ValueError):
        return "another run"
    return f"flow run {who['flow_run']} for {who['version']} since {who['since']}"
