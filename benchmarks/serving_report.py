"""Tables and goals of the benchmark `serving`."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers import PEERS
from benchmarks.report import Bars, Goal, Report, Table
from benchmarks.wrk import PASSES, SECONDS, Pass, Server, format_ratios, list_ratios

CLIENTS = (1, 8, 32)
OURS, ALONE, PROXIED = "Slipway", "Slipway, no batches", "Slipway behind Traefik"
TABLES = (OURS, "MLEM", "BentoML, tables", "MLflow", "FastAPI by hand")  # take rows with names
LARGE_ROWS = 10_000


@dataclass(frozen=True)
class Figures:
    """All that was measured."""

    servers: Mapping[str, Server]
    half: Sequence[Pass]  # of ours at half of its highest rate
    beside: Mapping[str, Sequence[Pass]]  # while another client asks for many rows
    memory: Mapping[str, float]  # MB
    starts: Mapping[str, float]  # CPU seconds until ready, of importing scikit-learn; their ratio
    limit: Sequence[float]  # CPU microseconds a row of the model alone, for 1 row and for 32


def make_report(figures: Figures) -> Report:
    """Make tables, goals and bars of what was measured."""
    servers, limit, most = figures.servers, figures.limit, CLIENTS[-1]
    rows = [
        [
            name,
            *(f"{server.median(clients, 'rate'):.0f}" for clients in CLIENTS),
            "" if name == OURS else format_ratios(list_ratios(servers[OURS], server, most)),
            f"{server.median(1, 'p50'):.2f}",
            f"{server.median(most, 'p50'):.1f}",
            f"{server.median(most, 'p99'):.1f}",
            f"{server.median(1, 'cpu'):.0f}",
            f"{server.median(most, 'cpu'):.0f}",
            "" if name == OURS else format_ratios(list_ratios(server, servers[OURS], most, "cpu")),
            f"{figures.memory[name]:.0f}",
            f"{sum(run.errors for passes in server.passes.values() for run in passes)}",
        ]
        for name, server in servers.items()
    ]
    columns = [
        "server", *(f"req/s at {clients}" for clients in CLIENTS), f"Slipway is x at {most}",
        "p50 ms at 1", f"p50 at {most}", f"p99 at {most}",
        "CPU µs a request at 1", f"at {most}", f"x Slipway's at {most}", "PSS MB", "errors",
    ]  # fmt: skip
    lacks = [[peer.name, peer.lacks] for peer in PEERS]
    return Report(
        method=[
            f"{PASSES} passes of {SECONDS} s each with 1, 8 and 32 keep-alive clients (wrk), one"
            " row a request; medians, ratios pair by pair (least to greatest). CPU time is the"
            " server's.",
            f"model.predict in a loop: {limit[0]:.0f} µs of CPU for one row, {limit[1]:.0f} a row"
            " for 32.",
            "None of the others verifies the model's hash or signature, replays golden rows, or"
            " keeps a log of predictions.",
        ],
        tables=[
            Table("One worker, the demo's model", columns, rows),
            Table(
                f"Small requests, 8 clients with pauses, while one asks for {LARGE_ROWS:,} rows",
                ["server", "p50 ms", "p99 ms", "requests/s"],
                [
                    [name, *(f"{_median(passes, figure):.1f}" for figure in ("p50", "p99", "rate"))]
                    for name, passes in figures.beside.items()
                ],
            ),
            Table("What the others lack", ["server", "lacks"], lacks),
        ],
        goals=make_goals(figures),
        bars=[
            Bars(f"Requests a second, {most} clients", "requests a second",
                 {name: server.median(most, "rate") for name, server in servers.items()}),
            Bars(f"CPU time of the server, {most} clients", "microseconds a request",
                 {name: server.median(most, "cpu") for name, server in servers.items()}),
            Bars(f"p99 with {most} clients", "milliseconds",
                 {name: server.median(most, "p99") for name, server in servers.items()}),
        ],
    )  # fmt: skip


def make_goals(figures: Figures) -> list[Goal]:
    """Compare what was measured with the goals."""
    servers, starts, most = figures.servers, figures.starts, CLIENTS[-1]
    ours = servers[OURS]
    goals = []

    def add(what: str, bound: float, value: float, text: str, *, least: bool = False) -> None:
        is_met = value >= bound if least else value <= bound
        goals.append(Goal(what, f"{'≥' if least else '≤'} {bound:.4g}", text, is_met))

    def add_ratio(
        what: str, bound: float, pair: tuple[Server, Server], clients: int, figure: str = "rate",
        *, least: bool = False,
    ) -> None:  # fmt: skip
        ratios = list_ratios(*pair, clients, figure)
        add(what, bound, statistics.median(ratios), format_ratios(ratios), least=least)

    bounds = {
        "MLEM": 12,
        "BentoML, tables": 10,
        "BentoML, batching": 3,
        "MLflow": 20,
        "FastAPI by hand": 3,
    }
    for name, bound in bounds.items():
        add_ratio(f"requests/s at {most}, x {name}", bound, (ours, servers[name]), most, least=True)
    name = "FastAPI by hand"
    add_ratio(f"requests/s at 1, x {name}", 0.95, (ours, servers[name]), 1, least=True)
    bound, value = servers["MLEM"].median(most, "p50"), ours.median(most, "p99")
    add(f"p99 at {most} below MLEM's p50, ms", bound, value, f"{value:.1f}")
    p50, p99, rate = (_median(figures.half, figure) for figure in ("p50", "p99", "rate"))
    text = f"{p99 / p50:.1f} ({p99:.1f} / {p50:.1f} ms)"
    add(f"p99 at half load ({rate:.0f} requests/s), x p50", 2, p99 / p50, text)
    pairs = zip(ours.passes[1], servers[ALONE].passes[1], strict=True)
    differences = [run.p50 - alone.p50 for run, alone in pairs]
    value = statistics.median(differences)
    add("p50 at 1, less p50 without batches, ms", 0.3, value, f"{value:+.2f}")
    add_ratio("p99 behind Traefik, x direct", 1.3, (servers[PROXIED], ours), most, "p99")
    value = _median(figures.beside[OURS], "p99")
    add(f"p99 beside {LARGE_ROWS:,} rows, ms", 50, value, f"{value:.1f}")
    text = f"{starts['ratio']:.2f} ({starts['ready']:.2f} / {starts['import']:.2f} s)"
    add("CPU time of a start, x import sklearn", 1.2, starts["ratio"], text)
    add("memory, MB", 130, figures.memory[OURS], f"{figures.memory[OURS]:.0f}")
    return goals


def _median(passes: Sequence[Pass], figure: str) -> float:
    return statistics.median(getattr(run, figure) for run in passes)
