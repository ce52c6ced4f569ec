"""Private TCP ports for model servers on the worker's own host."""

from __future__ import annotations

import contextlib
import random
import socket

from tasks.core.errors import TransientError

# Below the ports that systems hand out by themselves: a server keeps its port over reboots.
_PORTS = range(23_000, 30_000)


def find_free_port() -> int:
    """A TCP port of loopback that nothing listens on.

    Raises:
        TransientError: There is none.
    """
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise TransientError(
        "no TCP port is free",
        state="nothing was started",
        next_step="see with `ss -ltn` what listens on ports"
        f" {_PORTS.start} to {_PORTS.stop - 1}, then run the flow again",
    )
