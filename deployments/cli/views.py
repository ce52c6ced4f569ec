"""Subcommands that show what is there: `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deployments.cli.output import print_rows
from deployments.cli.place import Place

if TYPE_CHECKING:
    from deployments.local.stack import Stack

PANEL = "Look"
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def status(context: typer.Context) -> None:
    """Show what runs, and where."""
    place: Place = context.obj
    show_status(place.stack())


def show_status(stack: Stack) -> None:
    """Print the programs of the local stack with their states, and its addresses."""
    print_rows("Programs", ["program", "state"], [
        [name, state.lower()] for name, state in stack.status().items()
    ])  # fmt: skip
    if stack.ports:
        print_rows("Addresses", ["what", "where"], [
            ["Prefect UI", stack.prefect_ui_url],
            ["Prefect database", stack.database],
            ["S3", stack.s3_endpoint_url],
            *([f"model, {name}", stack.model_url(name)] for name in stack.host_environments),
        ])  # fmt: skip
