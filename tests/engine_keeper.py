"""Run a Docker engine for as long as a file is locked, and end it with the last lock.

`python engine_keeper.py FOLDER FILE`: each user of the engine locks the file. The folder of the
engine is removed with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SECONDS = 30.0
_BRIDGES = 250


def _is_used(file: Path) -> bool:
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def _make_bridge() -> Iterator[str]:
    """Make a network bridge with addresses of its own; yield its name, and remove it at the end.

    Engines that share the usual one give the same addresses to their containers.
    """
    for number in random.sample(range(_BRIDGES), _BRIDGES):
        name = f"slipway{number}"
        if subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=False).returncode:
            continue  # another run has it
        try:
            subprocess.run(
                ["ip", "address", "add", f"10.213.{number}.1/24", "dev", name], check=True
            )
            yield name
        finally:
            subprocess.run(["ip", "link", "delete", name], check=False)
        return
    sys.exit("no network bridge can be made")


def _run(folder: Path, users: Path, bridge: str) -> None:
    engine = subprocess.Popen(
        ["dockerd", "--host", f"unix://{folder}/docker.sock", "--data-root", str(folder / "data"),
         "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"),
         # No rules for the host's packets: ports of loopback go through a program of Docker's.
         "--bridge", bridge, "--iptables=false", "--ip6tables=false"],
    )  # fmt: skip
    try:
        while engine.poll() is None and _is_used(users):
            time.sleep(0.2)
    finally:
        engine.terminate()
        try:
            engine.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()


def main() -> None:
    """Run an engine in the background."""
    folder, users = map(Path, sys.argv[1:])
    if os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the engine goes too
    try:
        with _make_bridge() as bridge:
            _run(folder, users, bridge)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
