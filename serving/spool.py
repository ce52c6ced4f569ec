"""Where records go: files of bounded size in a folder, or standard output.

A program outside of the server's box carries the files away (`docs/prediction-log.md`). A file that
is still written ends in `.part` and is locked by its server; a part without a lock is what a killed
server has left.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

FILE_BYTES = 8 << 20
SUFFIX, OPEN_SUFFIX = ".jsonl", ".jsonl.part"


class Sink(Protocol):
    """A place for records."""

    @property
    def is_open(self) -> bool:
        """Tell if a later `flush` will have something to do."""

    def write(self, day: str, lines: bytes) -> None:
        """Keep records of one day.

        Raises:
            OSError: it cannot; none of them is kept.
        """

    def flush(self, *, is_last: bool = False) -> None:
        """Hand over what was written long enough ago; everything if nothing follows.

        Raises:
            OSError: it cannot.
        """


class StandardOutput:
    """Standard output, with nothing but records: the server's log goes to standard error."""

    is_open = False

    def __init__(self, lock: int | None = None) -> None:
        """Begin.

        Args:
            lock: an open file, shared with other processes that print records.
        """
        self._lock = lock

    def write(self, day: str, lines: bytes) -> None:
        """Print records."""
        if self._lock is None:
            self._print(lines)
            return
        # A pipe takes 4 KB at once; what others print would come in between.
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            self._print(lines)
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _print(self, lines: bytes) -> None:
        # Not through its buffer: a thread that waits there for a reader keeps the process from
        # ending.
        _write_all(sys.stdout.fileno(), lines)

    def flush(self, *, is_last: bool = False) -> None:
        """Do nothing: what is printed is handed over."""


def _write_all(file: int, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[os.write(file, rest) :]


class Spool:
    """Files of records in a folder, each of one day, whole once they end in `.jsonl`."""

    def __init__(
        self, folder: Path, seconds: float, most_bytes: int, drop: Callable[[int], None]
    ) -> None:
        """Begin without a file.

        Args:
            folder: of this version's records; its servers share it.
            seconds: after which a file is complete.
            most_bytes: of all files that wait; the oldest ones make room.
            drop: called with the number of records in a file that was removed for that.
        """
        self._folder = folder
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._drop = drop
        host = "".join(c for c in socket.gethostname() if c.isalnum())[:32] or "host"
        self._writer = f"{host}x{secrets.token_hex(4)}"  # in a box all hosts have one name
        self._number = 0
        self._file: int | None = None
        self._path = Path()
        self._day = ""
        self._size = 0
        self._opened = 0.0

    @property
    def is_open(self) -> bool:
        """Tell if a file is being written."""
        return self._file is not None

    def write(self, day: str, lines: bytes) -> None:
        """Append records to the file of their day."""
        if self._file is not None and (day != self._day or self._size >= FILE_BYTES):
            self._complete()
        file = self._open(day) if self._file is None else self._file
        try:
            _write_all(file, lines)
        except OSError:  # a full disk: no half record is left
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size)
            raise
        self._size += len(lines)

    def flush(self, *, is_last: bool = False) -> None:
        """Complete the file if it is old enough."""
        if self._file is not None and (is_last or time.monotonic() - self._opened >= self._seconds):
            self._complete()

    def _open(self, day: str) -> int:
        self._make_room()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._number += 1
        path = self._folder / f"{day}.{self._writer}-{stamp}-{self._number}{OPEN_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        self._file, self._path, self._day, self._size = file, path, day, 0
        self._opened = time.monotonic()
        return file

    def _complete(self) -> None:
        """Rename the file, and only then release it."""
        file, self._file = self._file, None
        try:
            if self._size:
                self._path.rename(self._path.with_suffix(""))
            else:
                self._path.unlink(missing_ok=True)
        finally:
            if file is not None:
                os.close(file)

    def _make_room(self) -> None:
        """Remove the oldest files that wait, until another one fits."""
        waiting = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # carried away meanwhile
                facts = path.stat()
                waiting.append((facts.st_mtime, facts.st_size, path))
        total = sum(size for _, size, _ in waiting)
        for _, size, path in sorted(waiting):
            if total + FILE_BYTES <= self._most_bytes:
                return
            with contextlib.suppress(OSError):
                records = path.read_bytes().count(b"\n")
                path.unlink()
                self._drop(records)
            total -= size
