"""TCP ports on loopback that nobody listens on."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping

HOST = "127.0.0.1"
# Below the ports that Linux and macOS hand out to clients, so none is taken between two starts.
_RANGE = range(20_000, 22_700)


def is_free(port: int) -> bool:
    """Return whether a program could listen on a TCP port of loopback now."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        # macOS lets loopback be bound beside a listener on all addresses: ask for an answer first.
        if probe.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(
    preferred: Mapping[str, Iterable[int]],
    *,
    keep: Mapping[str, int],
    companions: Mapping[str, int],
) -> dict[str, int]:
    """Choose a free port for every name.

    Args:
        preferred: Ports to try first, by name, the best one first.
        keep: Ports that own programs listen on, by name: chosen again without a check.
        companions: For a name, the distance of a second port that must be free as well.

    Returns:
        One port by name; all differ.
    """
    chosen: dict[str, int] = {}
    taken = set(keep.values())

    def fits(name: str, port: int) -> bool:
        group = {port, port + companions.get(name, 0)}
        return not (group & taken) and all(is_free(member) for member in group)

    for name, candidates in preferred.items():
        if name in keep:
            chosen[name] = keep[name]
            continue
        port = next((candidate for candidate in candidates if fits(name, candidate)), None)
        while port is None:
            drawn = random.choice(_RANGE)
            port = drawn if fits(name, drawn) else None
        chosen[name] = port
        taken |= {port, port + companions.get(name, 0)}
    return chosen
