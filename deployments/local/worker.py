"""The worker of the local stack: `python -m deployments.local.worker`.

Before it takes on anything, it recovers runs that have lost their process: they would count as
running, and hold the slot that the next one waits for. The automations of the server would do the
same a minute later (`deployments/catalogue/automations.py`), as they do for workers elsewhere; each
leaves alone what the other has done, so no run is started twice.

Then it is Prefect's process worker, as `prefect worker start` would run it, which polls as soon as
the server's events say that there may be a run (`polling.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import psutil
from prefect.logging.configuration import setup_logging
from prefect.settings import get_current_settings
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker

from deployments.local import processes
from deployments.local.polling import Poller
from deployments.local.prefect_programs import WORK_POOL
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import State
from tasks.core.errors import TransientError

_RUN_ID = "PREFECT__FLOW_RUN_ID"
_GONE = "its process is gone: killed, or stopped together with the stack"
_NEXT_STATES = {
    "RUNNING": State("CRASHED", "Crashed", _GONE),
    "PENDING": State("SCHEDULED", "AwaitingRetry", "its worker was killed before it had started"),
    "CANCELLING": State("CANCELLED", "Cancelled", _GONE),
}
_SERVER_SECONDS = 60.0


def recover_lost_runs(api: PrefectAPI, token: str) -> list[str]:
    """Put every run that has lost its process into a state that frees what it held.

    One that was running becomes Crashed (and, if it crashed for the first time, is run again by an
    automation), one that had not started is to start, one that was being cancelled becomes
    Cancelled. Processes that they have left behind are killed first.

    Args:
        api: The Prefect server of the stack, whose only worker is about to start.
        token: The stack's own value of the marker; a killed worker's flow runs go on by themselves.

    Returns:
        The ids of those runs.
    """
    engines: set[str] = set()
    children: list[tuple[psutil.Process, str]] = []
    for process in processes.of_stack(token):
        with contextlib.suppress(psutil.Error):
            if run_id := process.environ().get(_RUN_ID):
                children.append((process, run_id))
                if "prefect.engine" in process.cmdline():
                    engines.add(run_id)
    for process, run_id in children:
        if run_id not in engines:
            with contextlib.suppress(psutil.Error):
                process.kill()
    alive = {run.id for run_id in engines for run in api.read_run_tree(run_id)}
    lost = [run for run in api.find_runs(tuple(_NEXT_STATES)) if run.id not in alive]
    for run in lost:
        api.force_state(run.id, _NEXT_STATES[run.state])
    return [run.id for run in lost]


async def work() -> None:
    """Run Prefect's worker until it is stopped, with SIGTERM or SIGINT; its runs end with it."""
    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    settings = get_current_settings().worker
    worker = ProcessWorker(
        name="local",
        work_pool_name=WORK_POOL,
        create_pool_if_not_found=False,
        prefetch_seconds=settings.prefetch_seconds,
        heartbeat_interval_seconds=int(settings.heartbeat_seconds),
    )
    poller = Poller(worker, WORK_POOL, int(settings.prefetch_seconds))
    # In the order in which they are stopped: polls need the client that the worker closes.
    tasks = [asyncio.create_task(poller.run()), asyncio.create_task(worker.start())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    """Recover lost runs, then be Prefect's worker."""
    deadline = time.monotonic() + _SERVER_SECONDS
    with PrefectAPI.from_environment() as api:
        while not api.is_healthy():
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the Prefect server at {api.url} does not answer",
                    state="the worker has not started",
                    next_step="make status",
                )
            time.sleep(0.5)
        for run_id in recover_lost_runs(api, os.environ[processes.MARKER]):
            print(f"flow run {run_id} has lost its process", flush=True)
    setup_logging()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())


if __name__ == "__main__":
    main()
