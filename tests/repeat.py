"""Run tests many times in a row beside busy processors, to see whether they can be relied on.

    python -m tests.repeat tests/code/platforms/test_flows.py
    python -m tests.repeat --times 5 --busy 4 tests/code/flows -k killed

It stops at the first run that fails, and shows what pytest printed.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_BUSY = "while True: pass"


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep some processes busy with nothing until the end of the block."""
    with contextlib.ExitStack() as started:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", _BUSY])
            started.callback(process.wait)
            started.callback(process.kill)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests; return 1 if they failed once."""
    parser = argparse.ArgumentParser(prog="repeat", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--times", type=int, default=20, help="default: 20")
    parser.add_argument("--busy", type=int, default=2, help="busy processes; default: 2")
    options, tests = parser.parse_known_args(arguments)
    with busy_processes(options.busy):
        for number in range(1, options.times + 1):
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "--quiet", *tests],
                cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            seconds = time.monotonic() - started
            last_line = (done.stdout.strip().splitlines() or [""])[-1]
            print(f"{number} of {options.times}: {seconds:.0f} s: {last_line}", flush=True)
            if done.returncode:
                print(done.stdout)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
