"""Subcommands for environments: `new`, `remove`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from deployments.cli.place import Place, list_environments, list_targets

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


new = typer.Typer(help="Create an environment, as a file with every key of its platform.")
commands.add_typer(new, name="new", rich_help_panel=PANEL)


@new.callback()
def _() -> None:
    """Keep `environment` a subcommand, although it is the only one."""


@new.command("environment")
def new_environment(
    name: Annotated[str, typer.Argument(help="Name of the new environment, for instance staging.")],
    target: Annotated[
        str, typer.Option(help="Platform that runs the model.", autocompletion=list_targets)
    ] = "process",
) -> None:
    """Write deployments/environments/NAME.toml with commented defaults.

    \b
    slipway new environment staging
    slipway new environment eu --target kubernetes
    """
    from deployments.catalogue.prefect_yaml import environments_folder, write_prefect_yaml
    from deployments.new_environment import write_environment
    from tasks.core.settings import CHECKOUT

    path = write_environment(name, target, environments_folder(CHECKOUT))
    write_prefect_yaml(CHECKOUT)
    print(f"wrote {path}")
    print(
        "Next: edit it, then: slipway apply (of the local stack: slipway up); slipway check"
        f" {name}; slipway deploy {name} --watch"
    )
