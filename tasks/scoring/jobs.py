"""Jobs: what a run has begun, kept on this host until it is published; another run continues it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.core import commands
from tasks.core.errors import TerminalError
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings

_KEPT_SECONDS = 7 * 86_400.0  # of a job that nobody continues


@dataclass(frozen=True)
class Start:
    """The facts of a job that stay the same, whoever continues it.

    Attributes:
        commit: The commit whose model scores.
        version: Name of its version, empty if it has none.
        run: Id of the flow run that began.
        time: When, in UTC.
        states: The states of the files of the source.
    """

    commit: str
    version: str
    run: str
    time: str
    states: Mapping[str, str]

    @property
    def identity(self) -> str:
        """A name that no other job has: on other hosts some may have the same parameters."""
        return fingerprint(self.run, self.time)


class Job:
    """A job on this host.

    Args:
        folder: Its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"  # of the box, whose code is foreign
        self.source = folder / "source"
        self._file = folder / "start.json"

    @property
    def key(self) -> str:
        """The name of the job; of the same parameters it is the same."""
        return self.folder.name

    def read_start(self) -> Start | None:
        """Read the facts of a job that a run has begun; None if this run is the first."""
        try:
            return Start(**json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, start: Start) -> None:
        """Write the facts of a job, and remove what another left here."""
        self.discard()
        self.work.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(start)))
        partial.replace(self._file)

    def discard(self) -> None:
        """Remove the job."""
        shutil.rmtree(self.folder, ignore_errors=True)


@asynccontextmanager
async def hold_job(*parameters: str) -> AsyncIterator[Job]:
    """Hold the job of some parameters beside a block of code.

    A job that ends, or fails for good, is removed. After an outage, a cancelled or a killed run it
    stays, and the next run with the same parameters continues it.

    Raises:
        TerminalError: Another run holds it.
    """
    settings = Settings()
    folder = settings.scores
    folder.mkdir(parents=True, exist_ok=True)
    settings.locks.mkdir(parents=True, exist_ok=True)
    key = fingerprint(*parameters)
    lock = FileLock(settings.locks / f"score-{key}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise TerminalError(
            "another run scores the same source to the same target",
            state="nothing was scored by this run",
            next_step="wait for the other run, or cancel it",
        ) from None
    try:
        remove_old(folder, key)
        job = Job(folder / key)
        try:
            yield job
        except TerminalError:
            job.discard()
            raise
        job.discard()
    finally:
        lock.release()


def remove_old(folder: Path, key: str) -> None:
    """Remove the jobs that nobody has continued, but not the one with a key."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another run has just ended, and removed its own
            if path.name != key and path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                commands.run_logger().info("removed job %s, which nobody has continued", path.name)
                shutil.rmtree(path, ignore_errors=True)
