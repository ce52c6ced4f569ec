"""Become a program that supervisord keeps alive, or stand in for the one that runs already.

`python -I -S launch.py RECORD SECONDS PROGRAM ARGUMENTS…` is the command of every program in
supervisord's configuration. If supervisord is killed, its programs run on; they are no children of
the next supervisord, which would start each a second time. So this writes the process into a file
before it becomes the program. Where the process of that file still runs, it waits for its end and
passes signals on instead: supervisord then keeps alive, and stops, what an earlier one has started.

A program writes to its log itself. supervisord would read its output from a pipe, which breaks when
supervisord is killed: what is printed then is lost, and programs in Go end at their next line.

This runs at each start of a program: the standard library alone, and little of it.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# How soon supervisord hears of the end of a program that it has not started itself.
_POLL_SECONDS = 0.2
# On trial, it is the kernel's first victim when the host's memory ends: the live model is at 0.
_FIRST_VICTIM = 500
_VICTIM = Path("/proc/self/oom_score_adj")
# Less than what supervisord waits for: it would kill this process, and the program would go on.
_MARGIN_SECONDS = 1.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def read_process(record: Path) -> int | None:
    """Return the id of the process that a record names, None if it does not run any more."""
    try:
        number, started = record.read_text().split(maxsplit=1)
        process = int(number)
    except (OSError, ValueError):
        return None
    return process if _started_at(process) == started.strip() else None


def stop(process: int, number: int, seconds: float) -> None:
    """Ask a program to end, together with its process group, and kill it if it does not.

    Args:
        process: Its id.
        number: The signal that asks it.
        seconds: For how long to wait for its end.
    """
    started, deadline = _started_at(process), time.monotonic() + seconds
    with suppress(ProcessLookupError):
        os.killpg(process, number)
        while started is not None and _started_at(process) == started:
            if time.monotonic() > deadline:
                os.killpg(process, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


def _started_at(process: int) -> str | None:
    """Return when a process started, None if it has ended.

    On Linux in ticks since a certain boot: unlike a time of day, nobody can set them back.
    """
    try:
        facts = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        listed = subprocess.run(
            ["/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(process)],  # macOS
            capture_output=True,
            text=True,
            check=False,
        )
        state, _, start = listed.stdout.strip().partition(" ")
        return start.strip() if start and not state.startswith("Z") else None
    state, *fields = facts.rpartition(")")[2].split()
    return None if state in "ZX" else f"{_BOOT.read_text().strip()} {fields[18]}"


def _stand_in(process: int, seconds: float) -> None:
    """Wait for the end of a program, and let signals to this process end it.

    If supervisord is killed again, the next one starts another stand-in: this one must go, and
    leave the program alone even if it is asked to end.
    """
    supervisord, started = os.getppid(), _started_at(process)

    def pass_on(number: int, _: Any) -> None:
        if os.getppid() == supervisord:
            stop(process, number, max(seconds - _MARGIN_SECONDS, _MARGIN_SECONDS))

    for number in _STOP_SIGNALS:
        signal.signal(number, pass_on)
    while started is not None and _started_at(process) == started:
        if os.getppid() != supervisord:
            return
        time.sleep(_POLL_SECONDS)


def trial_of(record: Path) -> Path:
    """Return the file that says that a program is on trial, beside its record."""
    return record.with_suffix(".trial")


def _go_first(trial: Path) -> None:
    """Let the kernel end a program on trial first; note the score that it has afterwards."""
    with suppress(OSError):  # not everywhere is there such a thing
        trial.write_text(_VICTIM.read_text())
        _VICTIM.write_text(str(_FIRST_VICTIM))


def _append_output_to(log: Path) -> None:
    with log.open("ab") as opened:
        for standard in (1, 2):
            os.dup2(opened.fileno(), standard)


def main() -> None:
    """Stand in for the program if it runs, else become it."""
    record, seconds, *command = sys.argv[1:]
    file = Path(record)
    if running := read_process(file):
        _stand_in(running, float(seconds))
        return
    with suppress(OSError):  # on a full disk it runs all the same, and cannot be adopted
        draft = file.with_suffix(".draft")
        draft.write_text(f"{os.getpid()} {_started_at(os.getpid())}")
        draft.replace(file)
        if trial_of(file).exists():
            _go_first(trial_of(file))
        _append_output_to(file.with_suffix(".log"))
    os.execvp(command[0], command)  # noqa: S606  # supervisord finds programs by PATH, too


if __name__ == "__main__":
    main()
