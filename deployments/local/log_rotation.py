"""Keep the logs of a stack's programs small: an event listener that supervisord runs.

Programs write to their logs themselves (`tasks/platforms/process/launch.py`), so that they outlive
supervisord; a log that they hold open cannot be renamed under them. So what is in it is copied, and
the file emptied: a line that is written in between is lost.

The protocol: https://supervisord.org/events.html. It runs all the time: the standard library alone.
"""

import shutil
import sys
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 5_000_000


def rotate(logs: Path) -> None:
    """Move what is in each program's log to `<name>.log.1` once it is more than `MAX_BYTES`."""
    for record in logs.glob("*.pid"):
        log = record.with_suffix(".log")
        with suppress(OSError):  # a full disk; or the program, with its log, has just been removed
            if log.stat().st_size > MAX_BYTES:
                shutil.copyfile(log, f"{log}.1")
                with log.open("r+b") as opened:
                    opened.truncate()


def main() -> None:
    """Rotate at each event, until supervisord has ended."""
    logs = Path(sys.argv[1])
    print("READY", flush=True)
    while header := sys.stdin.readline():
        fields = dict(field.split(":", 1) for field in header.split())
        sys.stdin.read(int(fields["len"]))
        rotate(logs)
        print("RESULT 2\nOKREADY", flush=True)


if __name__ == "__main__":
    main()
