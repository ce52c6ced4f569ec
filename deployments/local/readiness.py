"""Waiting for the programs of a stack, each with a bound and the end of its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import httpx

from deployments.local import prefect_programs
from deployments.local.program import Program
from deployments.local.supervisor import listens
from deployments.prefect_api.client import PrefectAPI
from tasks.core.commands import tail
from tasks.core.errors import TransientError
from tasks.platforms.process.supervisor import Supervisor

# A first start makes a database and runs Prefect's migrations: 25 s on a quiet machine.
_READY_SECONDS = 120.0
_SUPERVISOR_SECONDS = 30.0
_LOG_LINES = 15
# supervisord has given up on a program in this state; it will not become ready.
_FATAL = "FATAL"


def wait_for_supervisor(supervisor: Supervisor, logs: Path) -> None:
    """Wait until supervisord answers.

    Raises:
        TransientError: It does not within half a minute.
    """
    log = logs / "supervisord.log"
    _wait(
        supervisor.alive,
        seconds=_SUPERVISOR_SECONDS,
        pause=0.05,
        failure=lambda: TransientError(
            f"supervisord does not answer; the end of {log}:\n{tail(log, _LOG_LINES)}",
            state="nothing else was started",
            next_step="make down, then run the same command again",
        ),
    )


def wait_until_ready(programs: Iterable[Program], supervisor: Supervisor, logs: Path) -> None:
    """Wait until every program that has a health URL is healthy.

    Raises:
        TransientError: One does not get ready; has the end of its log.
    """
    waiting = [program for program in programs if program.health]
    with httpx.Client(trust_env=False, timeout=2) as client:

        def all_ready() -> bool:
            waiting[:] = [program for program in waiting if not _is_healthy(client, program)]
            states = supervisor.programs() if waiting else {}
            for program in waiting:
                if states[program.name]["statename"] == _FATAL:
                    raise _not_ready(program.name, logs)
            return not waiting

        _wait(
            all_ready,
            seconds=_READY_SECONDS,
            pause=0.1,
            failure=lambda: _not_ready(waiting[0].name, logs),
        )


def wait_for_worker(api: PrefectAPI, supervisor: Supervisor, since: datetime, logs: Path) -> None:
    """Wait until the worker that was started at a time has reported to the Prefect server.

    Raises:
        TransientError: It does not; has the end of its log.
    """
    name = prefect_programs.WORKER

    def has_reported() -> bool:
        if supervisor.programs()[name]["statename"] == _FATAL:
            raise _not_ready(name, logs)
        heartbeat = api.last_heartbeat(prefect_programs.WORK_POOL)
        return heartbeat is not None and heartbeat >= since

    _wait(
        has_reported,
        seconds=_READY_SECONDS,
        pause=0.2,
        failure=lambda: _not_ready(name, logs),
    )


def _wait(
    condition: Callable[[], bool],
    *,
    seconds: float,
    pause: float,
    failure: Callable[[], TransientError],
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise failure()
        time.sleep(pause)


def _is_healthy(client: httpx.Client, program: Program) -> bool:
    url = httpx.URL(program.health or "")
    if url.scheme == "tcp":
        return url.port is not None and listens(url.port)
    try:
        return client.get(url).is_success
    except httpx.HTTPError:
        return False


def _not_ready(name: str, logs: Path) -> TransientError:
    log = logs / f"{name}.log"
    return TransientError(
        f"{name} does not get ready; the end of {log}:\n{tail(log, _LOG_LINES)}",
        state="the other programs of the stack run",
        next_step="make down, then run the same command again",
    )
