"""Subcommands for environments: `remove`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from deployments.cli.place import Place, list_environments

PANEL = "Environments"
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def remove(
    context: typer.Context,
    environment: Annotated[
        str, typer.Argument(help="Environment to take down.", autocompletion=list_environments)
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only say what is live.")
    ] = False,
) -> None:
    """Take an environment down: end what serves, remove what deploys made.

    Run it where deploys run, with the worker's variables. The history on origin stays, and so does
    the environment's file: delete it and run `slipway apply` to remove its deployments.
    """
    place: Place = context.obj
    place.choose_server()

    # It imports Prefect, which has to find its variables set.
    from deployments.remove import take_down

    print(asyncio.run(take_down(environment, confirmed=yes)))
