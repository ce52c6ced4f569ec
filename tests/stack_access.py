"""The Prefect server of a local stack, for a test: over HTTP, and by Prefect in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from deployments.prefect_api.server_auth import ServerAuth, basic
from tasks.core.errors import TransientError
from tasks.core.tls import ssl_context

_SERVER_SECONDS = 60.0


def prefect_http(stack: Stack) -> httpx.Client:
    """Return an HTTP client of the server's API, with its credentials."""
    url = stack.prefect_api_url
    return httpx.Client(
        base_url=url,
        auth=ServerAuth(url, basic(stack.credentials.prefect)),
        trust_env=False,
        timeout=20,
        verify=ssl_context(),
    )


@contextmanager
def prefect_of(stack: Stack) -> Iterator[None]:
    """Let Prefect in this process use the server until the end of the block."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    settings = {
        PREFECT_API_URL: stack.prefect_api_url,
        PREFECT_API_AUTH_STRING: stack.credentials.prefect,
    }
    with temporary_settings(settings):
        yield


def wait_for_end(api: PrefectAPI, run_id: str, every: float = 0.5) -> FlowRun:
    """Wait until a run is final, with one request at a time.

    Args:
        every: Seconds between two requests: each costs the server about 10 ms of CPU, and
            `PrefectAPI.follow`, which reads subflow runs and logs as well, four times as much.
    """
    deadline = time.monotonic() + _SERVER_SECONDS
    while True:
        try:
            run = api.read_run(run_id)
        except TransientError:  # a test has killed the server
            if time.monotonic() > deadline:
                raise
        else:
            deadline = time.monotonic() + _SERVER_SECONDS
            if run.finished:
                return run
        time.sleep(every)
