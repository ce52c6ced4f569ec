"""Slipway's model server beside others: requests, latency, CPU time, start and memory.

Run by `make bench ONLY=serving`. All servers have the same model, that of the demo, one worker and
one thread for NumPy. `wrk` asks them in turn, in an order drawn anew for each pass, so that a busy
machine slows all. Ratios are of the same pass, and their medians count.
"""

import contextlib
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS, Place, make_environment
from benchmarks.report import Report
from benchmarks.servers import (
    make_bundles,
    read_cpu_seconds,
    read_memory,
    running,
    serve,
)
from benchmarks.serving_report import (
    ALONE,
    CLIENTS,
    LARGE_ROWS,
    OURS,
    PROXIED,
    TABLES,
    Figures,
    make_report,
)
from benchmarks.wrk import PASSES, Server
from deployments.local import gateway
from deployments.local.ports import HOST
from tasks.core.free_port import find_free_port, find_free_ports
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.route import Route
from tests.code.serving.running import clean_environment

MODEL = "wine"
SEED = 1
STARTS = 5
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def measure() -> Report:
    """Start all servers, ask them in turn, and report."""
    if shutil.which("wrk") is None:
        sys.exit("The benchmark asks with wrk, which is not installed. Debian: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundles, python = make_bundles(folder)
        bundle = bundles / MODEL
        servers = start_servers(stack, folder, bundle, python)
        order = random.Random(SEED)
        for server in servers.values():
            server.ask(8, seconds=1)  # to warm up
        for clients in CLIENTS:
            for _ in range(PASSES):
                for name in order.sample([*servers], len(servers)):
                    servers[name].passes.setdefault(clients, []).append(servers[name].ask(clients))
        pause = 1000 * CLIENTS[-1] / (servers[OURS].median(CLIENTS[-1], "rate") / 2)
        half = [servers[OURS].ask(CLIENTS[-1], pause) for _ in range(PASSES)]
        memory = {name: read_memory(server.process) for name, server in servers.items()}
        beside = {
            name: [servers[name].ask_beside_large() for _ in range(PASSES)] for name in TABLES
        }
        starts = measure_starts(python, bundle, folder)
        limit = measure_loop(python, bundle)
    return make_report(Figures(servers, half, beside, memory, starts, limit))


def start_servers(
    stack: contextlib.ExitStack, folder: Path, bundle: Path, python: Path
) -> dict[str, Server]:
    """Start Slipway's server, with batches, without and behind the proxy, and all peers."""
    golden = json.loads((bundle / f"{MODEL}.golden.json").read_text())
    packages = json.loads((bundle / f"{MODEL}.runtime.json").read_text())["packages"]
    rows = golden["inputs"]
    many = [rows[number % len(rows)] for number in range(LARGE_ROWS)]

    def write_body(name: str, body: Any) -> Path:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(body))
        return path

    body = write_body(OURS, {"data": {"values": rows[:1]}})
    large = write_body(f"{OURS}-large", {"data": {"values": many}})
    ours = stack.enter_context(serve(python, bundle, **ONE_THREAD))
    alone = stack.enter_context(serve(python, bundle, SLIPWAY_BATCH_ROWS="1", **ONE_THREAD))
    proxy = stack.enter_context(start_proxy(folder, ours.port))
    servers = {
        OURS: Server(f"{ours.url}/predict", ours.process, body, large),
        ALONE: Server(f"{alone.url}/predict", alone.process, body, large),
        PROXIED: Server(f"{proxy}/predict", ours.process, body, large),
    }
    for number, peer in enumerate(PEERS):
        port = find_free_port()
        own = folder / f"peer-{number}"
        own.mkdir()
        place = Place(bundle / MODEL, rows[0], own, make_environment(peer.packages, packages), port)
        argv = [str(word) for word in peer.start(place)]
        process = stack.enter_context(
            running(argv, f"http://{HOST}:{port}{peer.ready}", **ONE_THREAD)
        )
        servers[peer.name] = Server(
            f"http://{HOST}:{port}{peer.path}",
            process,
            write_body(f"peer-{number}", peer.body(rows[:1])),
            write_body(f"peer-{number}-large", peer.body(many)),
        )
    return servers


@contextlib.contextmanager
def start_proxy(folder: Path, port: int) -> Iterator[str]:
    """Start the local stack's proxy, with a route as a deploy writes it; yields its URL."""
    routes = folder / "routes"
    routes.mkdir()
    api, entry = find_free_ports(2)
    ports = {gateway.API_PORT: api, "local": entry}
    program = gateway.program(Path(sys.executable).parent, routes, ports, ("local",))
    with running([*program.argv], program.health or "", **program.environment):
        Gateway(routes, f"http://{HOST}:{api}", "local").switch(Route("release", (port,)))
        yield f"http://{HOST}:{entry}"


def measure_starts(python: Path, bundle: Path, folder: Path) -> dict[str, float]:
    """Return the CPU time until the server is ready, and that of importing scikit-learn alone."""
    ready, imported = [], []
    for _ in range(STARTS):
        with serve(python, bundle, **ONE_THREAD) as server:
            ready.append(read_cpu_seconds(server.process))
        imported.append(run_measured([str(python), "-c", "import sklearn"])[1])
    ratios = [start / alone for start, alone in zip(ready, imported, strict=True)]
    return {
        "ready": statistics.median(ready),
        "import": statistics.median(imported),
        "ratio": statistics.median(ratios),
    }


def run_measured(argv: Sequence[str]) -> tuple[str, float]:
    """Run a command; return its output and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        argv,
        env={**clean_environment(), **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


LOOP = """
import pickle, sys, time, statistics
import numpy as np
model = pickle.loads(open(sys.argv[1], "rb").read())
for rows in (1, 32):
    array = np.ones((rows, model.n_features_in_))
    taken = []
    for _ in range(300):
        begin = time.thread_time()
        model.predict(array)
        taken.append(time.thread_time() - begin)
    print(1e6 * statistics.median(taken) / rows)
"""


def measure_loop(python: Path, bundle: Path) -> list[float]:
    """Return the CPU microseconds a row of `model.predict` in a loop, for 1 row and for 32."""
    output, _ = run_measured([str(python), "-W", "ignore", "-c", LOOP, str(bundle / MODEL)])
    return [float(line) for line in output.split()]
