"""Ask a server with `wrk`, and keep the results of each pass."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import read_cpu_seconds
from tasks.core.settings import CHECKOUT

PASSES = int(os.environ.get("BENCHMARK_PASSES", "5"))
SECONDS = int(os.environ.get("BENCHMARK_SECONDS", "2"))  # of each pass
SCRIPT = CHECKOUT / "benchmarks" / "wrk.lua"


@dataclass(frozen=True)
class Pass:
    """The answers of one server in one pass."""

    rate: float  # requests a second
    cpu: float  # microseconds a request; 0 where several share a server
    p50: float  # milliseconds
    p99: float
    errors: int


@dataclass
class Server:
    """A running server and its passes by number of clients."""

    url: str
    process: int
    body: Path  # of a request for one row
    large: Path  # of one for many
    media_type: str = "application/json"  # of that
    passes: dict[int, list[Pass]] = field(default_factory=dict)

    def ask(self, clients: int, pause: float = 0, seconds: int = SECONDS) -> Pass:
        """Have keep-alive clients ask for predictions; pause: milliseconds between requests."""
        variables = {"BENCHMARK_BODY": str(self.body), "BENCHMARK_PAUSE": str(pause)}
        begin = read_cpu_seconds(self.process)
        done = subprocess.run(
            self._command(clients, seconds), env={**os.environ, **variables},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        cpu = read_cpu_seconds(self.process) - begin
        result = json.loads(done.stdout.splitlines()[-1])
        count = max(1, result["requests"])
        return Pass(
            rate=1e6 * result["requests"] / result["microseconds"],
            cpu=1e6 * cpu / count,
            p50=result["p50"] / 1000,
            p99=result["p99"] / 1000,
            errors=result["errors"],
        )

    def ask_beside_large(self) -> Pass:
        """Have 8 clients ask for one row while another asks for many, again and again."""
        variables = {"BENCHMARK_BODY": str(self.large), "BENCHMARK_TYPE": self.media_type}
        environment = {**os.environ, **variables}
        with subprocess.Popen(
            self._command(1, SECONDS + 2), env=environment, stdout=subprocess.DEVNULL
        ):
            time.sleep(1)  # until the first is being answered
            return self.ask(8, pause=10)

    def _command(self, clients: int, seconds: int) -> list[str]:
        return ["wrk", "-t1", f"-c{clients}", f"-d{seconds}", "-s", str(SCRIPT), self.url]

    def median(self, clients: int, figure: str) -> float:
        """Return the median of a figure over the passes."""
        return statistics.median(getattr(run, figure) for run in self.passes[clients])


def list_ratios(server: Server, other: Server, clients: int, figure: str = "rate") -> list[float]:
    """List a figure of one server as a multiple of another's, pass by pass."""
    ratios = []
    for run, against in zip(server.passes[clients], other.passes[clients], strict=True):
        divisor = getattr(against, figure)  # 0: that server answered nothing in the whole pass
        ratios.append(getattr(run, figure) / divisor if divisor else float("inf"))
    return ratios


def format_ratios(ratios: Sequence[float]) -> str:
    """Format the median of ratios, with the least and the greatest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
