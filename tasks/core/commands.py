"""Run an argv: the one place where Slipway starts another program.

Everything else builds argvs with pure functions (`repository/git.py`, `bucket/dvc.py`, ...),
so that what would run can be compared in a test without running it.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.errors import TransientError

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

# Bars and counters that tools redraw: "45%|███ ", "Collecting |12.0 [00:00, 1.1entry/s]".
_PROGRESS = re.compile(r"\d+%\|| \[\d\d:\d\d[,<]|^\s*[\\|/-]\s*$")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_GRACE_SECONDS = 5.0
# DVC, GTO and uv of our own lock, whatever else is on PATH.
_TOOLS = Path(sys.executable).parent


class TimedOut(TransientError):
    """A program took longer than it may."""


@dataclass(frozen=True)
class Finished:
    """A program that ran to its end.

    Attributes:
        argv: What was run.
        code: Its exit code; negative is the signal that ended it.
        stdout: What it wrote to standard output.
        stderr: What it wrote to standard error.
        seconds: How long it took.
    """

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def tail(self, lines: int = 12) -> str:
        """The last lines of what it said, standard error last, for an error message."""
        said = [line for line in (self.stdout + self.stderr).splitlines() if line.strip()]
        return "\n".join(said[-lines:])


def run_logger() -> Logger:
    """Return the logger of the current flow or task run, or a plain one outside of a run."""
    # Whatever is in a run has imported Prefect; scripts that only run a command must not wait for
    # it.
    if "prefect" not in sys.modules:
        return logging.getLogger("slipway")
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_logger, get_run_logger

    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("slipway")


async def run(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    hide: tuple[str, ...] = (),
    log: bool = True,
    watch: Callable[[str], Awaitable[None]] | None = None,
) -> Finished:
    """Run a program to its end, its output line by line in the log of the current run.

    It gets a process group of its own, which is killed when the time is up or the calling run is
    cancelled: no child outlives its flow run.

    Args:
        argv: The program and its arguments; no secrets, they would show in the process list.
        timeout: Seconds it may take.
        cwd: Folder to run in.
        env: Variables added to the current environment; the place for secrets.
        hide: Beginnings of variables of ours that it does not get.
        log: Whether its lines go to the log.
        watch: Called with every line, to follow its progress.

    Returns:
        Exit code and output; a non-zero code is the caller's to judge.

    Raises:
        TimedOut: The time was up.
    """
    logger = run_logger()
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith(hide)}
        | {"PATH": f"{_TOOLS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        | dict(env or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stderr
    out, err = (
        _Lines(pipe, logger if log else None, watch) for pipe in (process.stdout, process.stderr)
    )
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(out.drain(), err.drain(), process.wait())
    except TimeoutError:
        await _kill_group(process)
        raise TimedOut(
            f"`{' '.join(argv[:3])} ...` did not finish within {timeout:.0f} s",
            state="it was stopped, with everything it had started",
            next_step="run the flow again; it goes on where this one stopped",
        ) from None
    except BaseException:  # cancelled: leave nothing behind
        await asyncio.shield(_kill_group(process))
        raise
    assert process.returncode is not None
    return Finished(
        tuple(argv), process.returncode, out.text(), err.text(), time.monotonic() - started
    )


class Running:
    """A program that runs beside the flow, until its context ends.

    Args:
        process: The process.
        log: File that takes what it says.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.returncode

    def tail(self, lines: int = 12) -> str:
        """The last lines of what it said."""
        return tail(self._log, lines)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log file that say something."""
    if not log.is_file():
        return ""
    said = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in said if line.strip()][-lines:])


@asynccontextmanager
async def running(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
) -> AsyncIterator[Running]:
    """Run a program while a block of code goes on, and kill its process group at the end.

    Args:
        argv: The program and its arguments.
        cwd: Folder to run in.
        env: All of its environment: nothing of ours is passed on.
        log: File that takes what it says.

    Yields:
        The running program.
    """
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(process, log)
    finally:
        await asyncio.shield(_kill_group(process))


class _Lines:
    """Reads one pipe: keeps every line, logs those worth reading."""

    def __init__(
        self,
        stream: asyncio.StreamReader,
        logger: Logger | None,
        watch: Callable[[str], Awaitable[None]] | None,
    ) -> None:
        self._stream = stream
        self._logger = logger
        self._watch = watch
        self._kept: list[str] = []

    async def drain(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        while chunk := await self._stream.read(65536):  # not readline(): no limit on a line
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                await self._take(line)
        if rest:
            await self._take(rest)

    async def _take(self, line: str) -> None:
        # A redrawn line ends in what was drawn last.
        line = _ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if _PROGRESS.search(line):
            return
        self._kept.append(line)
        if self._logger and line:
            self._logger.info(line)
        if self._watch:
            await self._watch(line)

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._kept)


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    # The second round also ends what the leader left behind in its group.
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            async with asyncio.timeout(_GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            continue
        except (ProcessLookupError, PermissionError):  # nobody left (macOS says EPERM)
            return


def end_processes_in(folder: Path) -> None:
    """End the processes that a killed run has left working in a folder.

    Args:
        folder: The folder; processes of other users are left alone.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()


Argv = list[str]
