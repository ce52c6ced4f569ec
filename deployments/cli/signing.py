"""Subcommand for signatures of people: `sign`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

PANEL = "Models"
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def sign(
    key: Annotated[
        Path, typer.Option(help="Private key in OpenSSH's format, whose public half is allowed.")
    ] = Path("~/.ssh/id_ecdsa"),
    history: Annotated[
        bool, typer.Option("--history", help="Sign the releases on origin that are not signed.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --history: do it, do not only list them.")
    ] = False,
) -> None:
    """Sign the model of this checkout, which you have made and committed by hand.

    \b
    slipway sign --key ~/.ssh/id_ecdsa    # then commit the two files, and push
    slipway sign --history                # once, after an upgrade or when a key was removed
    """
    from deployments.sign import open_key, sign_checkout, sign_history
    from tasks.core.settings import CHECKOUT
    from tasks.repository.git import Git

    file = key.expanduser()
    opened = open_key(file, lambda: str(typer.prompt(f"Passphrase of {file}", hide_input=True)))
    if history:
        origin = os.environ.get("SLIPWAY_ORIGIN") or Git(CHECKOUT)("remote", "get-url", "origin")
        print(asyncio.run(sign_history(origin, file, opened, confirmed=yes)))
        return
    path = asyncio.run(sign_checkout(CHECKOUT, opened))
    print(f"wrote {path}")
    print("Next: git commit -m 'Sign the model', then git push")
