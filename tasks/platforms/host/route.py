"""The destination of an environment's traffic: the servers of one release."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.platforms.base.proof import version

# A dead server refuses connections at once, so the time-out is for one that hangs; a busy one,
# which answers late, must not be left out.
_HEALTH_CHECK = {"path": "/readyz", "interval": "1s", "timeout": "5s"}


@dataclass(frozen=True)
class Route:
    """The destination of an environment's traffic.

    Attributes:
        release: Name of the release.
        ports: The private TCP ports of its servers on loopback.
    """

    release: str
    ports: tuple[int, ...]

    @property
    def urls(self) -> list[str]:
        """The private URLs of the release's servers."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def balanced(self) -> bool:
        """True if there is more than one server to choose from."""
        return len(self.ports) > 1

    @property
    def server_variables(self) -> dict[str, str]:
        """Variables of its servers, beside those of the environment."""
        # A server that listens while it loads would answer 503 to what another one could predict,
        # from when it starts again until the next health check.
        return {"SLIPWAY_LISTEN_WHEN_READY": "1"} if self.balanced else {}

    async def answers(self) -> bool:
        """Return whether one of its servers answers as the release."""
        answers = [await version(url) for url in self.urls]
        return any(answer and answer.get("release") == self.release for answer in answers)


def make_service(route: Route) -> dict[str, dict[str, object]]:
    """Describe the servers of a route as a service of Traefik's."""
    balancer: dict[str, object] = {"servers": [{"url": url} for url in route.urls]}
    if route.balanced:  # else Traefik would refuse what the only server might still answer
        balancer["healthCheck"] = _HEALTH_CHECK
    return {"loadBalancer": balancer}
