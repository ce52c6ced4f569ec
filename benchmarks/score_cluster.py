"""`score` on a Dask cluster: `python -m benchmarks.score_cluster [ROWS] [SEED]`.

Starts a scheduler and two workers on this host, each with one thread, and scores a file with them.
It kills one worker in the middle, and then the scheduler; a second run continues what was begun.
Checks that the result is that of this host alone, row by row. Needs
`uv sync --inexact --extra dask`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.score import write_job, write_rows
from benchmarks.servers import make_bundles
from tasks.core.free_port import find_free_port
from tasks.core.settings import CHECKOUT
from tasks.package.environment import read_lock
from tasks.sandbox.box import start_in
from tasks.scoring.boxes import MODULE, make_box

_MODEL = "wine"


class Cluster:
    """A scheduler and workers on this host."""

    def __init__(self, folder: Path, programs: ExitStack) -> None:
        """Start a scheduler."""
        port = find_free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self._folder, self._programs = folder, programs
        common = ["--host", "127.0.0.1", "--no-dashboard"]
        self.scheduler = self._start("scheduler", *common, "--port", str(port))

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker with one thread, which dies when it is killed."""
        common = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--host", "127.0.0.1"]
        return self._start("worker", self.address, *common)

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        environment = {**os.environ, "SLIPWAY_HOME": str(self._folder / "home")}
        path = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
        log = (self._folder / f"{kind}.log").open("ab")
        process = subprocess.Popen(
            argv, cwd=CHECKOUT, env={**environment, "PYTHONPATH": path}, stdout=log, stderr=log
        )
        self._programs.callback(process.kill)
        return process


class Run:
    """Runs of the program that scores on a cluster."""

    def __init__(self, bundle: Path, python: Path, source: Path, folder: Path) -> None:
        """Describe the job."""
        self._folder, self._work = folder, folder / "work"
        for path in (self._work, folder / "tmp"):
            path.mkdir(parents=True)
        description = folder / "job.json"
        options = {"single": True, "processes": 1, "block_bytes": 1 << 20}
        write_job(description, bundle, [source], self._work, **options)
        runtime = json.loads((bundle / f"{_MODEL}.runtime.json").read_text())
        packages = [f"{name}=={version}\n" for name, version in runtime["packages"].items()]
        serving = asyncio.run(read_lock(CHECKOUT / "serving", ""))
        self._shipment = {
            "key": "benchmark", "bundle": str(bundle), "description": str(description),
            "requirements": [serving, "".join(packages), False],
            "python": runtime["python"].rpartition(".")[0],
        }  # fmt: skip
        argv = [str(python), "-m", MODULE, str(description)]
        self._box = start_in(make_box(self._work, bundle, python, description, source), argv)

    def start(self, address: str) -> subprocess.Popen[bytes]:
        """Start the program; an empty address scores in a box of this host."""
        argv = self._box
        if address:
            shipment = self._folder / "shipment.json"
            shipment.write_text(json.dumps({"address": address, **self._shipment}))
            argv = [sys.executable, "-m", "tasks.scoring.cluster", str(shipment)]
            argv.append(json.dumps(self._box))
        return subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE)

    def count_finished(self) -> int:
        """Count the chunks that are finished."""
        return len(list(self._work.glob("records/*.json")))

    def hash_result(self) -> str:
        """Return the digest of the whole result."""
        return hashlib.sha256((self._work / "single.csv").read_bytes()).hexdigest()


def main(rows: int, seed: int) -> None:
    """Score on this host and on the cluster, kill, and compare."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-score-"))
    with ExitStack() as programs:
        programs.callback(shutil.rmtree, folder, ignore_errors=True)
        bundles, python = make_bundles(folder)
        bundle, source = bundles / _MODEL, folder / "many.csv"
        shutil.copytree(CHECKOUT / "serving", bundle / "serving")
        write_rows(bundle, source, rows, seed)
        alone = Run(bundle, python, source, folder / "alone")
        _finish("this host", alone.start(""), 0)

        cluster = Cluster(folder, programs)
        first = cluster.add_worker()
        second = cluster.add_worker()
        run = Run(bundle, python, source, folder / "cluster")
        process = run.start(cluster.address)
        _wait(run, process, 3)
        first.kill()
        print(f"killed a worker after {run.count_finished()} chunks", flush=True)
        _wait(run, process, run.count_finished() + 3)
        cluster.scheduler.send_signal(signal.SIGKILL)
        second.kill()
        finished = run.count_finished()
        print(f"killed the scheduler and the other worker after {finished} chunks", flush=True)
        _finish("that run", process, 1)

        other = Cluster(folder, programs)
        other.add_worker()
        process = run.start(other.address)
        _finish("a second run, which continues", process, 0)
        same = run.hash_result() == alone.hash_result()
        print(f"the result is {'the same' if same else 'ANOTHER'} as of this host alone")
        raise SystemExit(not same)


def _wait(run: Run, process: subprocess.Popen[bytes], chunks: int) -> None:
    while run.count_finished() < chunks:
        if process.poll() is not None:
            raise SystemExit(f"it has ended early: {_read_end(process)}")
        time.sleep(0.05)


def _finish(name: str, process: subprocess.Popen[bytes], code: int) -> None:
    started = time.monotonic()
    last = _read_end(process)
    print(f"{name}: {time.monotonic() - started:.0f} s more, {json.dumps(last)}", flush=True)
    if process.wait() != code:
        raise SystemExit(f"{name} has ended with {process.returncode}")


def _read_end(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout
    *_, last = process.stdout.read().splitlines() or [b"null"]
    return json.loads(last)


if __name__ == "__main__":
    numbers = list(map(int, sys.argv[1:]))
    main(numbers[0] if numbers else 200_000, numbers[1] if len(numbers) > 1 else 1)
