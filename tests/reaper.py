"""Stop a stack that nobody uses any more, and that nobody has stopped.

`python reaper.py USERS HOME`: started beside a stack, because a test run that is killed, or ended
by a time-out, cannot clean up after itself. USERS is a file that each user of the stack locks; who
stops the stack removes it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

_POLL_SECONDS = 0.5


def _wait_for_end(users: Path) -> bool:
    """Wait until the stack has been stopped, or nobody is left to stop it; return the latter."""
    while True:
        try:
            with users.open() as opened:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except FileNotFoundError:
            return False
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)


def main() -> None:
    """Wait, in the background, for the end of a stack's users, then bring it down."""
    users, home = Path(sys.argv[1]), Path(sys.argv[2])
    if os.fork():
        return
    os.setsid()  # Ctrl-C is for pytest alone
    if _wait_for_end(users):
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from deployments.local.stack import Stack

        Stack(home).down()
        users.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
