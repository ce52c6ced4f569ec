"""TCP ports on loopback that nobody listens on."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

HOST = "127.0.0.1"
# Below the ports that Linux and macOS hand out to clients, so none is taken between two starts.
_RANGE = range(20_000, 22_700)
# As long as a first start may take; a start that was killed does not release its ports.
_RESERVED_SECONDS = 180.0
# Not $TMPDIR, which may be another one for each session: the ports are of the host.
_SHARED = Path("/tmp")  # noqa: S108


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
    owner: str = "",
) -> dict[str, int]:
    """Choose a free port for every name, and reserve it until a program listens there.

    Args:
        preferred: Ports to try first, by name, the best one first.
        keep: Ports that own programs listen on, by name: chosen again without a check.
        companions: For a name, the distance of a second port that must be free as well.
        owner: Whose reservations do not count, as it made them; by default this process.

    Returns:
        One port by name; all differ.
    """
    owner = owner or str(os.getpid())
    chosen: dict[str, int] = {}
    with _reservations() as reserved:
        others = {int(port) for port, (holder, _) in reserved.items() if holder != owner}
        taken = others | set(keep.values())

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
            group = {port, port + companions.get(name, 0)}
            taken |= group
            reserved.update({str(member): (owner, time.time()) for member in group})
    return chosen


def release(owner: str) -> None:
    """Forget the reservations of an owner whose programs listen by now."""
    with _reservations() as reserved:
        for port in [port for port, (holder, _) in reserved.items() if holder == owner]:
            del reserved[port]


@contextmanager
def _reservations() -> Iterator[dict[str, tuple[str, float]]]:
    """Read and write the reservations of this user: owner and time by port.

    Seconds lie between the choice of a port and its use. Another stack that starts meanwhile would
    see the port free: of two stacks with 16 ports each, one in ten pairs chose one in common.
    Without a private folder for them nothing is reserved.
    """
    folder = _private_folder()
    if folder is None:
        yield {}
        return
    file = folder / "ports.json"
    with FileLock(f"{file}.lock"):
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError):
            content = {}
        now = time.time()
        # A time that is yet to come is from before the clock was set back.
        reserved = {
            port: (who, since)
            for port, (who, since) in content.items()
            if now - _RESERVED_SECONDS < since <= now
        }
        yield reserved
        file.write_text(json.dumps(reserved))


def _private_folder() -> Path | None:
    """Return this user's folder among the temporary ones; None if another user took its name.

    Everybody may write there: a link in its place would have us write to a file of their choice.
    """
    folder = _SHARED / f"slipway-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    return folder if is_own else None
