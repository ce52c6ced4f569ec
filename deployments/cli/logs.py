"""The subcommand `logs`: what a run, a program, a model server or a prediction log says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import open_console, print_json
from deployments.cli.place import Place, list_environments
from deployments.cli.views import PANEL, AsJson, is_id
from tasks.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deployments.local.stack import Stack
    from deployments.prefect_api.client import PrefectAPI
    from deployments.prefect_api.models import FlowRun

commands = typer.Typer()
_FLOWS = ("train", "save", "push", "retrain", "deploy", "rollback", "watch", "monitor", "status")


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
    predictions: Annotated[
        bool,
        typer.Option("--predictions", help="Show the requests that an environment has answered."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the newest log lines of a run, a program or a model server.

    \b
    slipway logs                  # the latest flow run
    slipway logs deploy           # the latest deploy
    slipway logs prefect-worker   # a program of the stack
    slipway logs local            # the model server of an environment
    slipway logs local --predictions
    """
    place: Place = context.obj
    stack = place.choose_server()
    output: list[Any]
    if predictions:
        output = _predictions(stack, subject, lines, as_json=as_json)
    elif subject in list_environments():
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


def _predictions(stack: Stack | None, environment: str, count: int, *, as_json: bool) -> list[Any]:
    from deployments.catalogue.block_variables import ObjectStorage
    from deployments.cli.predictions import describe_record, read_newest
    from tasks.platforms.catalogue import load_environment

    name = environment or (stack.main_environment if stack else "")
    settings = load_environment(name)
    spool = stack.layout.spool if stack else None
    records = read_newest(ObjectStorage.from_environment(), spool, name, count)
    if not records and settings.log is None:
        raise ConfigurationError(
            f"{name} keeps no prediction log",
            state="nothing was changed",
            next_step=f"set `log = {{share = 1.0}}` in deployments/environments/{name}.toml, and"
            " deploy",
        )
    return records if as_json else [describe_record(record) for record in records]


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
    elif is_id(subject):
        return api.read_run(subject)
    else:
        runs = api.find_runs(name=subject, limit=1)
    return runs[0] if runs else None


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
