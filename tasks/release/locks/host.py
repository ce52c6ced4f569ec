"""A lock of this host: a file, which the kernel unlocks when its holder dies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from filelock import FileLock, Timeout

from tasks.core.settings import Settings
from tasks.release.locks.holder import Holder


class HostLock:
    """A lock that runs on other hosts do not see.

    Args:
        name: Name of the environment.
    """

    poll_seconds = 0.5

    def __init__(self, name: str) -> None:
        self.name = name
        folder = Settings().locks
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / f"{name}.lock")
        self._holder_file = folder / f"{name}.json"

    async def take(self, holder: Holder) -> bool:
        """Take the lock, unless another run holds it."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        try:
            self._holder_file.write_text(json.dumps(holder.to_json()))
        except OSError:  # a full disk
            self._lock.release()
            raise
        return True

    async def read_holder(self) -> Holder | None:
        """Return the holder, None if there is none or it is unknown."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return self._read()
        self._lock.release()  # free, even if a killed run left its file
        return None

    @asynccontextmanager
    async def keep(self) -> AsyncIterator[None]:
        """Keep the lock for a block of code, then release it."""
        try:
            yield
        finally:
            self._holder_file.unlink(missing_ok=True)
            self._lock.release()

    def _read(self) -> Holder | None:
        try:
            return Holder.from_json(json.loads(self._holder_file.read_text()))
        except (OSError, ValueError, KeyError):
            return None
