"""Run the benchmarks that compare Slipway with others: `make bench ONLY=serving`.

Each is a module of this folder with `measure() -> Report`. Reports are printed, and written to
`.slipway/benchmarks/` as text, JSON and a picture.
"""

import argparse
import importlib
import signal
import sys

from benchmarks.report import write_report
from tasks.core.settings import CHECKOUT

SUBJECTS = ("serving", "bulk", "delivery", "switching", "large", "demo")
FOLDER = CHECKOUT / ".slipway" / "benchmarks"


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    subjects = parser.parse_args().subjects or [*SUBJECTS]
    if unknown := [name for name in subjects if name not in SUBJECTS]:
        parser.error(f"no benchmark {unknown[0]}: choose from {', '.join(SUBJECTS)}")
    # So that servers are ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    missed = 0
    for name in subjects:
        report = importlib.import_module(f"benchmarks.{name}").measure()
        print(write_report(FOLDER, name, report))
        missed += sum(not goal.is_met for goal in report.goals)
    print(f"Written to {FOLDER}; goals missed: {missed}")


if __name__ == "__main__":
    main()
