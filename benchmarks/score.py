"""The speed of bulk predictions: `python -m benchmarks.score BUNDLE PYTHON [ROWS] [SEED]`.

Makes rows like the model's golden inputs, and scores them by `python -m serving.scoring` with one
process and with two, in turns with a bare loop: `read_csv` in chunks, `predict`, `predict_proba`,
`to_csv`. Prints seconds, rows a CPU second, peak memory of all processes, and ratios. Seconds are
without the start of a process and its model, which is measured by a file of one row.

Args:
    BUNDLE: Folder of a release of target `process`, below `.slipway/bundles`.
    PYTHON: The Python of its runtime, below `.slipway/environments`.
    ROWS: Number of rows; 1,000,000 by default.
    SEED: Of the rows; 1 by default.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.settings import CHECKOUT

_BARE = """
import sys
from pathlib import Path
import pandas as pd
from serving.bundle import load_model, read_bundle
bundle = read_bundle(Path(sys.argv[1]))
model, names = load_model(bundle), list(bundle.golden["inputs"][0])
with open(sys.argv[3], "w") as target:
    for number, rows in enumerate(pd.read_csv(sys.argv[2], chunksize=50_000)):
        features = rows[names]
        result = rows[["id"]].assign(prediction=model.predict(features))
        for place, share in enumerate(model.predict_proba(features).T):
            result[f"probability_{place}"] = share
        result.to_csv(target, index=False, header=not number)
"""
_STAMP = {"model": "m", "version": "v1", "commit": "c" * 40, "run": "r" * 36, "time": "2026-11-30"}
_POLL_SECONDS = 0.2


@dataclass
class Cost:
    """The cost of a program with all of its processes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main(bundle: Path, python: Path, rows: int, seed: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="slipway-score-") as folder:
        place = Path(folder)
        first, many = place / "one.csv", place / "many.csv"
        _write_rows(bundle, first, 1, seed)
        _write_rows(bundle, many, rows, seed)
        print(f"{rows:,} rows, {many.stat().st_size / 1e6:,.0f} MB of CSV")
        loop = [str(python), "-c", _BARE, str(bundle)]
        costs = {}
        for name, processes in (("bare loop", 0), ("1 process", 1), ("2 processes", 2)):
            measured = []
            for source in (first, many):
                target = place / "target"
                if processes:
                    argv = _score(bundle, python, source, place / "job", processes)
                else:
                    argv = [*loop, str(source), str(target)]
                measured.append(_measure(argv))
            start, whole = measured
            costs[name] = Cost(
                whole.seconds - start.seconds,
                whole.cpu_seconds - start.cpu_seconds,
                whole.peak_bytes,
            )
            cost = costs[name]
            print(
                f"{name}: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} CPU s,"
                f" {rows / cost.cpu_seconds:,.0f} rows a CPU s, {cost.peak_bytes / 1e6:,.0f} MB"
            )
        bare, single, double = costs.values()
        print(f"1 process / bare loop: {bare.cpu_seconds / single.cpu_seconds:.2f} (CPU)")
        print(f"2 processes / 1 process: {single.seconds / double.seconds:.2f} (time)")


def _write_rows(bundle: Path, file: Path, count: int, seed: int) -> None:
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


def _score(bundle: Path, python: Path, source: Path, folder: Path, processes: int) -> list[str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    job = folder / "job.json"
    job.write_text(
        json.dumps({
            "bundle": str(bundle), "files": {source.name: str(source)}, "folder": str(folder),
            "method": "predict_proba", "reading": {}, "ending": ".csv", "single": False,
            "stamp": _STAMP, "processes": processes,
        })
    )  # fmt: skip
    return [str(python), "-m", "serving.scoring", str(job)]


def _measure(argv: list[str]) -> Cost:
    """Run a program; its processes are looked at while it runs."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    before, started = os.times(), time.monotonic()
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, _read_memory(process.pid))
            time.sleep(_POLL_SECONDS)

    thread = threading.Thread(target=watch)
    thread.start()
    code = process.wait()
    thread.join()
    after = os.times()
    if code:
        raise SystemExit(f"{argv[:3]} failed with {code}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Cost(time.monotonic() - started, cpu, peak)


def _read_memory(pid: int) -> int:
    """Return the memory of a process and its children; what they share counts once."""
    try:
        root = psutil.Process(pid)
        return sum(
            process.memory_full_info().pss for process in (root, *root.children(recursive=True))
        )
    except psutil.Error:
        return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        Path(arguments[0]).resolve(),
        Path(arguments[1]).absolute(),
        int(arguments[2]) if len(arguments) > 2 else 1_000_000,
        int(arguments[3]) if len(arguments) > 3 else 1,
    )
