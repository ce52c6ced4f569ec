"""Subcommands for the local stack: `up`, `down`, `demo`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from deployments.cli.place import Place

PANEL = "Local stack"
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def up(context: typer.Context) -> None:
    """Start the local stack: database, S3, Prefect, worker, proxy, origin."""
    from deployments.cli.views import show_status

    place: Place = context.obj
    stack = place.stack()
    stack.up(print)
    show_status(stack)


@commands.command(rich_help_panel=PANEL)
def down(
    context: typer.Context,
    containers: Annotated[
        bool, typer.Option("--containers", help="Remove the models' containers as well.")
    ] = False,
) -> None:
    """Stop everything; data stays in .slipway."""
    place: Place = context.obj
    stack = place.stack()
    if containers:
        stack.clean(print)
    else:
        stack.down(print)
    print("stopped")


@commands.command(rich_help_panel=PANEL)
def demo(
    context: typer.Context,
    target: Annotated[
        Literal["process", "docker"], typer.Option(help="What runs the model.")
    ] = "process",
) -> None:
    """Start the stack, retrain, deploy, and try the live model."""
    from deployments.local.demo import run_demo

    place: Place = context.obj
    raise typer.Exit(run_demo(place.home, target))
