"""A lock of this host: a file, of which the kernel lets go when its holder dies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from filelock import FileLock, Timeout

from tasks.core.settings import Settings
from tasks.release.locks.holder import Holder


class HostLock:
    """A lock for which those on other hosts do not wait.

    Args:
        name: What is locked, for instance an environment.
    """

    poll_seconds = 0.5

    def __init__(self, name: str) -> None:
        self.name = name
        folder = Settings().locks
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / f"{name}.lock")
        self._told = folder / f"{name}.json"

    async def take(self, who: Holder) -> bool:
        """Take it, unless somebody has it."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        self._told.write_text(json.dumps(who.describe()))
        return True

    async def holder(self) -> Holder | None:
        """Who holds it now, None if nobody does or it cannot be said who."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return self._read()
        self._lock.release()  # nobody, whatever one that was killed has left
        return None

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep it for a block of code, then let go of it."""
        try:
            yield
        finally:
            self._told.unlink(missing_ok=True)
            self._lock.release()

    def _read(self) -> Holder | None:
        try:
            return Holder.read(json.loads(self._told.read_text()))
        except (OSError, ValueError, KeyError):
            return None
