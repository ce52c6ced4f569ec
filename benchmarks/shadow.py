"""What shadow traffic costs the clients: latency with mirroring and without.

Run from the root of the checkout: `python -m benchmarks.shadow`. Two servers of one model run
behind the proxy, both with a prediction log. Clients ask the live one at half of what it can bear,
in rounds of three passes, in an order drawn anew each time: one with mirroring to the other server,
as a deploy does it, and two without. How far the two differ is the noise of the machine. Ratios are
of the passes of a round, and their medians count. A request that is lost or refused ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.prediction_log import ask_steadily
from benchmarks.servers import load, make_bundles, read_body, serve
from deployments.local import gateway
from tasks.core.free_port import find_free_ports
from tasks.core.settings import CHECKOUT
from tasks.platforms.base.shadow import ShadowRules
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.route import Route
from tasks.platforms.host.shadow import choose_percent
from tests.code.serving.running import clean_environment

_NAME = "shadow"
_MODES = ("live alone", "live alone, again", "mirrored")
_PROCESSORS = ShadowRules().processors * (os.cpu_count() or 1)


def main() -> None:
    """Build an environment and a model, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="of each pass")
    parser.add_argument("--passes", type=int, default=20, help="of each mode")
    parser.add_argument("--percent", type=int, help="of the requests to mirror; else as a deploy")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    order = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as opened:
        folder = Path(temporary)
        bundles, python = make_bundles(folder)
        bundle = bundles / "wine"
        body = read_body(bundle)
        proxy, port = _open_proxy(folder, opened)
        routes = []
        for name in ("live", "new"):
            spool = folder / name
            spool.mkdir()
            log = {"SLIPWAY_LOG": '{"share": 1.0}', "SLIPWAY_LOG_FOLDER": str(spool)}
            server = opened.enter_context(serve(python, bundle, **log))
            routes.append(Route(name, (server.port,)))
        live, new = routes
        proxy.switch(live)
        rates = [asyncio.run(load(port, 16, body, given.seconds))[0] for _ in range(5)]
        rate = statistics.median(rates) / 2
        before = proxy.counters(live)[0]
        asyncio.run(ask_steadily(port, body, rate, given.seconds))
        requests = proxy.counters(live)[0].since(before)
        percent = given.percent or choose_percent(requests, given.seconds, _PROCESSORS)
        latencies: dict[str, list[tuple[float, float]]] = {mode: [] for mode in _MODES}
        for _ in range(given.passes):
            for mode in order.sample(_MODES, len(_MODES)):
                if mode == "mirrored":
                    proxy.mirror(live, new, percent)
                else:
                    proxy.switch(live)
                time.sleep(0.5)
                latencies[mode].append(asyncio.run(ask_steadily(port, body, rate, given.seconds)))
        time.sleep(2)  # the log is written
        records = sum(path.read_bytes().count(b"\n") for path in (folder / "new").iterdir())
    print(f"{given.passes} passes of {given.seconds:g} s at {rate:.0f} requests/s; none was lost")
    print(f"{percent} % of the requests were mirrored: {records} records of them")
    for column, name in enumerate(("p50 ms", "p99 ms")):
        base = [times[column] for times in latencies[_MODES[0]]]
        for mode, values in latencies.items():
            ratios = [times[column] / other for times, other in zip(values, base, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            median = statistics.median(times[column] for times in values)
            print(f"{name} | {mode:17} | {median:6.2f} | {middle:.3f} ({low:.3f} to {high:.3f})")


def _open_proxy(folder: Path, opened: ExitStack) -> tuple[Gateway, int]:
    """Run the proxy as the local stack does; return it, and the port of its clients."""
    routes = folder / "routes"
    routes.mkdir()
    ports = dict(zip((gateway.API_PORT, _NAME), find_free_ports(2), strict=True))
    program = gateway.program(CHECKOUT / ".venv" / "bin", routes, ports, (_NAME,))
    environment = clean_environment() | dict(program.environment)
    process = opened.enter_context(subprocess.Popen(program.argv, env=environment))
    opened.callback(process.terminate)
    return Gateway(routes, f"http://127.0.0.1:{ports[gateway.API_PORT]}", _NAME), ports[_NAME]


if __name__ == "__main__":
    main()
