"""Subcommands that show what runs and what it says: `status`, `logs`, `open`."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import open_console, print_json, print_rows
from deployments.cli.place import Place, list_environments
from tasks.core.errors import ConfigurationError, SlipwayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deployments.local.stack import Stack
    from deployments.prefect_api.client import PrefectAPI
    from deployments.prefect_api.models import FlowRun

PANEL = "Views"
commands = typer.Typer()
_FLOWS = ("train", "save", "push", "retrain", "deploy", "rollback", "watch", "status")
_MODEL_SECONDS = 2.0

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
    return {
        "programs": {name: state.lower() for name, state in stack.status().items()},
        "addresses": {
            "Prefect UI": stack.prefect_ui_url,
            "S3": stack.s3_endpoint_url,
            **{f"model, {name}": stack.model_url(name) for name in stack.host_environments},
        },
    }


def _environments(api: PrefectAPI, stack: Stack | None) -> list[dict[str, Any]]:
    """Return each environment with its latest deploy or rollback, and the live model."""
    try:
        runs = api.find_runs(flows=("deploy", "rollback"))
    except SlipwayError as error:
        return [{"error": error.what}]
    latest: dict[str, FlowRun] = {}
    for run in runs:
        latest.setdefault(str(run.parameters.get("environment")), run)
    hosted = stack.host_environments if stack else ()
    return [
        {
            "environment": name,
            "live": _live_model(stack.model_url(name)) if stack and name in hosted else "",
            "latest run": latest[name].name if name in latest else "",
            "state": latest[name].label if name in latest else "",
            "run": latest[name].id if name in latest else "",
        }
        for name in list_environments()
    ]


def _live_model(url: str) -> str:
    import httpx

    try:
        with httpx.Client(trust_env=False, timeout=_MODEL_SECONDS) as client:
            version = client.get(f"{url}/version").raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return ""
    return f"{version.get('name')} {version.get('version') or ''} at {url}"


def _print_status(facts: dict[str, Any]) -> None:
    for title, key in (("Programs", "programs"), ("Addresses", "addresses")):
        if facts[key]:
            print_rows(title, ["", ""], [list(row) for row in facts[key].items()])
        elif key == "programs":
            open_console().print("the local stack has never been up here: slipway up")
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
        columns = ["environment", "live", "latest run", "state"]
        print_rows("Environments", columns, [[row[column] for column in columns] for row in rows])


@commands.command(rich_help_panel=PANEL)
def logs(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            help="Id, name or flow of a run, a program of the stack, or an environment, for its"
            " model server; by default the latest run.",
            autocompletion=lambda: [*list_environments(), *_FLOWS],
        ),
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=200)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest log lines of a run, a program or a model server.

    \b
    slipway logs                  # the latest flow run
    slipway logs deploy           # the latest deploy
    slipway logs prefect-worker   # a program of the stack
    slipway logs local            # the model server of an environment
    """
    place: Place = context.obj
    stack = place.choose_server()
    if subject in list_environments():
        output = _model_log(place.stack(), subject, lines)
    elif subject and (log := place.stack().logs / f"{subject}.log").is_file():
        output = _tail(log.read_text(errors="replace"), lines)
    else:
        with place.open_api() as api:
            output = _run_log(api, subject, lines, known=_program_names(stack))
    if as_json:
        print_json(output)
    else:
        console = open_console()
        for line in output:
            console.print(line, markup=False, soft_wrap=True)


def _run_log(api: PrefectAPI, subject: str, lines: int, known: Iterable[str]) -> list[str]:
    run = _find_run(api, subject)
    if run is None:
        raise ConfigurationError(
            f"no flow run is known as {subject!r}" if subject else "there is no flow run yet",
            state="nothing was changed",
            next_step="name an id or a part of a run's name, a flow"
            f" ({', '.join(_FLOWS)}), an environment ({', '.join(list_environments())}) or a"
            f" program ({', '.join(known) or 'none: slipway up'})",
        )
    family = api.read_run_tree(run.id)
    heading = f"{run.name}: {run.label}, {api.ui_url(run)}"
    return [heading] + [
        f"{line.at.astimezone():%H:%M:%S} {line.task}{': ' if line.task else ''}{line.message}"
        for line in api.read_logs([member.id for member in family], count=lines)
    ]


def _find_run(api: PrefectAPI, subject: str) -> FlowRun | None:
    if not subject:
        runs = api.find_runs(limit=1, started=True)
    elif subject in _FLOWS:
        runs = api.find_runs(flows=[subject], limit=1, started=True)
    elif _is_id(subject):
        return api.read_run(subject)
    else:
        runs = api.find_runs(name=subject, limit=1)
    return runs[0] if runs else None


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _program_names(stack: Stack | None) -> list[str]:
    return sorted(path.stem for path in stack.logs.glob("*.log")) if stack else []


def _model_log(stack: Stack, environment: str, lines: int) -> list[str]:
    """Return the end of the log of an environment's model server.

    Raises:
        ConfigurationError: The environment is not on this host.
    """
    from tasks.platforms.catalogue import load_environment
    from tasks.platforms.docker.settings import DockerEnvironment
    from tasks.platforms.process.settings import ProcessEnvironment

    settings = load_environment(environment)
    if isinstance(settings, ProcessEnvironment):
        # By the form of a release's name: `local` must not show a server of `local-eu`.
        release = f"{'[0-9]' * 8}T{'[0-9]' * 6}-*"
        logs = stack.logs.glob(f"model-{environment}-{release}.log")
        newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
        if newest:
            return _tail(newest.read_text(errors="replace"), lines)
    elif isinstance(settings, DockerEnvironment) and stack.ports:
        from deployments.local.containers import ModelContainers

        containers = ModelContainers(settings, stack.routes, stack.layout.gateway_api_url)
        if text := containers.last_lines(lines):
            return _tail(text, lines)
    else:
        raise ConfigurationError(
            f"the model server of {environment} is not on this host, but on {settings.target}",
            state="nothing was changed",
            next_step=f"docs/targets/{settings.target}.md says how to read its log; that of the"
            " deploy: slipway logs deploy",
        )
    raise ConfigurationError(
        f"{environment} has no model server with a log on this host",
        state="nothing was changed",
        next_step=f"slipway deploy {environment} --watch",
    )


def _tail(text: str, lines: int) -> list[str]:
    return text.splitlines()[-lines:]


@commands.command("open", rich_help_panel=PANEL)
def open_page(
    context: typer.Context,
    page: Annotated[
        str,
        typer.Argument(
            help="ui, model, s3, or the id of a run.", autocompletion=lambda: ["ui", "model", "s3"]
        ),
    ] = "ui",
    environment: Annotated[
        str,
        typer.Argument(
            help="With model: the environment; by default the one that main deploys to.",
            autocompletion=list_environments,
        ),
    ] = "",
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the address, open no browser.")
    ] = False,
) -> None:
    """Open a page in the browser: the Prefect UI, the live model, a run.

    The browser is signed in to the Prefect UI of the local stack by a link that works once.

    \b
    slipway open                     # the Prefect UI
    slipway open model production    # the page to try the live model
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
        typer.launch(str(write_redirect(chosen.home, url)) if chosen else url)


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
        if _is_id(page):
            return api.ui_url(page)
    raise ConfigurationError(
        f"{page!r} names no page",
        state="nothing was opened",
        next_step="name ui, model, s3 or the id of a run",
    )
