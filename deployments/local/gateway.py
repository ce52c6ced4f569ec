"""The proxy in front of the models that run on this host: traefik, as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deployments.local.ports import HOST
from deployments.local.program import Program

NAME = "gateway"
API_PORT = "gateway-api"
# Bounds of the histogram of durations, in seconds: a canary is compared at one of them, so each is
# at most twice the one before.
_BOUNDS = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2,
           0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30)  # fmt: skip


def program(
    bin_folder: Path, routes: Path, ports: Mapping[str, int], environments: tuple[str, ...]
) -> Program:
    """Describe the proxy.

    Args:
        bin_folder: Folder of its executable.
        routes: Folder of the route files that the target writes, one per environment.
        ports: Ports of the API and of each environment, by name.
        environments: The environments that it serves; each is an entry point of that name.
    """
    return Program(
        name=NAME,
        argv=(
            str(bin_folder / "traefik"),
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=ERROR",
            "--log.noColor=true",
            "--api=true",
            "--api.insecure=true",  # without TLS, on loopback; it can be read, not written
            "--api.dashboard=false",
            "--ping=true",
            "--metrics.prometheus=true",  # at the API's address
            "--metrics.prometheus.addEntryPointsLabels=false",
            f"--metrics.prometheus.buckets={','.join(map(str, _BOUNDS))}",
            f"--entrypoints.traefik.address={HOST}:{ports[API_PORT]}",
            f"--providers.file.directory={routes}",
            "--providers.file.watch=true",
            # The default of 2 s is how long a switch would take.
            "--providers.providersThrottleDuration=50ms",
            *(
                f"--entrypoints.{environment}.address={HOST}:{ports[environment]}"
                for environment in environments
            ),
        ),
        directory=routes,
        environment={"GOMEMLIMIT": "96MiB"},
        health=f"http://{HOST}:{ports[API_PORT]}/ping",
        stop_seconds=5,
        priority=30,
    )
