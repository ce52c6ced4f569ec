"""Read the API and the counters of the proxy (Traefik)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tasks.core.errors import ConfigurationError
from tasks.core.tls import ssl_context
from tasks.platforms.base.no_answer import no_answer


@contextmanager
def open_api(api: str) -> Iterator[httpx.Client]:
    """Call the API of a proxy.

    Raises:
        TransientError: It does not answer, or not as it should.
    """
    try:
        with httpx.Client(base_url=api, timeout=5, trust_env=False, verify=ssl_context()) as client:
            yield client
    except httpx.HTTPError as error:
        raise no_answer(
            f"the proxy at {api}",
            "its API",
            error,
            next_step="run `slipway up`, then the flow again",
        ) from error


def read_metrics(api: str) -> str:
    """Read the counters of a proxy, as Prometheus reads them.

    Args:
        api: URL of its API.

    Raises:
        ConfigurationError: It does not count.
        TransientError: It does not answer.
    """
    with open_api(api) as client:
        answer = client.get("/metrics")
        if answer.status_code == 404:
            raise ConfigurationError(
                f"the proxy at {api} does not count requests",
                state="traffic was not switched",
                next_step="start it with the options of deployments/local/gateway.py (the local"
                " stack: `slipway up`), or remove `canary`, `shadow` and `watch` from the"
                " environment's file",
            )
        return answer.raise_for_status().text
