"""Records of a prediction log, read as they are written, beside the shipper that takes them away.

Code of a model can write into the folder: files are read as lines, and no link or pipe is opened.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.core.plain_file import open_plain

_PATTERN = "*.jsonl*"
_CHUNK = 1 << 20
_MOST_FILES = 500


class RecordReader:
    """The lines that come into a folder of records from now on.

    A file stays open until it is read, and removed by the shipper.

    Args:
        folder: The folder.
        most_bytes: After so many nothing more is read: code that nobody has released may write it.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._files: dict[tuple[int, int], int] = {}
        self._rests: dict[int, bytes] = {}
        self.lines: list[bytes] = []
        self.size = 0

    def __enter__(self) -> Self:
        """Leave out what is there already."""
        for file in self._open_new():
            os.lseek(file, 0, os.SEEK_END)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            os.close(file)

    def read(self) -> None:
        """Read what has come since the last time."""
        self._open_new()
        for identity, file in list(self._files.items()):
            is_removed = not os.fstat(file).st_nlink  # as the shipper does with a complete file
            while self.size <= self._most_bytes and (chunk := os.read(file, _CHUNK)):
                *lines, rest = (self._rests.get(file, b"") + chunk).split(b"\n")
                self._rests[file] = rest
                self.lines += lines
                self.size += len(chunk)
            if is_removed and self.size <= self._most_bytes:
                del self._files[identity]
                self._rests.pop(file, None)
                os.close(file)

    def _open_new(self) -> list[int]:
        opened = []
        for path in self._folder.glob(_PATTERN):
            if len(self._files) >= _MOST_FILES:
                break
            with suppress(OSError):  # gone meanwhile, or a link
                facts = path.lstat()
                identity = facts.st_dev, facts.st_ino
                if identity in self._files or not stat.S_ISREG(facts.st_mode):
                    continue
                file = open_plain(path)
                self._files[identity] = file
                opened.append(file)
        return opened
