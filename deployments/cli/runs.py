"""Subcommands that start flow runs: `retrain`, `gate`, `deploy`, `rollback`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.exit_codes import ExitCode
from deployments.cli.output import open_console, print_error, print_json
from deployments.cli.place import Place, list_environments
from tasks.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from deployments.prefect_api.client import PrefectAPI
    from deployments.prefect_api.models import FlowRun

PANEL = "Models"
REJECTED = "Rejected"
commands = typer.Typer()
_START_SECONDS = 180.0

Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Show progress until the run ends; Ctrl-C leaves it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the run as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Release or run what is up to date as well.")]
EnvironmentArgument = Annotated[
    str,
    typer.Argument(help="A file in deployments/environments.", autocompletion=list_environments),
]


@commands.command(rich_help_panel=PANEL)
def retrain(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="Branch, tag or commit on origin.")] = "main",
    environment: Annotated[
        str,
        typer.Option(
            help="Environment whose live model the candidate is compared with.",
            autocompletion=list_environments,
        ),
    ] = "local",
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=JSON", help="Value for a key of params.yaml, this once."
        ),
    ] = None,
    force: Force = False,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Refresh the data, train, save and push a candidate; the gate decides if main gets it.

    \b
    slipway retrain --watch
    slipway retrain my-branch --set train.cv=3 --set 'train.grid.C=[1.0, 10.0]'
    """
    parameters: dict[str, Any] = {"ref": ref, "environment": environment}
    if override:
        parameters["overrides"] = _parse_overrides(override)
    if force:
        parameters["force"] = True
    start_run(context.obj, "retrain/retrain", parameters, watch=watch, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def gate(
    context: typer.Context,
    environment: EnvironmentArgument,
    ref: Annotated[
        str, typer.Argument(help="Branch, tag or commit on origin with a saved model.")
    ] = "main",
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Judge the model at a ref as a deploy would, and change nothing.

    \b
    slipway gate production --watch
    slipway gate local candidate/wine-2026-11-30-1f0c72c1 --watch
    """
    parameters = {"ref": ref, "environment": environment}
    start_run(context.obj, "gate/gate", parameters, watch=watch, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def deploy(
    context: typer.Context,
    environment: EnvironmentArgument,
    ref: Annotated[
        str, typer.Argument(help="Branch, tag, commit or version (wine@v0.0.3) on origin.")
    ] = "main",
    force: Force = False,
    reason: Annotated[
        str, typer.Option(help="Why it is forced, for the history; needed with --force.")
    ] = "",
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Release a model with another name, other columns or other classes."
        ),
    ] = False,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Deploy the model at a ref to an environment, with all proofs.

    \b
    slipway deploy local --watch
    slipway deploy production wine@v0.0.3
    slipway deploy local --force --reason 'prove that it starts'
    """
    # The deployment knows its environment.
    parameters = {
        "ref": ref,
        **({"force": True, "reason": reason} if force else {}),
        **({"replace": True} if replace else {}),
    }
    start_run(context.obj, f"deploy/{environment}", parameters, watch=watch, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def rollback(
    context: typer.Context,
    environment: EnvironmentArgument,
    version: Annotated[
        str, typer.Argument(help="Version to go back to; by default the one before the live one.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the history and the release note.")] = "",
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier version, with all proofs of a deploy.

    \b
    slipway rollback local --watch
    slipway rollback production v0.0.3 --reason 'customers see wrong prices'
    """
    parameters = {"version": version} if version else {}
    parameters |= {"reason": reason} if reason else {}
    start_run(context.obj, f"rollback/{environment}", parameters, watch=watch, as_json=as_json)


def describe_run(api: PrefectAPI, run: FlowRun) -> dict[str, Any]:
    """Return a run as `--json` prints it."""
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow,
        "state": run.state,
        "label": run.label,
        "message": run.message,
        "seconds": run.seconds,
        "url": api.ui_url(run),
    }


def _parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Return `KEY=JSON` assignments as values; what is no JSON is a text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise typer.BadParameter(f"{assignment!r} is not KEY=JSON", param_hint="--set")
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values


def start_run(
    place: Place, name: str, parameters: Mapping[str, Any], *, watch: bool, as_json: bool
) -> None:
    """Start a run of a deployment; with `watch`, show it to its end."""
    from deployments.trigger import require_worker

    console = open_console(stderr=as_json)
    with place.open_api() as api:
        deployment = api.find_deployment(name)
        if deployment is None:
            raise ConfigurationError(
                f"deployment {name!r} does not exist on the Prefect server at {api.url}",
                state="no run was created",
                next_step=f"check the name (known: {', '.join(list_environments())}), or create the"
                " deployment: slipway apply",
            )
        if deployment.pool:
            require_worker(api, deployment.pool)
        run = api.create_run(name, parameters)
        console.print(f"run {run.id}: {api.ui_url(run)}", markup=False, soft_wrap=True)
        code = ExitCode.DONE
        if watch:
            run, code = _watch(api, run, console)
        else:
            console.print(f"Next: slipway logs {run.id}", style="dim", markup=False)
        if as_json:
            print_json(describe_run(api, run))
    if code:
        raise typer.Exit(code)


def _watch(api: PrefectAPI, run: FlowRun, console: Console) -> tuple[FlowRun, ExitCode]:
    """Show a run until it ends or waits for a person; return it and the exit code."""
    from deployments.prefect_api.display import show_progress
    from deployments.prefect_api.watching import (
        RunFailed,
        WaitsForApproval,
        follow_to_end,
        require_completed,
    )

    try:
        runs = follow_to_end(api, run, show_progress(console), start_within=_START_SECONDS, every=1)
        require_completed(
            api,
            runs,
            lambda line: console.print(line, style="dim", markup=False),
            next_step=f"slipway logs {run.id}, or open {api.ui_url(run)}",
        )
    except KeyboardInterrupt:
        console.print(f"stopped watching; the run goes on: slipway logs {run.id}", markup=False)
        return run, ExitCode.INTERRUPTED
    except WaitsForApproval as error:
        console.print(str(error), style="yellow", markup=False, soft_wrap=True)
        return api.read_run(run.id), ExitCode.PERSON
    except RunFailed as error:
        print_error(error)
        return api.read_run(run.id), ExitCode.FAILED
    last = runs[0]
    console.print(f"{last.label}: {last.message}", markup=False, soft_wrap=True)
    if last.label == REJECTED and last.flow == "retrain":
        console.print(
            "The candidate is on a branch of its own, main is unchanged. Next: change params.yaml"
            " or the data, commit and push, then: slipway retrain --watch",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return last, ExitCode.PERSON if last.label == REJECTED else ExitCode.DONE
