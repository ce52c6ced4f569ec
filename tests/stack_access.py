"""The Prefect server of a local stack, for a test: over HTTP, and by Prefect in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from deployments.local.stack import Stack
from deployments.prefect_api.server_auth import ServerAuth, basic
from tasks.core.tls import ssl_context


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
