"""Many rows in one request: rows per CPU second, small requests beside them, and memory.

Run by `make bench ONLY=bulk`. Servers of two models answer requests of 10,000 and of 100,000 rows
in each form, one after the other, alone and beside 8 clients with one row each.
"""

import contextlib
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uv

from benchmarks.report import Bars, Goal, Report, Table
from benchmarks.servers import ModelServer, make_bundles, read_memory, run, serve
from benchmarks.wrk import PASSES, SECONDS, Pass, Server
from serving.media_types import ARROW, JSON, PARQUET

# One that takes most of the time of a row itself, and one that takes nearly none.
MODELS = {"wine": "calibrated SVC, 13 columns", "diabetes": "ridge regression, 10 columns"}
ROWS = (10_000, 100_000)
ROWS_A_PASS = 300_000
MOST_P99 = 50.0  # ms
LEAST_RATES = {"JSON, columns once": 250_000, "Arrow": 1_000_000, "Parquet": 1_000_000}
PYARROW = "pyarrow>=26,<27"
WRITE = """
import sys, json
import pyarrow
from pyarrow import ipc, parquet
table = pyarrow.Table.from_pylist(json.load(open(sys.argv[1]))["data"]["values"])
with ipc.new_stream(sys.argv[2], table.schema) as writer:
    writer.write_table(table)
parquet.write_table(table, sys.argv[3])
"""
SETTINGS = {"SLIPWAY_SERVING_MAX_ROWS": f"{ROWS[-1]}"}


@dataclass(frozen=True)
class Body:
    """A request with many rows."""

    model: str
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
    alone: list[Pass] = field(default_factory=list)  # small requests without it
    beside: list[Pass] = field(default_factory=list)
    memory: float = 0.0  # MB


def measure() -> Report:
    """Ask a server of each model for many rows in each form, and report."""
    figures: dict[Body, Figures] = {}
    rests = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundles, python = make_bundles(folder)
        run(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python, PYARROW)
        for model in MODELS:
            bodies = write_bodies(folder, bundles / model, python)
            figures |= {body: Figures() for body in bodies}
            server = stack.enter_context(serve(python, bundles / model, **SETTINGS))
            rests.append(read_memory(server.process))
            small = folder / f"{model}.json"
            small.write_text(json.dumps({"data": {"values": read_inputs(bundles / model)[:1]}}))
            for _ in range(PASSES):
                for body in bodies:
                    measure_body(server, body, small, figures[body])
    return make_report(figures, rests)


def measure_body(server: ModelServer, body: Body, small: Path, figures: Figures) -> None:
    """Ask for the rows of a body alone, then beside small requests."""
    with note_most_memory(server.process) as most:
        ask_for_many(server, body, figures)
    figures.memory = max(figures.memory, most[0])
    target = Server(f"{server.url}/predict", server.process, small, body.file, body.media_type)
    figures.alone.append(target.ask(8, pause=10))
    figures.beside.append(target.ask_beside_large())


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


def write_bodies(folder: Path, bundle: Path, python: Path) -> list[Body]:
    """Write the same rows in each form and number.

    Args:
        folder: for the files.
        bundle: of the model.
        python: has pyarrow.
    """
    inputs = read_inputs(bundle)
    bodies = []
    for count in ROWS:
        rows = [inputs[number % len(inputs)] for number in range(count)]
        data = [list(row.values()) for row in rows]
        objects, split, arrow, parquet = (
            folder / f"{bundle.name}-{count}.{form}"
            for form in ("json", "split", "arrow", "parquet")
        )
        objects.write_text(json.dumps({"data": {"values": rows}}))
        split.write_text(json.dumps({"columns": list(inputs[0]), "data": data}))
        run(python, "-c", WRITE, objects, arrow, parquet)
        forms = {
            "JSON, objects": (JSON, objects),
            "JSON, columns once": (JSON, split),
            "Arrow": (ARROW, arrow),
            "Parquet": (PARQUET, parquet),
        }
        bodies += [
            Body(bundle.name, form, count, media_type, file, file.stat().st_size)
            for form, (media_type, file) in forms.items()
        ]
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


def make_report(figures: Mapping[Body, Figures], rests: Sequence[float]) -> Report:
    """Make tables, goals and bars of what was measured."""
    rows, goals, rates = [], [], {}
    for body, own in figures.items():
        rate = statistics.median(own.rates)
        alone, p50, p99 = (
            statistics.median(getattr(run, name) for run in passes)
            for passes, name in ((own.alone, "p99"), (own.beside, "p50"), (own.beside, "p99"))
        )
        label = f"{body.model}: {body.form}, {body.rows:,} rows"
        rows.append(
            [
                body.model, body.form, f"{body.rows:,}", f"{body.size / 1e6:.1f}", f"{rate:,.0f}",
                f"{statistics.median(own.milliseconds):.0f}", f"{own.memory:.0f}", f"{alone:.1f}",
                f"{p50:.1f}", f"{p99:.1f}",
            ]
        )  # fmt: skip
        rates[label] = rate
        bound = f"≤ {MOST_P99:.0f}"
        goals.append(Goal(f"p99 beside {label}, ms", bound, f"{p99:.1f}", p99 <= MOST_P99))
        least = LEAST_RATES.get(body.form)
        if least:
            met = rate >= least
            goals.append(Goal(f"rows per CPU second, {label}", f"≥ {least:,}", f"{rate:,.0f}", met))
    columns = [
        "model", "form", "rows", "MB", "rows per CPU s", "ms", "PSS MB", "small alone: p99 ms",
        "beside: p50", "beside: p99",
    ]  # fmt: skip
    return Report(
        method=[
            f"{PASSES} passes, each of {ROWS_A_PASS:,} rows alone, and of {SECONDS} s beside 8"
            " clients with pauses of 10 ms; medians, memory: the most. CPU time is the server's,"
            " for /predict, with HTTP.",
            f"Models: {'; '.join(f'{name}: {text}' for name, text in MODELS.items())}.",
            f"At rest their servers have {' and '.join(f'{rest:.0f}' for rest in rests)} MB.",
        ],
        tables=[Table("Many rows in one request", columns, rows)],
        goals=goals,
        bars=[Bars("Rows per CPU second", "rows", rates)],
    )
