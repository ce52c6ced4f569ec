"""CPU seconds of a program with all that it starts, servers in the background and orphans, too."""

import ctypes
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
_CHILD_SUBREAPER = 36  # of prctl


@dataclass(frozen=True)
class Cost:
    """The cost of something.

    Attributes:
        cpu: CPU seconds.
        wall: Seconds.
        window: Seconds in which that CPU was used, by the servers in the background, too.
    """

    cpu: float
    wall: float
    window: float

    def less(self, rate: float) -> "Cost":
        """Return the cost without what was used besides, in CPU seconds a second."""
        return replace(self, cpu=self.cpu - rate * self.window)


def run_below_reaper(measure: Callable[[], T]) -> T:
    """Run a function in a child of a process that inherits every orphan, so that none is lost.

    Programs in the sandbox, and those that supervisord starts, outlive their parents: their times
    would be added to a process that is not ours.

    Args:
        measure: What to run; it may use `Meter`.
    """
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.NamedTemporaryFile() as file:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                Path(file.name).write_bytes(pickle.dumps(measure()))
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        while (end := os.wait())[0] != child:
            pass
        if end[1]:
            sys.exit("the benchmark failed")
        result: T = pickle.loads(Path(file.name).read_bytes())
    return result


class Meter:
    """Measures what the reaper's other descendants use from now on."""

    def __init__(self) -> None:
        self._start = (self._total(), time.monotonic())

    def stop(self, wall: float | None = None) -> Cost:
        """Return the cost since this meter was made.

        Args:
            wall: Seconds, if they are not those since then.
        """
        seconds = time.monotonic() - self._start[1]
        return Cost(self._total() - self._start[0], seconds if wall is None else wall, seconds)

    @staticmethod
    def _total() -> float:
        reaper, total = psutil.Process(os.getppid()), 0.0
        # The reaper comes last: what ends meanwhile is counted there.
        for process in [*reaper.children(recursive=True), reaper]:
            if process.pid == os.getpid():
                times = process.cpu_times()  # but for this process itself, which only looks on
                total += times.children_user + times.children_system
                continue
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += add_up(times)
        return total


def add_up(times: Any) -> float:
    """Return the CPU seconds of a process, with those of its children that have ended."""
    return float(times.user + times.system + times.children_user + times.children_system)
