"""Many rows in one request: rows per CPU second, small requests beside them, and memory.

Run by `make bench ONLY=bulk`. One server of the demo's model answers requests of 10,000 and of
100,000 rows in each form, one after the other, alone and beside 8 clients with one row each.
"""

import contextlib
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import Bars, Goal, Report, Table
from benchmarks.servers import ModelServer, make_bundles, read_memory, serve
from benchmarks.wrk import PASSES, SECONDS, Pass, Server

MODEL = "wine"
JSON = "application/json"
ROWS = (10_000, 100_000)
ROWS_A_PASS = 300_000
MOST_P99 = 50.0  # ms
LEAST_RATES = {"JSON, columns once": 250_000}  # rows per CPU second
SETTINGS = {"SLIPWAY_SERVING_MAX_ROWS": f"{ROWS[-1]}"}


@dataclass(frozen=True)
class Body:
    """A request with many rows."""

    form: str
    rows: int
    media_type: str
    file: Path
    size: int  # bytes


@dataclass
class Figures:
    """All that was measured of one body."""

    rates: list[float] = field(default_factory=list)  # rows per CPU second
    milliseconds: list[float] = field(default_factory=list)  # until the answer
    beside: list[Pass] = field(default_factory=list)
    memory: float = 0.0  # MB


def measure() -> Report:
    """Ask a server for many rows in each form, and report."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundles, python = make_bundles(folder)
        bundle = bundles / MODEL
        bodies = write_bodies(folder, bundle)
        small = folder / "small.json"
        rows = read_inputs(bundle)
        small.write_text(json.dumps({"data": {"values": rows[:1]}}))
        server = stack.enter_context(serve(python, bundle, **SETTINGS))
        rest = read_memory(server.process)
        servers = [
            Server(f"{server.url}/predict", server.process, small, body.file, body.media_type)
            for body in bodies
        ]
        figures = [Figures() for _ in bodies]
        for _ in range(PASSES):
            for body, target, own in zip(bodies, servers, figures, strict=True):
                with note_most_memory(target.process) as most:
                    ask_for_many(server, body, own)
                own.memory = max(own.memory, most[0])
                own.beside.append(target.ask_beside_large())
    return make_report(bodies, figures, rest)


def ask_for_many(server: ModelServer, body: Body, figures: Figures) -> None:
    """Send a body until many rows are predicted, and note the time of the processor."""
    content = body.file.read_bytes()
    count = ROWS_A_PASS // body.rows
    begin = server.cpu_seconds()
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(count):
        start = time.perf_counter()
        client.request("POST", "/predict", content, {"Content-Type": body.media_type})
        answer = client.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{body.form}: {answer.status}")
        figures.milliseconds.append(1000 * (time.perf_counter() - start))
    client.close()
    figures.rates.append(count * body.rows / (server.cpu_seconds() - begin))


def read_inputs(bundle: Path) -> list[dict[str, float]]:
    """Read the golden rows of a model."""
    golden = json.loads((bundle / f"{bundle.name}.golden.json").read_text())
    inputs: list[dict[str, float]] = golden["inputs"]
    return inputs


def write_bodies(folder: Path, bundle: Path) -> list[Body]:
    """Write the same rows in each form and number."""
    inputs = read_inputs(bundle)
    bodies = []
    for count in ROWS:
        rows = [inputs[number % len(inputs)] for number in range(count)]
        data = [list(row.values()) for row in rows]
        forms = {
            "JSON, objects": {"data": {"values": rows}},
            "JSON, columns once": {"columns": list(inputs[0]), "data": data},
        }
        for number, (form, content) in enumerate(forms.items()):
            file = folder / f"{count}-{number}.json"
            size = file.write_text(json.dumps(content))
            bodies.append(Body(form, count, JSON, file, size))
    return bodies


@contextlib.contextmanager
def note_most_memory(process: int) -> Iterator[list[float]]:
    """Look at the memory of a process until the end of the block; yields a list of its peak."""
    most, is_over = [0.0], threading.Event()

    def look() -> None:
        while not is_over.wait(0.02):
            most[0] = max(most[0], read_memory(process))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


def make_report(bodies: list[Body], figures: list[Figures], rest: float) -> Report:
    """Make tables, goals and bars of what was measured."""
    rows, goals, rates = [], [], {}
    for body, own in zip(bodies, figures, strict=True):
        rate = statistics.median(own.rates)
        p50, p99 = (
            statistics.median(getattr(p, name) for p in own.beside) for name in ("p50", "p99")
        )
        label = f"{body.form}, {body.rows:,} rows"
        rows.append(
            [
                body.form, f"{body.rows:,}", f"{body.size / 1e6:.1f}", f"{rate:,.0f}",
                f"{statistics.median(own.milliseconds):.0f}", f"{p50:.1f}", f"{p99:.1f}",
                f"{own.memory:.0f}",
            ]
        )  # fmt: skip
        rates[label] = rate
        goals.append(
            Goal(f"p99 beside {label}, ms", f"≤ {MOST_P99:.0f}", f"{p99:.1f}", p99 <= MOST_P99)
        )
        least = LEAST_RATES.get(body.form)
        if least:
            met = rate >= least
            goals.append(Goal(f"rows per CPU second, {label}", f"≥ {least:,}", f"{rate:,.0f}", met))
    columns = [
        "form", "rows", "MB", "rows per CPU s", "ms", "small: p50 ms", "small: p99 ms", "PSS MB",
    ]  # fmt: skip
    return Report(
        method=[
            f"{PASSES} passes of {SECONDS} s each; medians, memory: the most. CPU time is the"
            " server's, for /predict, with HTTP.",
            "Small requests: 8 clients with pauses of 10 ms. At rest the server has"
            f" {rest:.0f} MB.",
        ],
        tables=[Table("Many rows in one request", columns, rows)],
        goals=goals,
        bars=[Bars("Rows per CPU second", "rows", rates)],
    )
