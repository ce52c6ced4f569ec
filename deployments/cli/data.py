"""Subcommand for the data that models learn from: `data`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

PANEL = "Models"
_SECONDS = 900  # a table of some gigabytes is read in a few minutes
_TITLES = ("column", "type", "distinct", "missing", "examples", "preparation")
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def data(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a proposal for data.schema in params.yaml.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="First import the data, or run their query, again.")
    ] = False,
) -> None:
    """Show how the data of params.yaml are read, and what is likely a mistake in them.

    It reads the whole file, refuses what a stage of the pipeline would refuse, and writes nothing
    but, with --refresh, newer data.
    docs/data.md explains the keys that change how data are read.
    """
    from deployments.cli.output import print_json, print_rows
    from tasks.core.commands import run_blocking
    from tasks.core.errors import ConfigurationError
    from tasks.core.settings import CHECKOUT
    from tasks.core.yaml12 import dump_yaml

    if refresh:
        _refresh_data()
    argv = ["sh", "model/stage.sh", "model.overview"]
    done = run_blocking(argv, timeout=_SECONDS, cwd=CHECKOUT)
    if done.code:
        raise ConfigurationError(
            f"the data cannot be trained on: {done.stderr.strip()}",
            state="nothing was changed",
            next_step="edit params.yaml; docs/data.md explains its section `data`",
        )
    overview = json.loads(done.stdout)
    if as_json:
        print_json(overview)
        return
    if schema:
        proposal = {column["name"]: column["schema"] for column in overview["columns"]}
        print(dump_yaml({"data": {"schema": proposal}}), end="")
        return
    title = f"{overview['source']}: {overview['rows']:,} rows"
    print_rows(title, _TITLES, [_make_row(column) for column in overview["columns"]])
    for warning in overview["warnings"]:
        print(f"warning: {warning}")


def _refresh_data() -> None:
    from deployments.cli.place import Place
    from tasks.core.settings import CHECKOUT
    from tasks.training.refresh import refresh_checkout

    Place.of_checkout().choose_server()  # a database's URL may be in one of its blocks
    print(asyncio.run(refresh_checkout(CHECKOUT)), file=sys.stderr)


def _make_row(column: dict[str, Any]) -> list[str]:
    words = ", ".join(f"{word}: {rows}" for word, rows in column["words"].items())
    missing = f"{column['missing']} ({words})" if words else str(column["missing"])
    return [
        column["name"],
        column["type"],
        f"{column['distinct']:,}",
        missing,
        ", ".join(column["examples"]),
        column["preparation"],
    ]
