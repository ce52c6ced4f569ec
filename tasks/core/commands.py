"""The one place where tasks start another program.

Pure functions build the argvs (`repository/git.py`, `bucket/dvc.py`, ...), so that a test can
compare them without running anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tasks.core.disk import require_space
from tasks.core.errors import TransientError
from tasks.core.output import Logger, Output

Argv = list[str]

_GRACE_SECONDS = 5.0
# DVC and uv of our own lock, whatever else is on PATH.
_TOOLS = Path(sys.executable).parent
# Some programs tell a missing repository from a lost connection by their words alone, which they
# translate. LANGUAGE has to go too: it wins over every locale but plain C, which has no UTF-8.
_ENGLISH = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}


class CommandTimeout(TransientError):
    """The failure of a program that took too long."""


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a program that ran to its end.

    Attributes:
        code: Its exit code; negative is the signal that ended it.
        seconds: Wall-clock time.
    """

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def tail(self, lines: int = 12) -> str:
        """Return the last lines of the output, standard error last, for an error message."""
        return _last_lines(self.stdout + self.stderr, lines)

    def last_object(self) -> dict[str, Any]:
        """Return the object of JSON in the last line of the standard output; empty if none."""
        try:
            return dict(json.loads(self.stdout.splitlines()[-1]))
        except (ValueError, IndexError, TypeError):
            return {}


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
) -> CommandResult:
    """Run a program to its end, and log its output line by line in the current run.

    It gets a process group of its own, which is killed when the time is up or the calling run is
    cancelled: no child outlives its flow run.

    Args:
        argv: The program and its arguments; no secrets, the process list would show them.
        timeout: Seconds.
        env: Variables added to the current environment; the place for secrets.
        hide: Prefixes of variables to remove from the current environment.
        log: Whether to log the output.
        watch: Called with every line, to follow the progress.

    Returns:
        Exit code and output; the caller judges a non-zero code.

    Raises:
        CommandTimeout: The time was up.
        TerminalError: It failed, and a disk is full.
    """
    logger = run_logger()
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=_environment(env, hide),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stderr
    out, err = (
        Output(pipe, logger if log else None, watch) for pipe in (process.stdout, process.stderr)
    )
    reading = {asyncio.ensure_future(output.drain()): output for output in (out, err)}
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(*reading, process.wait())
    except TimeoutError:
        await _stop(process, reading)
        raise _too_slow(argv, timeout) from None
    except BaseException:  # cancelled, or it prints without end: leave nothing behind
        await asyncio.shield(_stop(process, reading))
        raise
    assert process.returncode is not None
    if process.returncode:
        require_space(cwd, " ".join(argv[:3]))
    return CommandResult(
        tuple(argv), process.returncode, out.text(), err.text(), time.monotonic() - started
    )


def run_blocking(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    hide: tuple[str, ...] = (),
) -> CommandResult:
    """Run a program to its end from code that is not asynchronous, without logging its output.

    Args:
        argv: The program and its arguments; no secrets, the process list would show them.
        timeout: Seconds.
        env: Variables added to the current environment; the place for secrets.
        hide: Prefixes of variables to remove from the current environment.

    Returns:
        Exit code and output; the caller judges a non-zero code.

    Raises:
        CommandTimeout: The time was up.
        TerminalError: It failed, and a disk is full.
    """
    started = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=_environment(env, hide),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(argv, timeout) from None
    if done.returncode:
        require_space(cwd, " ".join(argv[:3]))
    return CommandResult(
        tuple(argv), done.returncode, done.stdout, done.stderr, time.monotonic() - started
    )


def _environment(env: Mapping[str, str] | None, hide: tuple[str, ...]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hide)}
    path = f"{_TOOLS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return inherited | {"PATH": path} | _ENGLISH | dict(env or {})


def _too_slow(argv: Sequence[str], timeout: float) -> CommandTimeout:
    return CommandTimeout(
        f"`{' '.join(argv[:3])} ...` did not finish within {timeout:.0f} s",
        state="it was stopped, with every process that it had started",
        next_step="run the flow again; it continues where this run stopped",
    )


class BackgroundProgram:
    """A program that runs beside the flow, until its context ends.

    Args:
        log: File of its output.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.returncode

    def tail(self, lines: int = 12) -> str:
        """Return the last lines of its output."""
        return tail(self._log, lines)


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log file that are not blank; none if there is no file."""
    return _last_lines(log.read_text(errors="replace"), lines) if log.is_file() else ""


def _last_lines(text: str, count: int) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


@asynccontextmanager
async def run_in_background(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
) -> AsyncIterator[BackgroundProgram]:
    """Run a program beside a block of code, and kill its process group at the end of it.

    Args:
        env: The whole environment: the program inherits nothing from this process.
        log: File for its output.
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
        yield BackgroundProgram(process, log)
    finally:
        await asyncio.shield(_kill_group(process))


async def _stop(
    process: asyncio.subprocess.Process, reading: Mapping[asyncio.Task[None], Output]
) -> None:
    await _kill_group(process)
    done, _ = await asyncio.wait(reading, timeout=_GRACE_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            for reader in done:  # else their pipes stay open
                await reading[reader].discard()


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
    """Kill the processes that a killed run left working in a folder, except other users'."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()
