"""What is lost when one of several servers behind the proxy is killed, under load.

    python -m benchmarks.replicas --replicas 2 --kills 20 --clients 8 --seed 1

Servers of a light model run behind the proxy, with the route of an environment's release. Again
and again one of them is killed and started again, as supervisord does. A request that began before
its end may have been at that server. One that began later must not be lost; if one is, the exit
code is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.servers import runtime
from deployments.local import gateway
from tasks.core.free_port import find_free_ports
from tasks.core.settings import CHECKOUT
from tasks.core.tls import ssl_context
from tasks.package import server
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.route import Route
from tests.code.light_model import write_light_model
from tests.code.serving.running import clean_environment

_NAME = "replicas"
_SECONDS = 60.0


@dataclass
class Load:
    """Clients that ask without pause, each on a connection of its own.

    Attributes:
        failures: When each request that failed began, and its answer.
    """

    url: str
    body: bytes
    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Send one request after another until the end."""
        header = {"Content-Type": "application/json"}
        with httpx.Client(trust_env=False, timeout=30, verify=ssl_context()) as client:
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    answer = client.post(f"{self.url}/predict", content=self.body, headers=header)
                    failure = "" if answer.status_code == 200 else str(answer.status_code)
                except httpx.HTTPError as error:
                    failure = type(error).__name__
                if failure:
                    self.failures.append((began, failure))
                self.answered += 1


class Servers:
    """The servers of one release, each on its port."""

    def __init__(self, python: Path, bundle: Path, route: Route) -> None:
        self._python, self._bundle = python, bundle
        self._variables = clean_environment() | route.server_variables
        self.processes = [self._start(port) for port in route.ports]
        self._ports = route.ports

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        argv = server.serve(self._python, self._bundle, port)
        return subprocess.Popen(
            argv, cwd=CHECKOUT, env=self._variables,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self, number: int) -> float:
        """Kill a server and start it again; return when it had ended."""
        self.processes[number].kill()
        # On a busy machine it takes a moment, in which the server's kernel still takes requests.
        self.processes[number].wait()
        at = time.monotonic()
        self.processes[number] = self._start(self._ports[number])
        return at

    def end(self) -> None:
        """Kill all."""
        for process in self.processes:
            process.kill()
            process.wait()


def _wait_until_ready(proxy: Gateway, route: Route) -> None:
    deadline = time.monotonic() + _SECONDS
    for url in route.urls:
        while True:
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                raise SystemExit(f"{url} did not get ready")
            time.sleep(0.1)
    while (
        route.balanced and proxy.route() == route and proxy.replicas(route).ready < len(route.ports)
    ):
        time.sleep(0.1)


def main() -> None:
    """Measure, and print one line per kill and a sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args()
    dice = random.Random(parsed.seed)  # a choice of victims
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as opened:
        folder = Path(temporary)
        write_light_model(folder / "wine", "wine")
        inputs = json.loads((folder / "wine" / "wine.golden.json").read_text())["inputs"]
        python = runtime(folder, folder / "wine" / "wine.runtime.json")
        api, port, *ports = find_free_ports(parsed.replicas + 2)
        routes = folder / "routes"
        routes.mkdir()
        program = gateway.program(
            CHECKOUT / ".venv" / "bin", routes, {gateway.API_PORT: api, _NAME: port}, (_NAME,)
        )
        with (folder / "proxy.log").open("wb") as log:
            traefik = subprocess.Popen(program.argv, stdout=log, stderr=log)
        opened.callback(traefik.kill)
        route = Route(_NAME, tuple(ports))
        servers = Servers(python, folder / "wine", route)
        opened.callback(servers.end)
        proxy = Gateway(routes, f"http://127.0.0.1:{api}", _NAME)
        _wait_until_ready(proxy, route)
        proxy.switch(route)
        load = Load(
            f"http://127.0.0.1:{port}", json.dumps({"data": {"values": inputs[:1]}}).encode()
        )
        clients = [threading.Thread(target=load.ask) for _ in range(parsed.clients)]
        for client in clients:
            client.start()
        in_flight = later = 0
        for number in range(1, parsed.kills + 1):
            time.sleep(dice.uniform(0.5, 1.5))
            before = len(load.failures)
            at = servers.kill(dice.randrange(parsed.replicas))
            _wait_until_ready(proxy, route)
            lost = load.failures[before:]
            begun_later = [failure for failure in lost if failure[0] > at]
            in_flight, later = in_flight + len(lost) - len(begun_later), later + len(begun_later)
            print(
                f"kill {number}: {len(lost)} lost, {len(begun_later)} begun later",
                flush=True,
            )
        load.stop.set()
        for client in clients:
            client.join()
    print(
        f"{parsed.replicas} replicas, {parsed.kills} kills, {parsed.clients} clients:"
        f" {load.answered} requests, {in_flight} lost in flight, {later} begun later"
    )
    raise SystemExit(1 if later else 0)


if __name__ == "__main__":
    main()
