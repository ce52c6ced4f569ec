"""The main job, start to end: bring the stack up, retrain, deploy, try the live model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deployments.local import containers
from deployments.local.stack import Database, Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun, Progress
from deployments.prefect_api.progress_log import require_completed, told
from deployments.trigger import ask
from tasks.core.errors import SlipwayError, TransientError
from tasks.repository.git import Git

# Where each target is demonstrated.
ENVIRONMENTS = {"process": "local", "docker": "docker"}
_UNDER_WAY = ("RUNNING", "PENDING", "SCHEDULED")
REJECTED = "Rejected"
_COLOURS = {"COMPLETED": "green", "FAILED": "red", "CRASHED": "red", "RUNNING": "cyan"}

Show = Callable[[Iterator[Progress]], Progress]


@dataclass(frozen=True)
class LiveModel:
    """What the live model said.

    Attributes:
        url: Where it is.
        version: Its answer to `/version`.
        row: The sample that it was given.
        prediction: Its answer.
    """

    url: str
    version: Mapping[str, Any]
    row: Any
    prediction: Any


def ask_model(url: str) -> LiveModel:
    """Give the live model the sample that its own documentation shows.

    Args:
        url: Where it is.

    Returns:
        What it is and what it predicts.

    Raises:
        TransientError: It does not answer as a live model should.
    """
    try:
        with httpx.Client(base_url=url, timeout=15, trust_env=False) as client:
            version = client.get("/version").raise_for_status().json()
            described = client.get("/openapi.json").raise_for_status().json()
            body = described["paths"]["/predict"]["post"]["requestBody"]
            request = body["content"]["application/json"]["example"]
            prediction = client.post("/predict", json=request).raise_for_status().json()
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise TransientError(
            f"the live model at {url} does not answer: {error!r}",
            state="the deploy run has completed",
            next_step=f"open {url}/version",
        ) from error
    data = request["data"]
    row = (data["values"] if isinstance(data, dict) else data)[0]
    return LiveModel(url, version, row, prediction)


def metrics_at(origin: Path, commit: str) -> dict[str, float]:
    """The metrics of the model at a commit.

    Args:
        origin: The bare repository.
        commit: The commit.

    Returns:
        Its numbers, by name; none if the commit has no metrics.
    """
    found = Git(origin).run("show", f"{commit}:reports/metrics.json")
    if found.code:
        return {}
    values = json.loads(found.stdout)
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def retrain_run(api: PrefectAPI, environment: str, tag: str) -> FlowRun:
    """The run that retrains: one under way, which an earlier `make demo` stopped watching, or new.

    Args:
        api: The Prefect server.
        environment: The environment whose champion the candidate is held against.
        tag: Tag of the run; the same for runs that would do the same.

    Returns:
        The run.
    """
    deployment = "retrain/retrain"
    under_way = api.unfinished(_UNDER_WAY, deployment=deployment, tags=[tag])
    if under_way:
        return under_way[0]
    return api.create_run(deployment, {"environment": environment}, tags=[tag])


def deploy_run(api: PrefectAPI, environment: str, commit: str, since: datetime) -> FlowRun:
    """The run that deploys a commit: the one that the push to main has started, or will.

    Args:
        api: The Prefect server.
        environment: Where to.
        commit: The commit.
        since: A run that ended before then is not taken for an answer; a new one is.

    Returns:
        The run.
    """
    run = ask(api, environment, commit)
    if run.ended and run.ended < since:
        return ask(api, environment, commit, again=f"{since:%Y%m%dT%H%M%S}")
    return run


def watch(api: PrefectAPI, run: FlowRun, show: Show, console: Console) -> tuple[FlowRun, ...]:
    """Show a run until it ends.

    Args:
        api: The Prefect server.
        run: The run.
        show: Shows the progress and returns the last one.
        console: Shows the end of the log of a run that failed.

    Returns:
        The run and its subflow runs.

    Raises:
        RunFailed: It did not complete.
    """
    runs = show(api.follow(run.id)).runs
    require_completed(
        api,
        runs,
        lambda line: console.print(line, style="dim", markup=False),
        next_step=f"open {api.ui(run)}; the stack is still up",
    )
    return runs


def show_live(console: Console) -> Show:
    """Show progress on a terminal, in place."""

    def show(steps: Iterator[Progress]) -> Progress:
        step: Progress | None = None
        spinner = Spinner("dots")
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            for step in steps:
                line = step.line.message.partition("\n")[0] if step.line else ""
                last = Text(line, style="dim", no_wrap=True, overflow="ellipsis")
                live.update(Group(_runs_table(step.runs), last, spinner))
        assert step is not None
        console.print(_runs_table(step.runs))
        return step

    return show


def show_lines(console: Console) -> Show:
    """Show progress where there is no terminal: a line for every event."""

    def show(steps: Iterator[Progress]) -> Progress:
        step: Progress | None = None
        for each in told(steps, lambda line: console.print(line, markup=False)):
            step = each
        assert step is not None
        return step

    return show


def _runs_table(runs: tuple[FlowRun, ...]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for depth, run in enumerate(runs):
        state = Text(run.label, style=_COLOURS.get(run.state, "yellow"))
        table.add_row(("  " if depth else "") + run.flow, state, f"{run.seconds:.1f} s")
    return table


def summary(
    api: PrefectAPI, runs: tuple[FlowRun, ...], model: LiveModel, metrics: Mapping[str, float]
) -> Group:
    """Everything that a person wants to know of it, as tables.

    Args:
        api: The Prefect server.
        runs: All flow runs.
        model: The live model.
        metrics: Its metrics.

    Returns:
        Something that rich can print.
    """
    table = Table(title="Flow runs", title_justify="left")
    table.add_column("flow", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("seconds", no_wrap=True, justify="right")
    table.add_column("in the Prefect UI", overflow="fold")
    for run in runs:
        state = Text(run.label, style=_COLOURS.get(run.state, "yellow"))
        link = Text(api.ui(run), style=f"link {api.ui(run)}")
        table.add_row(run.flow, state, f"{run.seconds:.1f}", link)
    facts = Table(title="The live model", title_justify="left", show_header=False)
    named = [str(model.version.get(key) or "-") for key in ("name", "version", "commit", "md5")]
    facts.add_row("model", " ".join(named[:2]))
    facts.add_row("commit, md5", f"{named[2][:12]}, {named[3]}")
    facts.add_row("metrics", ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    facts.add_row("sample", json.dumps(model.row))
    facts.add_row("prediction", json.dumps(model.prediction))
    facts.add_row("try it", model.url)
    facts.add_row("Prefect UI", api.ui())
    return Group(table, facts)


def run_demo(home: Path, target: str, database: Database | None) -> int:
    """Run the demo and return an exit code.

    Args:
        home: Folder of the local stack.
        target: What runs the model, a key of `ENVIRONMENTS`.
        database: What the Prefect server works on; by default what it has worked on so far.
    """
    environment = ENVIRONMENTS[target]
    stack = Stack(home, database=database, main_environment=environment)
    # Where nobody watches, lines as long as links are.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    show = show_live(console) if console.is_terminal else show_lines(console)
    started = datetime.now(UTC)
    try:
        if target == "docker":
            containers.require_engine(environment)
        stack.up(lambda line: console.print(line, style="dim", markup=False))
        if target == "docker":
            containers.require_base(environment)
        with PrefectAPI(stack.prefect_api_url) as api:
            console.print(f"Prefect UI: {api.ui()}")
            runs = watch(
                api, retrain_run(api, environment, _tag(stack, environment)), show, console
            )
            if runs[0].label == REJECTED:
                console.print(
                    f"The gate rejected the new model: {runs[0].message}. It is kept on a branch of"
                    " its own; what is on main is deployed.",
                    style="yellow",
                    markup=False,
                )
            deploy = deploy_run(api, environment, Git(stack.origin)("rev-parse", "main"), started)
            runs += watch(api, deploy, show, console)
            model = ask_model(stack.model_url(environment))
            commit = model.version.get("commit") or Git(stack.origin)("rev-parse", "main")
            console.print()
            console.print(summary(api, runs, model, metrics_at(stack.origin, commit)))
    except KeyboardInterrupt:
        console.print(
            "\nStopped watching. The stack and the runs under way go on: `make status` shows them, "
            "`make down` stops them, `make demo` takes them over."
        )
        return 130
    except SlipwayError as error:
        console.print(f"\n{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    _write(stack, runs, model, commit)
    console.print("make demo again retrains nothing; make down stops it all", style="dim")
    return 0


def _tag(stack: Stack, environment: str) -> str:
    """The tag of a run that works on main as it is now; one for an older main is not taken over."""
    return f"demo-{environment}-{Git(stack.origin)('rev-parse', 'main')[:12]}"


def _write(stack: Stack, runs: tuple[FlowRun, ...], model: LiveModel, commit: str) -> None:
    result = {
        "model_url": model.url,
        "prefect_ui_url": stack.prefect_ui_url,
        "prefect_api_url": stack.prefect_api_url,
        "s3_endpoint_url": stack.s3_endpoint_url,
        "origin": str(stack.origin),
        "commit": commit,
        "flow_runs": [
            {"flow": each.flow, "id": each.id, "state": each.state, "seconds": each.seconds}
            for each in runs
        ],
        "prediction": model.prediction,
    }
    (stack.home / "demo.json").write_text(json.dumps(result, indent=2) + "\n")
