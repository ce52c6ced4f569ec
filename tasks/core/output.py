"""The output of a program, line by line."""

from __future__ import annotations

import asyncio
import codecs
import logging
import re
from collections.abc import Awaitable, Callable

from tasks.core.errors import TerminalError

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

# Bars and counters that tools redraw: "45%|███ ", "Collecting |12.0 [00:00, 1.1entry/s]".
_PROGRESS = re.compile(r"\d+%\|| \[\d\d:\d\d[,<]|^\s*[\\|/-]\s*$")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Kept in memory, and sent to Prefect; code of a ref may print without end.
LARGEST_OUTPUT_BYTES = 64 << 20


class Output:
    """The lines of one pipe, without progress bars, logged as they come."""

    def __init__(
        self,
        stream: asyncio.StreamReader,
        logger: Logger | None,
        watch: Callable[[str], Awaitable[None]] | None,
    ) -> None:
        self._stream = stream
        self._logger = logger
        self._watch = watch
        self._lines: list[str] = []

    async def drain(self) -> None:
        """Read the pipe to its end.

        Raises:
            TerminalError: It has no end.
        """
        size = 0
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        while chunk := await self._stream.read(65536):  # not readline(): no limit on a line
            size += len(chunk)
            if size > LARGEST_OUTPUT_BYTES:
                raise TerminalError(
                    f"a program printed more than {LARGEST_OUTPUT_BYTES / (1 << 20):.0f} MB",
                    state="it was stopped, with every process that it had started",
                    next_step="have the stage print less, commit, and run the flow again",
                )
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                await self._take(line)
        if rest:
            await self._take(rest)

    async def discard(self) -> None:
        """Read the rest of the pipe, and throw it away."""
        while await self._stream.read(65536):
            pass

    async def _take(self, line: str) -> None:
        # A redrawn line ends in what was drawn last.
        line = _ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if _PROGRESS.search(line):
            return
        self._lines.append(line)
        if self._logger and line:
            self._logger.info(line)
        if self._watch:
            await self._watch(line)

    def text(self) -> str:
        """Return the lines read so far."""
        return "".join(f"{line}\n" for line in self._lines)
