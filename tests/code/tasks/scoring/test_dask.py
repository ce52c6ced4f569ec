"""A real Dask cluster on this host: what it scores if a worker is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tasks.core.free_port import find_free_port
from tests.code.serving.running import ROOT

_PRELOAD = Path(__file__).with_name("dask_boxes.py")
_SECONDS = 60
_CHUNKS = 5
# The scheduler is in the process of the program that scores: each import of Dask takes 1 s of CPU.
_PROGRAM = """
import runpy, sys
from distributed import LocalCluster

with LocalCluster(n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1",
                  scheduler_port=int(sys.argv.pop(1)), dashboard_address=None):
    runpy.run_module("tasks.scoring.cluster", run_name="__main__", alter_sys=True)
"""
# Cuts a source, and writes the result.
_BOX = """
import sys
from pathlib import Path
from tasks.scoring.messages import read_content, write_message

for number in range(int(sys.argv[1])):
    write_message(sys.stdout.buffer, number, b"chunk %d" % number)
stream = sys.stdin.buffer
replies = [read_content(stream, stream.readline()) for _ in range(int(sys.argv[1]))]
Path(sys.argv[2]).write_text(repr(sorted(replies)))
"""


def test_chunks_of_a_killed_worker_are_scored_by_another(
    tmp_path: Path, install: Callable[[Path, str], Path]
) -> None:
    dask = install(Path(sys.executable), "distributed>=2026.8,<2027")
    path = os.pathsep.join([str(ROOT), str(dask)])
    environment = {**os.environ, "PYTHONPATH": path, "SLIPWAY_HOME": str(tmp_path / "home")}
    environment["DASK_TEMPORARY_DIRECTORY"] = str(tmp_path)
    bundle, job, result, mark = (tmp_path / n for n in ("bundle", "job.json", "result", "mark"))
    bundle.mkdir()
    job.write_text("{}")
    port = find_free_port()
    address = f"tcp://127.0.0.1:{port}"
    shipment = tmp_path / "shipment.json"
    shipment.write_text(json.dumps({
        "address": address, "key": "k", "bundle": str(bundle), "description": str(job),
        "requirements": ["", "", False], "python": "3.11",
    }))  # fmt: skip
    box = json.dumps([sys.executable, "-c", _BOX, str(_CHUNKS), str(result)])

    with ExitStack() as programs, (tmp_path / "log").open("wb") as log:

        def start(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=tmp_path, env={**environment, **variables}, stdout=log, stderr=log,
            )  # fmt: skip
            programs.callback(process.wait)
            programs.callback(process.kill)
            return process

        def add_worker(**variables: str) -> subprocess.Popen[bytes]:
            return start(
                "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
                "--no-dashboard", "--host", "127.0.0.1", "--preload", str(_PRELOAD),
                **variables,
            )  # fmt: skip

        program = start("-c", _PROGRAM, str(port), str(shipment), box)
        worker = add_worker(HANGS_IN=str(mark))
        deadline = time.monotonic() + _SECONDS
        while not mark.exists():
            output = (tmp_path / "log").read_text()
            assert program.poll() is worker.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(0.02)
        worker.kill()
        add_worker()
        assert program.wait(_SECONDS) == 0, (tmp_path / "log").read_text()
    expected = [(number, b"CHUNK %d" % number) for number in range(_CHUNKS)]
    assert result.read_text() == repr(expected)
