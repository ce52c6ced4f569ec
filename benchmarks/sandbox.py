"""The cost of the sandbox: `python -m benchmarks.sandbox BUNDLE PYTHON`.

Starts programs and a model server with and without a box, in turn, and prints CPU seconds a start,
requests a second, and the memory of what runs beside the server.

Args:
    BUNDLE: Folder of a release of target `process`, below `.slipway/bundles`.
    PYTHON: The Python of its runtime, below `.slipway/environments`.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tasks.core.commands import Argv
from tasks.core.free_port import find_free_port
from tasks.package.server import serve
from tasks.sandbox.box import Box, start_in

_ROUNDS = 3
_STARTS = 10
_SECONDS = 2.0


def main() -> None:
    """Print the table."""
    bundle, python = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    print(f"start of /bin/true in a box: {_start_seconds(bundle):.3f} CPU s")
    plain, boxed = _Measures("plain"), _Measures("boxed")
    for _ in range(_ROUNDS):
        for measures in (plain, boxed):
            port = find_free_port()
            argv = serve(python, bundle, port)
            if measures is boxed:
                box = Box(bundle, readable=(bundle,), pythons=(python,), port=port, yields=False)
                argv = start_in(box, argv)
            started = time.monotonic()
            with _running(argv, bundle) as process:
                _wait(port)
                measures.ready.append(time.monotonic() - started)
                measures.rates.append(_requests_a_second(port, bundle))
                measures.beside = _beside_megabytes(process)
    for measures in (plain, boxed):
        rate, ready = statistics.median(measures.rates), statistics.median(measures.ready)
        print(f"{measures.name}: {rate:.0f} requests/s, one client; ready after {ready:.1f} s")
    ratios = [rate / other for rate, other in zip(boxed.rates, plain.rates, strict=True)]
    middle = statistics.median(ratios)
    print(f"boxed/plain: {middle:.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"beside a boxed server: {boxed.beside:.0f} MB")


@dataclass
class _Measures:
    name: str
    rates: list[float] = field(default_factory=list)  # requests a second
    ready: list[float] = field(default_factory=list)  # seconds
    beside: float = 0.0  # MB of launcher and bubblewrap


def _start_seconds(bundle: Path) -> float:
    argv = start_in(Box(bundle, readable=(bundle,)), ["/bin/true"])
    before = os.times()
    for _ in range(_STARTS):
        subprocess.run(argv, check=True)
    after = os.times()
    spent = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return spent / _STARTS


@contextmanager
def _running(argv: Argv, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit("the server does not get ready")


def _requests_a_second(port: int, bundle: Path) -> float:
    (golden,) = bundle.glob("*.golden.json")
    content = json.loads(golden.read_text())
    body = json.dumps({"data": {"values": content["inputs"][:1]}})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    count, started = 0, time.monotonic()
    while (elapsed := time.monotonic() - started) < _SECONDS:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"the server answered {answer.status}")
        count += 1
    return count / elapsed


def _beside_megabytes(launcher: psutil.Process | subprocess.Popen[bytes]) -> float:
    processes = [psutil.Process(launcher.pid)]
    processes += [
        process for process in processes[0].children(recursive=True) if process.name() == "bwrap"
    ]
    return sum(process.memory_full_info().pss for process in processes) / (1 << 20)


if __name__ == "__main__":
    main()
