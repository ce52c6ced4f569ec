"""The proxy (Traefik) that moves traffic between the releases on the worker's own host.

Traefik reads its routes from a folder, and keeps its clients' connections open when they change:
0 of 14,828 requests on keep-alive connections failed over 10 switches.

A release may have several servers. Traefik then asks each whether it is ready, and leaves out
those that are not. A request that it could not hand to a server goes to another one. A request that
a server has begun to read does not: if it ended that server, it would end the next one too.

While predictions are shared out between two releases, one of them is live: the route of everything
else (page, documentation, `/version`) leads to it, so that nobody sees a mixture of two.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from tasks.core.errors import ConfigurationError, TransientError
from tasks.core.fingerprint import fingerprint
from tasks.platforms.base.replicas import Replicas
from tasks.platforms.host.counters import Counters, read_counters
from tasks.platforms.host.proxy_api import open_api, read_metrics
from tasks.platforms.host.route import Route, make_service

_SWITCH_SECONDS = 15.0
# Until the next check a dead server has its turn like the others, and with other clients in between
# each try may meet it again: of two servers, one in 2**20 requests finds no living one.
_TRIES = 20
MIRROR_SECONDS = 10  # for the answer to a mirrored request
# A new version that hangs must not keep the proxy's memory: of a mirrored request nobody waits for
# the answer.
_MIRROR_TIMEOUTS = {"dialTimeout": "2s", "responseHeaderTimeout": f"{MIRROR_SECONDS}s"}
# Traefik takes that much memory for each request that it mirrors, whatever the size of the request:
# with 1 MB, finding it again cost the proxy 1.3 ms of CPU for each.
_MIRRORED_BYTES = 64 << 10
# Only requests of which a server keeps records: others, which no page answers, would count as lost.
_MIRRORED_PATHS = ("/predict", "/predict_proba", "/invocations")


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

    @property
    def identity(self) -> str:
        """A fingerprint that differs between environments of one name behind two proxies."""
        return fingerprint(str(self._file.resolve()))

    def address(self) -> str:
        """Return the address on which Traefik listens for this environment.

        Raises:
            ConfigurationError: It was started without a port for it.
            TransientError: It does not answer.
        """
        with open_api(self._api) as api:
            answer = api.get(f"/api/entrypoints/{self._environment}")
            if answer.status_code == 404:
                raise ConfigurationError(
                    f"the proxy at {self._api} has no entry point {self._environment}",
                    state="nothing was started",
                    next_step="run `slipway up`, or give Traefik an entry point of that name",
                )
            return str(answer.raise_for_status().json()["address"])

    def route(self) -> Route | None:
        """Return the route of the traffic, as Traefik reports it; None if there is none.

        Raises:
            TransientError: Traefik does not answer, or has not read its routes yet.
        """
        with open_api(self._api) as api:
            router = api.get(f"/api/http/routers/{self._environment}@file")
            if router.status_code == 404 and not self._file.exists():
                return None
            name = router.raise_for_status().json()["service"]
            service = api.get(f"/api/http/services/{name}@file").raise_for_status().json()
        urls = [httpx.URL(server["url"]) for server in service["loadBalancer"]["servers"]]
        return Route(name, tuple(url.port or 80 for url in urls))

    def replicas(self, route: Route) -> Replicas:
        """Count the servers of a route, and those that Traefik sends requests to.

        Raises:
            TransientError: Traefik does not answer, or does not have the route.
        """
        with open_api(self._api) as api:
            answer = api.get(f"/api/http/services/{route.release}@file").raise_for_status()
        states = answer.json().get("serverStatus", {})
        return Replicas(sum(states.get(url) == "UP" for url in route.urls), len(route.urls))

    def next_release(self) -> str | None:
        """Return the release that gets the traffic once Traefik has read its routes."""
        if not self._file.exists():
            return None
        routers = json.loads(self._file.read_text())["http"]["routers"]
        return str(routers[self._environment]["service"])

    def shares(self) -> dict[str, int]:
        """Return each release's share of the predictions, in percent; empty without a canary.

        Raises:
            TransientError: Traefik does not answer.
        """
        with open_api(self._api) as api:
            router = api.get(f"/api/http/routers/{self._canary}@file")
            if router.status_code == 404:
                return {}
            name = router.raise_for_status().json()["service"]
            service = api.get(f"/api/http/services/{name}@file").raise_for_status().json()
        return {part["name"]: part["weight"] for part in service["weighted"]["services"]}

    def switch(self, route: Route | None) -> None:
        """Send all traffic somewhere else, and wait until Traefik does.

        Args:
            route: The new route; None to remove it.

        Raises:
            TransientError: Traefik does not take the new route.
        """
        if route is None:
            self._file.unlink(missing_ok=True)
        else:
            self._write({self._environment: self._router(route)}, [route])
        self._wait(route, {})

    def share(self, live: Route, new: Route, percent: int) -> None:
        """Send some of the predictions to a new release, and wait until Traefik does.

        Args:
            live: Route of the live release, which gets all other traffic.
            new: Route of the new release.

        Raises:
            TransientError: Traefik does not take the new routes.
        """
        shares = {live.release: 100 - percent, new.release: percent}
        weighted = [{"name": name, "weight": weight} for name, weight in shares.items()]
        canary = self._router(live, new) | {
            "rule": "Method(`POST`)",
            "priority": 1000,
            "service": self._canary,
        }
        self._write(
            {self._environment: self._router(live), self._canary: canary},
            [live, new],
            {self._canary: {"weighted": {"services": weighted}}},
        )
        self._wait(live, shares)

    def mirror(self, live: Route, new: Route, percent: int) -> None:
        """Send predictions that the live release has answered to a new one too, and wait.

        Nobody gets the answers of the new one. A request that is larger than 64 KB is not mirrored:
        the proxy has to keep it until it is answered.

        Args:
            live: Route of the live release, which gets and answers all traffic.
            new: Route of the new release.
            percent: The share of the requests, spread evenly; 0 to send no more of them, while
                those under way are still counted.

        Raises:
            TransientError: Traefik does not take the new routes.
        """
        name = self._mirror
        paths = " || ".join(f"Path(`{path}`)" for path in _MIRRORED_PATHS)
        balancer = make_service(new)["loadBalancer"] | {"serversTransport": name}
        mirroring = {
            "service": live.release,
            "maxBodySize": _MIRRORED_BYTES,
            "mirrors": [{"name": name, "percent": percent}],
        }
        router = self._router(live) | {
            "rule": f"Method(`POST`) && ({paths})",
            "priority": 1000,
            "service": self._shadow,
        }
        self._write(
            {self._environment: self._router(live), self._shadow: router},
            [live],
            {self._shadow: {"mirroring": mirroring}, name: {"loadBalancer": balancer}},
            {name: {"forwardingTimeouts": _MIRROR_TIMEOUTS}},
        )
        self._wait(live, {}, percent)

    def mirrored_percent(self) -> int | None:
        """Return the share of the predictions that is mirrored; None without a mirror.

        Raises:
            TransientError: Traefik does not answer.
        """
        with open_api(self._api) as api:
            answer = api.get(f"/api/http/services/{self._shadow}@file")
            if answer.status_code == 404:
                return None
            (mirror,) = answer.raise_for_status().json()["mirroring"]["mirrors"]
        return int(mirror.get("percent", 0))

    def counters(self, *routes: Route) -> list[Counters]:
        """Read Traefik's counters of some releases, without mirrored requests.

        Raises:
            ConfigurationError: Traefik does not count.
            TransientError: Traefik does not answer.
        """
        text = read_metrics(self._api)
        return [read_counters(text, route.release) for route in routes]

    def mirror_counters(self) -> Counters:
        """Read Traefik's counters of mirrored requests, each of which counts when it has ended.

        Raises:
            ConfigurationError: Traefik does not count.
            TransientError: Traefik does not answer.
        """
        return read_counters(read_metrics(self._api), self._mirror)

    @property
    def _canary(self) -> str:
        return f"{self._environment}~canary"

    @property
    def _shadow(self) -> str:
        return f"{self._environment}~shadow"

    @property
    def _mirror(self) -> str:
        # Not that of the release: what the proxy counts of a release are requests of clients.
        return f"{self._environment}~new"

    @property
    def _retry(self) -> str:
        return f"{self._environment}~retry"

    def _wait(
        self, route: Route | None, shares: dict[str, int], percent: int | None = None
    ) -> None:
        deadline = time.monotonic() + _SWITCH_SECONDS
        while not self._leads_to(route, shares, percent):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the proxy did not take the new route of {self._environment}",
                    state="traffic was not switched",
                    next_step="look at the proxy's log (of `slipway up`: .slipway/log/gateway.log),"
                    " run the flow again",
                )
            time.sleep(0.05)

    def _leads_to(self, route: Route | None, shares: dict[str, int], percent: int | None) -> bool:
        try:
            return (
                self.route() == route
                and self.shares() == shares
                and self.mirrored_percent() == percent
            )
        except TransientError:  # not read yet
            return False

    def _write(
        self,
        routers: dict[str, object],
        routes: Sequence[Route],
        services: Mapping[str, object] | None = None,
        transports: Mapping[str, object] | None = None,
    ) -> None:
        http: dict[str, object] = {
            "routers": routers,
            "services": {route.release: make_service(route) for route in routes}
            | {**(services or {})},
        }
        if transports:
            http["serversTransports"] = transports
        if any(route.balanced for route in routes):  # an empty element is an error of Traefik's
            http["middlewares"] = {self._retry: {"retry": {"attempts": _TRIES}}}
        partial = self._file.with_suffix(".partial")
        # JSON is YAML.
        partial.write_text(json.dumps({"http": http}))
        partial.replace(self._file)

    def _router(self, *routes: Route) -> dict[str, object]:
        """Return the router to the first route; the others may get a share of its requests."""
        balanced = any(route.balanced for route in routes)
        return {
            "rule": "PathPrefix(`/`)",
            "entryPoints": [self._environment],
            "service": routes[0].release,
            **({"middlewares": [self._retry]} if balanced else {}),
        }
