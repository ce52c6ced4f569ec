"""The speed of `score`: `python -m benchmarks.score BUNDLE PYTHON [ROWS] [PASSES] [SEED]`.

Makes rows like the model's golden inputs in two files, and scores them by
`python -m serving.scoring` with one process and with two, in turns with a bare loop: `read_csv` in
chunks, `predict`, `predict_proba`, `to_csv`. Two bare loops at once, each with one of the files,
show what the machine gives to two processes. Prints medians of the passes: seconds, rows a CPU
second, peak memory of all processes, and ratios within a pass. Start and loading of models are
measured with files of one row, and subtracted.

Args:
    BUNDLE: Folder of a release of target `process`, below `.slipway/bundles`.
    PYTHON: The Python of its runtime, below `.slipway/environments`.
    ROWS: Number of rows; 1,000,000 by default.
    PASSES: Number of passes; 3 by default.
    SEED: Of the rows; 1 by default.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.servers import read_memory
from tasks.core.settings import CHECKOUT

_BARE = """
import sys
from pathlib import Path
import pandas as pd
from serving.bundle import load_model, read_bundle
bundle = read_bundle(Path(sys.argv[1]))
model, names = load_model(bundle), list(bundle.golden["inputs"][0])
with open(sys.argv[2], "w") as target:
    for number, rows in enumerate(
        rows for source in sys.argv[3:] for rows in pd.read_csv(source, chunksize=50_000)
    ):
        features = rows[names]
        result = rows[["id"]].assign(prediction=model.predict(features))
        for place, share in enumerate(model.predict_proba(features).T):
            result[f"probability_{place}"] = share
        result.to_csv(target, index=False, header=not number)
"""
_STAMP = {"model": "m", "version": "v1", "commit": "c" * 40, "run": "r" * 36, "time": "2026-11-30"}
_POLL_SECONDS = 0.2
_WAYS = ("bare loop", "1 process", "2 processes", "2 bare loops")


@dataclass
class Cost:
    """The cost of a program with all of its processes."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float


def main(bundle: Path, python: Path, rows: int, passes: int, seed: int) -> None:
    """Measure and print."""
    costs: dict[str, list[Cost]] = {name: [] for name in _WAYS}
    with tempfile.TemporaryDirectory(prefix="slipway-score-") as folder:
        place = Path(folder)
        sources = {}
        for number, count in enumerate((1, rows // 2)):
            halves = [place / f"{number}-{half}.csv" for half in range(2)]
            for half, file in enumerate(halves):
                write_rows(bundle, file, count, seed + half)
            sources[count] = halves
        print(f"{rows:,} rows, {2 * halves[0].stat().st_size / 1e6:,.0f} MB of CSV")
        for _ in range(passes):
            for name, measured in costs.items():
                start, whole = (
                    _measure(_make_argvs(name, bundle, python, halves, place))
                    for halves in sources.values()
                )
                measured.append(
                    Cost(
                        whole.seconds - start.seconds,
                        whole.cpu_seconds - start.cpu_seconds,
                        whole.peak_megabytes,
                    )
                )
    for name, measured in costs.items():
        seconds, cpu, peak = (
            statistics.median(getattr(cost, field.name) for cost in measured)
            for field in fields(Cost)
        )
        print(
            f"{name}: {seconds:.1f} s, {cpu:.1f} CPU s, {rows / cpu:,.0f} rows a CPU s,"
            f" {peak:,.0f} MB"
        )
    _compare(costs, "bare loop", "1 process", "cpu_seconds")
    _compare(costs, "1 process", "2 processes", "cpu_seconds")
    _compare(costs, "1 process", "2 processes", "seconds")
    _compare(costs, "bare loop", "2 bare loops", "seconds")


def _compare(costs: dict[str, list[Cost]], first: str, second: str, field: str) -> None:
    ratios = [
        getattr(before, field) / getattr(after, field)
        for before, after in zip(costs[first], costs[second], strict=True)
    ]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"{second}, times the speed of {first}: {statistics.median(ratios):.2f} ({field}, {spread})"
    )


def _make_argvs(
    name: str, bundle: Path, python: Path, halves: list[Path], place: Path
) -> list[list[str]]:
    """Make the commands of one way to score two files, which run at once."""
    loop = [str(python), "-c", _BARE, str(bundle)]
    targets = [str(place / f"target-{half.stem}") for half in halves]
    if name == "bare loop":
        return [[*loop, targets[0], *map(str, halves)]]
    if name == "2 bare loops":
        return [[*loop, target, str(half)] for target, half in zip(targets, halves, strict=True)]
    return [_score(bundle, python, halves, place / "job", int(name[0]))]


def write_rows(bundle: Path, file: Path, count: int, seed: int) -> None:
    """Write rows like the golden inputs of a model, with a column of numbers."""
    (golden,) = bundle.glob("*.golden.json")
    inputs = json.loads(golden.read_text())["inputs"]
    draws = random.Random(seed)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["id", *inputs[0]])
        for number in range(count):
            row = draws.choice(inputs).values()
            factor = draws.uniform(0.95, 1.05)
            values = [
                round(value * factor, 3) if isinstance(value, float) else value for value in row
            ]
            writer.writerow([number, *values])


def _score(
    bundle: Path, python: Path, sources: list[Path], folder: Path, processes: int
) -> list[str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    job = folder / "job.json"
    write_job(job, bundle, sources, folder, single=False, processes=processes)
    return [str(python), "-m", "serving.scoring", str(job)]


def write_job(path: Path, bundle: Path, sources: list[Path], folder: Path, **options: int) -> None:
    """Write the description of a job that scores files of CSV with probabilities.

    Args:
        path: Of the description.
        bundle: Folder of the model.
        sources: The files.
        folder: Of the job.
        options: More of its attributes.
    """
    path.write_text(
        json.dumps({
            "bundle": str(bundle), "files": {file.name: str(file) for file in sources},
            "folder": str(folder), "method": "predict_proba", "reading": {}, "ending": ".csv",
            "stamp": _STAMP, **options,
        })
    )  # fmt: skip


def _measure(argvs: list[list[str]]) -> Cost:
    """Run programs at once; their processes are looked at while they run."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    before, started = os.times(), time.monotonic()
    programs = [
        subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL) for argv in argvs
    ]
    peak = 0.0
    while any(program.poll() is None for program in programs):
        peak = max(peak, sum(read_memory(program.pid) for program in programs))
        time.sleep(_POLL_SECONDS)
    seconds, after = time.monotonic() - started, os.times()
    if any(program.returncode for program in programs):
        raise SystemExit(f"{argvs[0][:3]} failed")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Cost(seconds, cpu, peak)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        Path(arguments[0]).resolve(),
        Path(arguments[1]).absolute(),
        int(arguments[2]) if len(arguments) > 2 else 1_000_000,
        int(arguments[3]) if len(arguments) > 3 else 3,
        int(arguments[4]) if len(arguments) > 4 else 1,
    )
