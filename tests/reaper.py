"""Stop a stack once the process that started it is gone, however it went.

`python reaper.py PID HOME`: started by the `stack` fixture, because a test run that is killed, or
ended by a time-out, cannot clean up after itself.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil


def main() -> None:
    """Wait for the end of a process, then bring its stack down."""
    pid, home = int(sys.argv[1]), Path(sys.argv[2])
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from deployments.local.stack import Stack

    Stack(home).down()


if __name__ == "__main__":
    main()
