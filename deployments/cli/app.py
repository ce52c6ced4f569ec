"""The command itself: its options, its groups, and errors as exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deployments.cli import (
    data,
    environments,
    logs,
    monitoring,
    runs,
    scoring,
    server,
    signing,
    stack,
    views,
)
from deployments.cli.exit_codes import EXPLANATION, ExitCode
from deployments.cli.output import print_error
from deployments.cli.place import Place
from tasks.core.disk import explaining_disk_errors
from tasks.core.errors import SlipwayError

app = typer.Typer(
    name="slipway",
    help="""Continuous delivery of scikit-learn models, orchestrated by Prefect.

    \b
    slipway demo                     # everything once, on this machine
    slipway status                   # what runs where
    slipway deploy local --watch     # the model on main goes live
    slipway rollback local --watch   # and the one before it again
    """,
    epilog=EXPLANATION,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order of the help.
for group in (stack, runs, scoring, monitoring, views, logs, server, data, signing, environments):
    app.add_typer(group.commands)


@app.callback()
def choose_place(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the local stack, instead of .slipway.")
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(help="File of variables that name the server, instead of .env."),
    ] = None,
) -> None:
    """Take the options that hold for every subcommand."""
    context.obj = Place.of_checkout(home, env_file)


def main() -> None:
    """Run the command; an error becomes its message and an exit code."""
    try:
        with explaining_disk_errors():
            app()
    except SlipwayError as error:
        print_error(error)
        sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    main()
