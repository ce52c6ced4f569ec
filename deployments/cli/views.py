"""Subcommands that show what runs: `status`, `open`."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.monitoring import find_report_address
from deployments.cli.output import open_console, print_json, print_rows
from deployments.cli.place import Place, list_environments
from tasks.core.errors import ConfigurationError, SlipwayError

if TYPE_CHECKING:
    from deployments.local.stack import Stack
    from deployments.prefect_api.client import PrefectAPI
    from deployments.prefect_api.models import FlowRun

PANEL = "Views"
commands = typer.Typer()
_MODEL_SECONDS = 2.0
_REPORTS = {"report": "page", "evidently": "evidently"}  # pages by where `monitor` notes their keys

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@commands.command(rich_help_panel=PANEL)
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what runs where: programs, addresses, environments with their latest run."""
    place: Place = context.obj
    stack = place.choose_server()
    facts = _programs_and_addresses(place.stack())
    if stack or os.environ.get("PREFECT_API_URL"):
        with place.open_api() as api:
            facts["environments"] = _environments(api, stack)
    if as_json:
        print_json(facts)
    else:
        _print_status(facts)


def show_status(stack: Stack) -> None:
    """Print the programs of the local stack with their states, and its addresses."""
    _print_status(_programs_and_addresses(stack))


def _programs_and_addresses(stack: Stack) -> dict[str, Any]:
    if not stack.ports:
        return {"programs": {}, "addresses": {}}
    from tasks.bucket.shipper import read_waiting

    return {
        "programs": {name: state.lower() for name, state in stack.status().items()},
        "addresses": {
            "Prefect UI": stack.prefect_ui_url,
            "S3": stack.s3_endpoint_url,
            **{f"model, {name}": stack.model_url(name) for name in stack.host_environments},
        },
        "prediction log": read_waiting(stack.layout.spool).problem,
    }


def _environments(api: PrefectAPI, stack: Stack | None) -> list[dict[str, Any]]:
    """Return each environment with its latest deploy or rollback, the live model, its report."""
    from deployments.prefect_api.monitor_report import read_monitor_reports

    try:
        runs = api.find_runs(flows=("deploy", "rollback"))
        reports = read_monitor_reports(api)
    except SlipwayError as error:
        return [{"error": error.what}]
    latest: dict[str, FlowRun] = {}
    for run in runs:
        latest.setdefault(str(run.parameters.get("environment")), run)
    hosted = stack.host_environments if stack else ()
    return [
        {
            "environment": name,
            **_live_model(stack.model_url(name) if stack and name in hosted else ""),
            "latest run": latest[name].name if name in latest else "",
            "state": latest[name].label if name in latest else "",
            "run": latest[name].id if name in latest else "",
            "monitor": reports[name]["summary"] if name in reports else "",
        }
        for name in list_environments()
    ]


def _live_model(url: str) -> dict[str, str]:
    """Describe the model at a URL, and its prediction log, as far as it answers."""
    import httpx

    from tasks.platforms.base.prediction_log import describe_counts

    facts = {"live": "", "predictions": ""}
    if url:
        try:
            with httpx.Client(trust_env=False, timeout=_MODEL_SECONDS) as client:
                version = client.get(f"{url}/version").raise_for_status().json()
                facts["live"] = f"{version.get('name')} {version.get('version') or ''} at {url}"
                metrics = client.get(f"{url}/metrics").raise_for_status().text
                facts["predictions"] = describe_counts(metrics)
        except (httpx.HTTPError, ValueError):
            pass
    return facts


def _print_status(facts: dict[str, Any]) -> None:
    for title, key in (("Programs", "programs"), ("Addresses", "addresses")):
        if facts[key]:
            print_rows(title, ["", ""], [list(row) for row in facts[key].items()])
        elif key == "programs":
            open_console().print("the local stack has never been up here: slipway up")
    if problem := facts.get("prediction log"):
        open_console().print(f"prediction log: {problem}", markup=False, soft_wrap=True)
    if "unsupervised" in facts["programs"].values():
        open_console().print(
            "supervisord does not run: what is unsupervised runs on, and nothing restarts it.\n"
            "Next: slipway up, which adopts it as it is",
            soft_wrap=True,
        )
    for row in facts.get("environments", []):
        if "error" in row:
            open_console().print(f"environments: {row['error']}", markup=False, soft_wrap=True)
            return
    if rows := [row for row in facts.get("environments", []) if row["live"] or row["run"]]:
        columns = ["environment", "live", "predictions", "latest run", "state", "monitor"]
        print_rows("Environments", columns, [[row[column] for column in columns] for row in rows])


@commands.command("open", rich_help_panel=PANEL)
def open_page(
    context: typer.Context,
    page: Annotated[
        str,
        typer.Argument(
            help="ui, model, report, evidently, s3, or the id of a run.",
            autocompletion=lambda: ["ui", "model", "report", "evidently", "s3"],
        ),
    ] = "ui",
    environment: Annotated[
        str,
        typer.Argument(
            help="With model, report or evidently: the environment; by default that of main.",
            autocompletion=list_environments,
        ),
    ] = "",
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the address, open no browser.")
    ] = False,
) -> None:
    """Open a page in the browser: the Prefect UI, the live model, the report on it, a run.

    The browser is signed in to the Prefect UI of the local stack by a link that works once.

    \b
    slipway open                     # the Prefect UI
    slipway open model production    # the page to try the live model
    slipway open report production   # how its requests differ from the training data
    slipway open evidently production   # Evidently's report on the same requests
    """
    from deployments.local.sign_in import write_redirect

    place: Place = context.obj
    chosen = place.choose_server()
    stack = chosen or place.stack()
    url = _address(place, stack, page, environment)
    if chosen:
        url = chosen.sign_in_url(url)
    print(url)
    if not print_only:
        # The address of a report is a key to it, as a link that signs in is one.
        is_secret = chosen is not None or page in _REPORTS
        typer.launch(str(write_redirect(stack.home, url)) if is_secret else url)


def _address(place: Place, stack: Stack, page: str, environment: str) -> str:
    if page == "model":
        name = environment or stack.main_environment
        if stack.ports and name in stack.host_environments:
            return stack.model_url(name)
        from tasks.platforms.catalogue import load_environment

        if url := str(getattr(load_environment(name), "url", "") or ""):
            return url
        raise ConfigurationError(
            f"no address of {name} is known here",
            state="nothing was opened",
            next_step=f"slipway up, or slipway logs deploy: the run of {name} shows the address",
        )
    if page == "s3" and stack.ports:
        return stack.s3_endpoint_url
    with place.open_api() as api:
        if page == "ui":
            return api.ui_url()
        if key := _REPORTS.get(page):
            return find_report_address(place, api, environment or stack.main_environment, key)
        if is_id(page):
            return api.ui_url(page)
    raise ConfigurationError(
        f"{page!r} names no page",
        state="nothing was opened",
        next_step="name ui, model, report, evidently, s3 or the id of a run",
    )


def is_id(text: str) -> bool:
    """Tell if a text is the id of a run."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
