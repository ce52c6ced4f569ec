"""A stack finds its own processes, orphans included, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import psutil

from deployments.local import processes

# A child in a session of its own, whose parent ends at once; it ignores requests to end.
_CHILD = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
_ORPHAN = f"""
import subprocess, sys
pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
process = subprocess.Popen([sys.executable, "-c", {_CHILD!r}], start_new_session=True, **pipes)
process.stdout.readline()
print(process.pid)
"""


def test_orphans_that_ignore_signals_are_killed_and_other_processes_left_alone() -> None:
    token = uuid.uuid4().hex
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, processes.MARKER: "of another stack"},
    )
    started = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ORPHAN],
        env={**os.environ, processes.MARKER: token},
        capture_output=True,
        text=True,
        check=True,
    )
    orphan = int(started.stdout)
    try:
        assert [process.pid for process in processes.of_stack(token)] == [orphan]
        assert processes.end(token, grace_seconds=0.5) == 1
        assert not psutil.pid_exists(orphan) or (
            psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE
        )
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
