"""The main job, start to end: bring the stack up, retrain, deploy, try the live model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from deployments.local import containers
from deployments.local.demo_report import send_golden_rows, start_monitor
from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.display import show_progress, state_text
from deployments.prefect_api.models import FlowRun
from deployments.prefect_api.watching import WaitsForApproval, follow_to_end, require_completed
from deployments.trigger import request_deploy
from tasks.core.errors import CandidateRejected, SlipwayError, TransientError
from tasks.repository.git import Git

# The environment in which each target is demonstrated.
ENVIRONMENTS = {"process": "local", "docker": "docker"}
_UNDER_WAY = ("RUNNING", "PENDING", "SCHEDULED")
REJECTED = "Rejected"
_START_SECONDS = 120.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class LiveModel:
    """Answers of the live model.

    Attributes:
        version: Its answer to `/version`.
        row: The sample in the request.
        prediction: The prediction for that sample.
    """

    url: str
    version: Mapping[str, Any]
    row: Any
    prediction: Any


def query_model(url: str) -> LiveModel:
    """Send the live model the sample of its own documentation.

    Raises:
        TransientError: It does not answer as a live model should.
    """
    try:
        with httpx.Client(base_url=url, timeout=15, trust_env=False) as client:
            version = client.get("/version").raise_for_status().json()
            openapi = client.get("/openapi.json").raise_for_status().json()
            body = openapi["paths"]["/predict"]["post"]["requestBody"]
            request = body["content"]["application/json"]["example"]
            prediction = client.post("/predict", json=request).raise_for_status().json()
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise TransientError(
            f"the live model at {url} does not answer: {error!r}",
            state="the deploy run has completed",
            next_step=f"open {url}/version, or: slipway status",
        ) from error
    data = request["data"]
    row = (data["values"] if isinstance(data, dict) else data)[0]
    return LiveModel(url, version, row, prediction)


def metrics_at(origin: Path, commit: str) -> dict[str, float]:
    """Return the numbers among the metrics of the model at a commit; none if it has no metrics."""
    shown = Git(origin).run("show", f"{commit}:reports/metrics.json")
    if shown.code:
        return {}
    values = json.loads(shown.stdout)
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def retrain_run(api: PrefectAPI, environment: str, tag: str) -> FlowRun:
    """Return the run that retrains: one under way, left by an earlier `make demo`, or a new one.

    Args:
        api: The Prefect server.
        environment: The environment whose champion the candidate is compared with.
        tag: Tag of the run; the same for runs that would do the same.
    """
    deployment = "retrain/retrain"
    if under_way := api.find_runs(_UNDER_WAY, deployment=deployment, tags=[tag]):
        return under_way[0]
    return api.create_run(deployment, {"environment": environment}, tags=[tag])


def deploy_run(api: PrefectAPI, environment: str, commit: str, since: datetime) -> FlowRun:
    """Return the run that deploys a commit: that of the push to main, or a new one.

    Args:
        api: The Prefect server.
        environment: Name of the environment.
        commit: The full hash of the commit.
        since: A run that ended earlier is repeated.
    """
    run = request_deploy(api, environment, commit)
    if run.end_time and run.end_time < since:
        return request_deploy(api, environment, commit, again=f"{since:%Y%m%dT%H%M%S}")
    return run


def watch(api: PrefectAPI, run: FlowRun, console: Console) -> tuple[FlowRun, ...]:
    """Show a run until it ends.

    Args:
        api: The Prefect server.
        run: The run.
        console: Shows the progress, and the end of the log of a run that failed.

    Returns:
        The run and its subflow runs.

    Raises:
        RunFailed: It did not complete.
        NotStarted: No worker has started it in time.
        WaitsForApproval: It waits for a person.
    """
    runs = follow_to_end(
        api, run, show_progress(console), start_within=_START_SECONDS, every=_LOOK_SECONDS
    )
    require_completed(
        api,
        runs,
        lambda line: console.print(line, style="dim", markup=False),
        next_step=f"slipway logs {run.id}, or open {api.ui_url(run)}; the stack is still up",
    )
    return runs


def summary(
    link: Callable[[FlowRun | None], str],
    runs: tuple[FlowRun, ...],
    model: LiveModel,
    metrics: Mapping[str, float],
) -> Group:
    """Return the flow runs and the live model as tables.

    Args:
        link: Returns the address of a run in the Prefect UI; of the UI itself for None.
        runs: The flow runs.
        model: The live model.
        metrics: Its metrics.
    """
    table = Table(title="Flow runs", title_justify="left")
    table.add_column("flow", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("seconds", no_wrap=True, justify="right")
    table.add_column("in the Prefect UI", overflow="fold")
    for run in runs:
        url = link(run)
        shown = Text(url, style=f"link {url}")
        table.add_row(run.flow, state_text(run), f"{run.seconds:.1f}", shown)
    facts = Table(title="The live model", title_justify="left", show_header=False)
    identity = [str(model.version.get(key) or "-") for key in ("name", "version", "commit", "md5")]
    facts.add_row("model", " ".join(identity[:2]))
    facts.add_row("commit, md5", f"{identity[2][:12]}, {identity[3]}")
    facts.add_row("metrics", ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    facts.add_row("sample", json.dumps(model.row))
    facts.add_row("prediction", json.dumps(model.prediction))
    facts.add_row("try it", model.url)
    facts.add_row("Prefect UI", link(None))
    return Group(table, facts)


def run_demo(home: Path, target: str) -> int:
    """Run the demo and return an exit code.

    Args:
        home: Folder of the local stack.
        target: What runs the model, a key of `ENVIRONMENTS`.
    """
    environment = ENVIRONMENTS[target]
    stack = Stack(home, main_environment=environment)
    # In a file, lines as long as links are.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    try:
        runs, model, commit = _deliver(stack, target, environment, console)
    except KeyboardInterrupt:
        console.print(
            "\nStopped watching. The stack and the runs under way go on: `slipway status` shows"
            " them, `make down` stops them, `make demo` takes them over."
        )
        return 130
    except WaitsForApproval as error:
        console.print(f"\n{error}", style="yellow", markup=False)
        return 3
    except SlipwayError as error:
        console.print(f"\n{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    _write(stack, runs, model, commit)
    console.print(
        "Each link signs in one browser within ten minutes; slipway open gives another one. Next:"
        " slipway status, slipway open model, slipway logs --predictions, slipway --help; after a"
        f" second version, slipway rollback {environment}; make demo again retrains nothing; make"
        " down stops everything",
        style="dim",
    )
    return 0


def _deliver(
    stack: Stack, target: str, environment: str, console: Console
) -> tuple[tuple[FlowRun, ...], LiveModel, str]:
    """Start the stack, retrain, deploy, and query the live model; return runs, model and commit."""
    started = datetime.now(UTC)
    if target == "docker":
        containers.require_engine(environment)
    console.print(
        "This starts Prefect, an S3 server and a proxy on this machine, retrains the model through"
        " the gate, deploys it and sends it a request. It takes about a minute; everything is in"
        f" {stack.home}.",
        markup=False,
    )
    stack.up(lambda line: console.print(line, style="dim", markup=False))
    if target == "docker":
        containers.require_base(environment)
    with stack.open_api() as api:

        def link(run: FlowRun | None) -> str:
            return stack.sign_in_url(api.ui_url(run))

        console.print(f"Prefect UI: {link(None)}", soft_wrap=True)
        runs = watch(api, retrain_run(api, environment, _tag(stack, environment)), console)
        if runs[0].label == REJECTED:
            require_model(stack.origin, runs[0].message)
            console.print(
                f"The gate rejected the new model: {runs[0].message}. It is on a branch of its own,"
                " and what is on main is deployed. Next: change params.yaml or the data, commit,"
                " and run make demo again.",
                style="yellow",
                markup=False,
            )
        deploy = deploy_run(api, environment, Git(stack.origin)("rev-parse", "main"), started)
        runs += watch(api, deploy, console)
        model = query_model(stack.model_url(environment))
        commit = model.version.get("commit") or Git(stack.origin)("rev-parse", "main")
        console.print()
        console.print(summary(link, runs, model, metrics_at(stack.origin, commit)))
        rows = send_golden_rows(model.url, stack.origin, str(model.version["name"]), commit)
        if monitor := start_monitor(api, environment):
            console.print(
                f"{rows} more rows were sent; a report compares them with the training data: in"
                f" some seconds slipway open report, or {link(monitor)}",
                soft_wrap=True,
            )
    return runs, model, commit


def require_model(origin: Path, reasons: str) -> None:
    """Refuse to go on if the gate has rejected the first model: there is none to deploy.

    Args:
        origin: The repository of the stack.
        reasons: Why the gate rejected the model.

    Raises:
        CandidateRejected: Main has no model.
    """
    paths = Git(origin)("ls-tree", "-r", "--name-only", "main", "--", "model").splitlines()
    if not any(path.endswith(".mlem") for path in paths):
        raise CandidateRejected(
            f"the gate rejected the first model: {reasons}",
            state="the model is on a branch of its own; main has none, and nothing was deployed",
            next_step="train a better model; or change the rule, a key of `gate` in params.yaml."
            " Commit, and run make demo again",
        )


def _tag(stack: Stack, environment: str) -> str:
    """Return the tag of runs on main as it is now; a run on an older main is not taken over."""
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
            {"flow": run.flow, "id": run.id, "state": run.state, "seconds": run.seconds}
            for run in runs
        ],
        "prediction": model.prediction,
    }
    (stack.home / "demo.json").write_text(json.dumps(result, indent=2) + "\n")
