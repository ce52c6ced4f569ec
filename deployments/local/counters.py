"""The program that keeps what the proxy counts, for the watch over releases: as data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.local.gateway import API_PORT
from deployments.local.ports import HOST
from deployments.local.program import Program

NAME = "counters"


def program(checkout: Path, folder: Path, ports: Mapping[str, int]) -> Program:
    """Describe the program.

    Args:
        checkout: Where this package is.
        folder: Folder of the samples.
        ports: Port of the proxy's API, by name.
    """
    return Program(
        name=NAME,
        argv=(
            sys.executable,
            "-m",
            "tasks.platforms.host.samples",
            f"--api=http://{HOST}:{ports[API_PORT]}",
            f"--folder={folder}",
        ),
        directory=checkout,
        stop_seconds=5,
        priority=40,
    )
