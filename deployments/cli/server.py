"""Subcommands for the Prefect server and all that runs need: `doctor`, `check`, `apply`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.exit_codes import ExitCode
from deployments.cli.output import open_console, print_findings, print_json
from deployments.cli.place import Place, list_environments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from deployments.catalogue.difference import Change
    from deployments.diagnosis.finding import Finding

PANEL = "Prefect server"
commands = typer.Typer()
_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}

WithoutSchedules = Annotated[
    bool, typer.Option("--without-schedules", help="Declared schedules are there, but not active.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@commands.command(rich_help_panel=PANEL)
def doctor(
    context: typer.Context,
    notify: Annotated[bool, typer.Option("--notify", help="Send a test message.")] = False,
    without_schedules: WithoutSchedules = False,
    as_json: AsJson = False,
) -> None:
    """Check the whole set-up by use, and say how to fix each problem."""
    place: Place = context.obj
    stack = place.choose_server()

    from deployments.doctor import examine

    options = frozenset(stack.apply_options) if stack else _apply_options(without_schedules)
    _report(examine(options, local=stack is not None, notify=notify), as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def check(
    context: typer.Context,
    environment: Annotated[
        str, typer.Argument(help="Environment to check.", autocompletion=list_environments)
    ] = "local",
    as_json: AsJson = False,
) -> None:
    """Check what a deploy to an environment needs; changes nothing.

    Run it where deploys run: on a worker's host, with the worker's variables.
    """
    place: Place = context.obj
    stack = place.choose_server()

    from deployments.check import examine

    _report(examine(environment, local=stack is not None), as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def apply(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what differs, change nothing.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --dry-run: exit 4 if anything differs.")
    ] = False,
    without_schedules: WithoutSchedules = False,
    as_json: AsJson = False,
) -> None:
    """Make the server equal to this repository: deployments, blocks, automations.

    What is missing is created, what differs is set back, what carries the tag `slipway` and is no
    longer declared is removed. A second time it changes nothing.
    """
    place: Place = context.obj
    stack = place.choose_server(for_changes=True)

    # It imports Prefect, which has to find its variables set.
    from deployments import apply as module
    from deployments.catalogue.prefect_yaml import write_prefect_yaml
    from tasks.core.settings import CHECKOUT

    options = frozenset(stack.apply_options) if stack else _apply_options(without_schedules)
    write_prefect_yaml(CHECKOUT)
    log = open_console(stderr=as_json)
    changes = asyncio.run(
        module.apply(options, dry_run=dry_run, log=lambda line: log.print(line, markup=False))
    )
    if as_json:
        print_json([
            {
                "action": change.action,
                "kind": change.kind,
                "name": change.name,
                "fields": change.fields(),
            }
            for change in changes
        ])  # fmt: skip
    else:
        _print_changes(changes, module.server_url(), dry_run=dry_run)
    if changes and dry_run and exit_code:
        raise typer.Exit(ExitCode.DIFFERS)


def _apply_options(without_schedules: bool) -> frozenset[str]:
    from deployments.apply import WITHOUT_SCHEDULES

    return frozenset({WITHOUT_SCHEDULES} if without_schedules else ())


def _print_changes(changes: Sequence[Change], url: str, *, dry_run: bool) -> None:
    from rich.text import Text

    console = open_console()
    for change in changes:
        sign, colour = _SIGNS[change.action]
        console.print(Text(f"{sign} {change.kind} {change.name}", style=colour), soft_wrap=True)
        for line in change.fields():
            console.print(Text(f"    {line}"), soft_wrap=True)
    if not changes:
        summary = f"{url} is equal to the repository: nothing to do"
    elif dry_run:
        summary = f"{url} differs from the repository: apply would make {len(changes)} changes"
    else:
        summary = f"{len(changes)} changes made; {url} is equal to the repository"
    console.print(summary, markup=False, soft_wrap=True)


def _report(findings: AsyncIterator[Finding], *, as_json: bool) -> None:
    """Print findings; a problem makes the command fail."""
    results = asyncio.run(_collect(findings))
    if as_json:
        print_json([
            {
                "checked": finding.thing,
                "ok": finding.ok,
                "finding": finding.text,
                "fix": finding.fix,
            }
            for finding in results
        ])  # fmt: skip
    else:
        print_findings(results)
    if not all(finding.ok for finding in results):
        raise typer.Exit(ExitCode.FAILED)


async def _collect(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]
