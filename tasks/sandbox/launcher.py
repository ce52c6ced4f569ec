"""Run one program in a box: `python launcher.py SPECIFICATION`.

It runs beside the box for as long as that lives: it hands over the listening socket, forwards
signals, and ends the box when it exceeds a limit. When it dies itself, the kernel ends the box.
It imports nothing but the standard library, so it starts in 20 ms and takes 10 MB.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TypedDict

LIMIT_EXCEEDED = 122  # exit status: the box was ended by one of its limits
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# Short enough that a program that forks without end does not get far, and idle boxes cost nothing.
_WATCH_SECONDS = 0.2
_FIRST_VICTIM = 500  # of the kernel, when the host's memory ends: the live model is at 0
_NICENESS = 5


class Specification(TypedDict):
    """A program and its limits; JSON on the command line, so no secrets.

    Attributes:
        sandbox: bubblewrap and its options; empty to run the command without.
        command: The program and its arguments.
        variables: Names of the variables that it inherits; others it does not get.
        settings: Further variables.
        filter: Program that judges the system calls, for bubblewrap, in base64; empty for none.
        port: Port of loopback to listen on for it.
        yields: Whether the host's other programs come first.
        memory_bytes: Memory of all its processes together.
        processes: Number of its processes.
        disk: A folder on the file system that it writes to.
        free_disk_bytes: Space on that file system that it has to leave free.
    """

    sandbox: list[str]
    command: list[str]
    variables: list[str]
    settings: dict[str, str]
    filter: str
    port: int | None
    yields: bool
    memory_bytes: int
    processes: int
    disk: str
    free_disk_bytes: int


class Program:
    """The program in its box.

    Args:
        specification: What to run.
    """

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self._root: int | None = None
        self._pending: list[int] = []  # signals that came before there was a program
        # As much as is free already if that is little: a full disk is not this program's doing.
        self._floor = min(specification["free_disk_bytes"], free_bytes(specification["disk"]) // 2)

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and learn from bubblewrap which process is the first of its box."""
        specification = self._specification
        environment = environment_of(specification)
        reading, writing = os.pipe()
        bubblewrap, *options = specification["sandbox"]
        files = [writing]
        if specification["filter"]:
            files.append(os.memfd_create("filter"))
            os.write(files[-1], base64.b64decode(specification["filter"]))
            os.lseek(files[-1], 0, os.SEEK_SET)
            options = ["--seccomp", str(files[-1]), *options]
        argv = [bubblewrap, "--info-fd", str(writing), *options, "--", *specification["command"]]
        if specification["port"]:
            # Bound only: the server listens when it wants requests. A connection that the kernel
            # took earlier would wait while the model loads, and not go to another replica.
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", specification["port"]))
            environment["SLIPWAY_SOCKET"] = str(listener.fileno())
            files.append(listener.detach())
        # A session of its own: who ends this process' group lets it end the program in order.
        process = subprocess.Popen(argv, env=environment, pass_fds=files, start_new_session=True)
        for file in files:
            os.close(file)
        with os.fdopen(reading) as info:
            text = info.read()  # ends when the box is made, or bubblewrap has failed
        if text:
            self._root = int(json.loads(text)["child-pid"])
        return process

    def take_signal(self, number: int, _: FrameType | None) -> None:
        """Forward a signal to the program, or keep it until there is one."""
        self._pending.append(number)
        self.forward()

    def forward(self) -> None:
        """Send the signals to the program itself: process 2 of its box, bubblewrap is process 1."""
        if self._root is None:
            return
        program = next(_children(self._root), None)
        while program and self._pending:
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, self._pending.pop(0))

    def excess(self) -> str | None:
        """Describe the limit that the program exceeds; None if it exceeds none."""
        limits, pids = self._specification, list(self._members())
        if len(pids) > limits["processes"]:
            return f"{limits['processes']:,} processes (SLIPWAY_SANDBOX_PROCESSES)"
        most = limits["memory_bytes"]
        # What processes share is counted once for each, so exactly, which is slow, only if needed.
        if sum(map(_resident_bytes, pids)) > most and sum(map(_share_bytes, pids)) > most:
            return f"{most / (1 << 30):.1f} GB of memory (SLIPWAY_SANDBOX_MEMORY_GB)"
        if free_bytes(limits["disk"]) < self._floor:
            return f"{self._floor / (1 << 30):.1f} GB of free disk (SLIPWAY_SANDBOX_FREE_DISK_GB)"
        return None

    def kill(self) -> None:
        """Kill it with all its processes: the kernel does so at the death of a box's first one."""
        if self._root is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._root, signal.SIGKILL)

    def _members(self) -> Iterator[int]:
        processes = [self._root] if self._root else []
        for pid in processes:
            yield pid
            processes += _children(pid)


def environment_of(specification: Specification) -> dict[str, str]:
    """Return the variables of the program: what it may inherit, and its settings."""
    inherited = {name: os.environ.get(name) for name in specification["variables"]}
    present = {name: value for name, value in inherited.items() if value is not None}
    return present | specification["settings"]


def free_bytes(folder: str) -> int:
    """Return the free space of a folder's file system; as good as endless if it cannot be read."""
    with contextlib.suppress(OSError):
        system = os.statvfs(folder)
        return system.f_bavail * system.f_frsize
    return sys.maxsize


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (thread / "children").read_text().split())


def _resident_bytes(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/status"), ("RssAnon:", "RssShmem:"))


def _share_bytes(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), ("Pss_Anon:", "Pss_Shmem:"))


def _kilobytes(file: Path, names: tuple[str, ...]) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(names))


def _limit(specification: Specification) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Of one process; so that it gets an error of its own, where all together are ended.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = specification["memory_bytes"]
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if specification["yields"]:
        os.nice(_NICENESS)
        with contextlib.suppress(OSError):  # not everywhere is there such a thing
            Path("/proc/self/oom_score_adj").write_text(str(_FIRST_VICTIM))


def main() -> int:
    """Run the program to its end; return its exit status, or the one of an exceeded limit.

    Without a sandbox, become the program: nobody but the kernel would hold it.
    """
    specification: Specification = json.loads(sys.argv[1])
    _limit(specification)
    if not specification["sandbox"]:
        command = specification["command"]
        os.execvpe(command[0], command, environment_of(specification))  # noqa: S606
    program = Program(specification)
    for number in _FORWARDED:
        signal.signal(number, program.take_signal)
    process = program.start()
    while True:
        program.forward()
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_WATCH_SECONDS)
            return code if code >= 0 else 128 - code
        if excess := program.excess():
            program.kill()
            process.wait()
            print(f"slipway: the sandbox ended the program: more than {excess}", file=sys.stderr)
            return LIMIT_EXCEEDED


if __name__ == "__main__":
    sys.exit(main())
