"""Put one fault at a time into a copy of the code, and say which of them the tests catch.

    python -m tests.faults.seed                      every fault, at HEAD
    python -m tests.faults.seed --only images serving/work
    python -m tests.faults.seed --at c4eb4a5         as the code was before it had rooms
    python -m tests.faults.seed --dry                only see that every fault can be put in

The copy is a work tree of Git's in a temporary folder, with environments of its own, so only what
is committed is tried. The tests of a fault have to pass without it before they can catch it.
Exit code 1: a fault was missed, or could not be put in.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.catalogue import FAULTS, Fault

_ROOT = Path(__file__).resolve().parents[2]
_PASSED, _FAILED = 0, 1  # exit codes of pytest
_ROOMS = "tasks/core/__init__.py"  # what no revision from before the rooms has


class CannotSeedError(Exception):
    """A fault that does not fit the code."""


def seed(fault: Fault, tree: Path) -> str:
    """Put a fault into a work tree.

    Returns:
        What the file was before.

    Raises:
        CannotSeedError: The pattern does not match, or matches more than once.
    """
    file = tree / fault.file
    if not file.is_file():
        raise CannotSeedError(f"{fault.file} does not exist")
    before = file.read_text()
    after, count = re.subn(fault.pattern, fault.fault, before)
    if count != 1:
        raise CannotSeedError(f"{fault.pattern!r} matches {count} times in {fault.file}, not once")
    file.write_text(after)
    return before


def run_tests(faults: Sequence[Fault], tree: Path) -> int:
    """Run the tests of some faults; return pytest's exit code."""
    tests = dict.fromkeys(test for fault in faults for test in fault.tests.split())
    done = subprocess.run(
        [".venv/bin/python", "-m", "pytest", "--exitfirst", "--quiet", *tests],
        cwd=tree, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in {_PASSED, _FAILED} or (done.returncode and len(faults) > 1):
        print(done.stdout[-3000:], file=sys.stderr)
    return done.returncode


def judge(fault: Fault, tree: Path) -> str:
    """Return what becomes of a fault: `caught`, `missed`, or why it could not be tried."""
    before = seed(fault, tree)
    try:
        code = run_tests([fault], tree)
    finally:
        (tree / fault.file).write_text(before)
    return {_PASSED: "missed", _FAILED: "caught"}.get(code, f"not tried: pytest ends with {code}")


@contextlib.contextmanager
def work_tree(revision: str, *, setup: bool) -> Iterator[Path]:
    """Check a revision out in a temporary folder, with environments of its own."""
    with tempfile.TemporaryDirectory(prefix="slipway-faults-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(_ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            if setup:
                make = ["make", "--silent", "setup"]
                subprocess.run(make, cwd=tree, env=_environment(), check=True)
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _environment() -> dict[str, str]:
    """Return this process's environment without what belongs to this checkout's Python."""
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "PYTEST_", "SLIPWAY_", "PREFECT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the faults, and print a line for each."""
    parser = argparse.ArgumentParser(prog="seed", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--at", default="HEAD", metavar="REVISION", help="default: HEAD")
    parser.add_argument("--only", nargs="+", metavar="ROOM", help="only the faults of these rooms")
    parser.add_argument("--dry", action="store_true", help="run no tests")
    options = parser.parse_args(arguments)
    unknown = set(options.only or ()) - {fault.room for fault in FAULTS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    chosen = [fault for fault in FAULTS if not options.only or fault.room in options.only]
    bad = 0
    with work_tree(options.at, setup=not options.dry) as tree:
        has_rooms = (tree / _ROOMS).exists()
        faults = [item if has_rooms else item.before_rooms() for item in chosen]
        if not options.dry and (code := run_tests(faults, tree)) != _PASSED:
            print(f"without any fault, pytest ends with {code}: no fault was tried")
            return 1
        for fault in faults:
            started = time.monotonic()
            try:
                if options.dry:
                    (tree / fault.file).write_text(seed(fault, tree))
                    outcome = "fits"
                else:
                    outcome = judge(fault, tree)
            except CannotSeedError as error:
                outcome = f"not tried: {error}"
            bad += outcome not in {"caught", "fits"}
            seconds = time.monotonic() - started
            print(f"{fault.room:24} {outcome}  ({fault.file}, {seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} {'fit' if options.dry else 'caught'}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
