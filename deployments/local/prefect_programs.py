"""The Prefect server and worker of the local stack, as data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.local.ports import HOST
from deployments.local.program import Program

SERVER = "prefect-server"
WORKER = "prefect-worker"
SERVER_PORT = "prefect"
WORK_POOL = "slipway"


def server(
    checkout: Path, folder: Path, ports: Mapping[str, int], *, database_url: str, login: str
) -> Program:
    """Describe the server.

    Args:
        checkout: Where this package is.
        folder: Its `PREFECT_HOME`.
        ports: Its port, by name.
        database_url: URL of its PostgreSQL, with the password in it.
        login: `user:password` that it asks for.
    """
    port = ports[SERVER_PORT]
    url = f"http://{HOST}:{port}"
    return Program(
        name=SERVER,
        argv=(
            sys.executable,
            "-m",
            "deployments.local.prefect_server",
            f"--host={HOST}",
            f"--port={port}",
        ),
        # Not the checkout: what a `.env` there says of another server is not for this one.
        directory=folder,
        environment={
            "PYTHONPATH": str(checkout),
            "PREFECT_HOME": str(folder),
            "PREFECT_UI_API_URL": f"{url}/api",
            "PREFECT_UI_URL": url,  # of links in notifications
            # Without them, every web page and every user of this machine runs what it likes here.
            "PREFECT_SERVER_API_AUTH_STRING": login,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
            # The form for approval of v2 does not show what is approved; v2 asks amplitude.com too.
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # Prefect knows the blocks of prefect-aws by itself. To find out whether they have
            # changed it would import all of that at each start, which takes a second.
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "deployments.local.event_order",
            # How soon a new schedule makes its first runs; the default is 60 s.
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            # A fifth of what an idle server does, for what can wait a little: approvals whose time
            # is up, clean-up of pools (none here), runs that are late.
            "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "30",
            "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "15",
            # How soon a run that had to wait for another looks again; the default is 30 s.
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url,
        },
        health=f"{url}/api/health",
        priority=20,
    )


def worker(checkout: Path, environment: Mapping[str, str]) -> Program:
    """Describe the worker.

    Args:
        checkout: Where the flows are.
        environment: What flow runs need to know, see `worker_environment`.

    Returns:
        The program; the stack starts it once there is something to work on.
    """
    return Program(
        name=WORKER,
        argv=(sys.executable, "-m", "deployments.local.worker"),
        directory=checkout,
        environment=environment,
        autostart=False,
        priority=40,
    )
