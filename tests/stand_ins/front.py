"""The edge of a platform: one public URL, and the machines that it leads to now."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from deployments.local import gateway
from tasks.core.settings import CHECKOUT
from tasks.core.tls import ssl_context
from tests.containers import SECONDS, end_with, free_port, wait_for_port

_NAME = "edge"


class Front:
    """Traefik, as the edge of a platform.

    Args:
        folder: Which it watches.
        port: Of the public URL.
        api: URL of its API.
    """

    def __init__(self, folder: Path, port: int, api: str) -> None:
        self._folder = folder
        self._api = api
        self.url = f"http://127.0.0.1:{port}"

    def lead_to(self, urls: Sequence[str]) -> None:
        """Lead to these machines from now on, to none of them if there are none."""
        expected = sorted(urls)
        partial = self._folder / "edge.partial"
        partial.write_text(json.dumps(_routes(expected) if expected else {}))
        partial.replace(self._folder / "edge.yml")
        deadline = time.monotonic() + SECONDS
        while self.leads_to() != expected:
            assert time.monotonic() < deadline, "the edge does not take its routes"
            time.sleep(0.02)

    def leads_to(self) -> list[str]:
        """List the machines that it leads to."""
        answer = httpx.get(
            f"{self._api}/api/http/services/{_NAME}@file", trust_env=False, verify=ssl_context()
        )
        if answer.status_code == 404:
            return []
        return sorted(server["url"] for server in answer.json()["loadBalancer"]["servers"])


@contextlib.contextmanager
def run_front(folder: Path) -> Iterator[Front]:
    """Run the edge, which leads nowhere yet."""
    routes = folder / "routes"
    routes.mkdir(parents=True)
    ports = {_NAME: free_port(), gateway.API_PORT: free_port()}
    proxy = gateway.program(CHECKOUT / ".venv" / "bin", routes, ports, (_NAME,))
    log = folder / "edge.log"
    with log.open("wb") as file:
        process = subprocess.Popen(proxy.argv, stdout=file, stderr=file)
    with end_with(process):
        wait_for_port(ports[gateway.API_PORT], process, log)
        yield Front(routes, ports[_NAME], f"http://127.0.0.1:{ports[gateway.API_PORT]}")


def _routes(urls: Sequence[str]) -> dict[str, object]:
    router = {"rule": "PathPrefix(`/`)", "entryPoints": [_NAME], "service": _NAME}
    service = {"loadBalancer": {"servers": [{"url": url} for url in urls]}}
    return {"http": {"routers": {_NAME: router}, "services": {_NAME: service}}}
