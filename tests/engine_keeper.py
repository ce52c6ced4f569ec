"""Run a Docker engine for as long as a file is locked, and end it with the last lock.

`python engine_keeper.py FOLDER FILE`: each user of the engine locks the file. The folder of the
engine is removed with it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

_SECONDS = 30.0
# Not in $TMPDIR, which is another one for each run of the tests.
_LOCK = Path("/tmp/slipway-engine.lock")


def _is_used(file: Path) -> bool:
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _run(folder: Path, users: Path) -> None:
    engine = subprocess.Popen(
        ["dockerd", "--host", f"unix://{folder}/docker.sock", "--data-root", str(folder / "data"),
         "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")],
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
    """Wait, in the background, for the engine of another run to go, then run one."""
    folder, users = map(Path, sys.argv[1:])
    if os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the engine goes too
    try:
        with FileLock(_LOCK):
            _run(folder, users)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
