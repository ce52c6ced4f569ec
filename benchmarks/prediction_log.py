"""What the prediction log costs: requests a second, CPU time and latency, with it and without.

Run from the root of the checkout: `python -m benchmarks.prediction_log`. Three servers of one model
are asked in turn, in an order drawn anew each time: one with the log, two without. How far the two
differ is the noise of the machine. Ratios are of neighbours in time, and their medians count. CPU
time is that of a server over several passes, what it writes after them included.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.servers import (
    ModelServer,
    load,
    make_bundles,
    make_request,
    read_answer,
    read_body,
    run,
    serve,
)

BLOCK = 4  # passes of each server over which its CPU time is measured
CONNECTIONS = 64  # of the clients that ask at a fixed rate

Results = dict[str, list[tuple[float, ...]]]


def main() -> None:
    """Build an environment and a model, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1, help="of each pass")
    parser.add_argument("--passes", type=int, default=40, help="of each server")
    parser.add_argument("--clients", type=int, default=32, help="that ask at the same time")
    parser.add_argument("--model", default="wine")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    order = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundles, python = make_bundles(folder)
        bundle = bundles / given.model
        body = read_body(bundle)
        spool = folder / "spool"
        spool.mkdir()
        log = {"SLIPWAY_LOG": '{"share": 1.0}', "SLIPWAY_LOG_FOLDER": str(spool)}
        with (
            serve(python, bundle) as plain,
            serve(python, bundle) as twin,
            serve(python, bundle, **log) as logged,
        ):
            servers = {"without": plain, "without again": twin, "with": logged}

            def saturate(server: ModelServer) -> tuple[float, ...]:
                return asyncio.run(load(server.port, given.clients, body, given.seconds))

            full: Results = {name: [] for name in servers}
            cpu: Results = {name: [] for name in servers}
            for _ in range(given.passes // BLOCK):
                before = {name: server.cpu_seconds() for name, server in servers.items()}
                block = measure(servers, saturate, BLOCK, order)
                time.sleep(1)  # the log is written
                for name, server in servers.items():
                    requests = sum(rate for rate, _ in block[name]) * given.seconds
                    cpu[name].append((1e6 * (server.cpu_seconds() - before[name]) / requests,))
                    full[name] += block[name]
            half = statistics.median(rate for rate, _ in full["without"]) / 2

            def pace(server: ModelServer) -> tuple[float, ...]:
                return asyncio.run(ask_steadily(server.port, body, half, given.seconds))

            steady = measure(servers, pace, given.passes, order)
        records = sum(path.read_bytes().count(b"\n") for path in spool.iterdir())
        inside = run(
            python, "-m", "benchmarks.log_cost", bundle, "300", str(given.clients), str(given.seed),
            **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS")},
        )  # fmt: skip
    print(
        f"{given.model}, {given.clients} clients, {given.passes} passes of {given.seconds:g} s; "
        f"{records} records"
    )
    report("requests/s", full, 0)
    report("CPU µs a request", cpu, 0)
    print(f"of it without HTTP   | {inside.strip()}")
    report(f"p50 ms at {half:.0f}/s", steady, 0)
    report(f"p99 ms at {half:.0f}/s", steady, 1)


def measure(
    servers: dict[str, ModelServer],
    ask: Callable[[ModelServer], tuple[float, ...]],
    passes: int,
    order: random.Random,
) -> Results:
    """Measure servers in turn; return the results of each, one a pass."""
    results: Results = {name: [] for name in servers}
    for _ in range(passes):
        for name in order.sample([*servers], len(servers)):
            results[name].append(ask(servers[name]))
    return results


def report(title: str, results: Results, column: int) -> None:
    """Print the medians of a column, and those of its ratios to the server without a log."""
    values = {name: [row[column] for row in rows] for name, rows in results.items()}
    base = values["without"]
    line = f"{title:20}"
    for name, column_values in values.items():
        line += f" | {name} {statistics.median(column_values):8.2f}"
        if name != "without":
            ratios = [value / other for value, other in zip(column_values, base, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            line += f" ratio {middle:.3f} ({low:.3f} to {high:.3f})"
    print(line)


async def ask_steadily(port: int, body: bytes, rate: float, seconds: float) -> tuple[float, float]:
    """Ask at a fixed rate; a late answer delays no other request, and counts from when it was due.

    Args:
        port: on the loopback interface.
        body: of each request.
        rate: requests a second.
        seconds: to go on.

    Returns:
        The median and the 99th percentile of the latency, in milliseconds.
    """
    request = make_request(body)
    latencies: list[float] = []
    due: asyncio.Queue[float] = asyncio.Queue()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (moment := await due.get()) > 0:
            writer.write(request)
            await read_answer(reader)
            latencies.append(1000 * (time.perf_counter() - moment))
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(client())
        await asyncio.sleep(0.2)  # they connect
        begin = time.perf_counter()
        for number in range(int(rate * seconds)):
            moment = begin + number / rate
            if (wait := moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            due.put_nowait(moment)
        for _ in range(CONNECTIONS):
            due.put_nowait(0.0)
    return statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]


if __name__ == "__main__":
    main()
