"""The processes of one stack, orphans included."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

import psutil

# Every process of a stack inherits this variable, so a child that has left its process group, or
# whose parents were killed, is still recognized; nothing else on the machine has its value.
MARKER = "SLIPWAY_STACK"


def of_stack(token: str) -> list[psutil.Process]:
    """Find every process of a stack.

    Args:
        token: The stack's own value of the marker.

    Returns:
        The processes that carry it, and their descendants.
    """
    members: dict[int, psutil.Process] = {}
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        # Processes of other users cannot be read; root, whose database is another's, reads all.
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            children.setdefault(process.ppid(), []).append(process)
            if process.environ().get(MARKER) == token:
                members[process.pid] = process
    parents = list(members)
    while parents:
        for child in children.get(parents.pop(), ()):
            if child.pid not in members:
                members[child.pid] = child
                parents.append(child.pid)
    return list(members.values())


def end(token: str, *, grace_seconds: float, spare: Collection[int] = ()) -> int:
    """End every process of a stack: ask, wait, then kill.

    Args:
        token: The stack's own value of the marker.
        grace_seconds: How long a process may take to end by itself.
        spare: Ids of processes that go on.

    Returns:
        How many processes there were.
    """
    count = 0
    # Again, because a dying process may start another one.
    while processes := [process for process in of_stack(token) if process.pid not in spare]:
        count += len(processes)
        # psutil compares start times, so another process with a reused id is never ended.
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=grace_seconds)
    return count
