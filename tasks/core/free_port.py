"""Private TCP ports for model servers on the worker's own host."""

from __future__ import annotations

import contextlib
import random
import socket

from tasks.core.errors import TransientError

# Below the ports that the system assigns to clients: after a reboot, none of them has the port.
_PORTS = range(23_000, 30_000)


def find_free_port() -> int:
    """Find a TCP port of loopback on which nothing listens.

    Raises:
        TransientError: All tested ports are in use.
    """
    (port,) = find_free_ports(1)
    return port


def find_free_ports(count: int) -> tuple[int, ...]:
    """Find TCP ports of loopback, all different, on which nothing listens.

    Raises:
        TransientError: Too many of the tested ports are in use.
    """
    free: list[int] = []
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return tuple(free)
    raise TransientError(
        "no TCP port is free",
        state="nothing was started",
        next_step="run `ss -ltn` to see what listens on ports"
        f" {_PORTS.start} to {_PORTS.stop - 1}, then run the flow again",
    )
