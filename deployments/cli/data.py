"""Subcommand for the data that models learn from: `data`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

PANEL = "Models"
_SECONDS = 900  # a table of some gigabytes is read in a few minutes
_TITLES = ("column", "type", "distinct", "missing", "examples", "preparation")
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def data(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how the data of params.yaml are read, and what is likely a mistake in them.

    It reads the whole file, refuses what a stage of the pipeline would refuse, and writes nothing.
    docs/data.md explains the keys that change how data are read.
    """
    from deployments.cli.output import print_json, print_rows
    from tasks.core.commands import run_blocking
    from tasks.core.errors import ConfigurationError
    from tasks.core.settings import CHECKOUT

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
    title = f"{overview['source']}: {overview['rows']:,} rows"
    print_rows(title, _TITLES, [_make_row(column) for column in overview["columns"]])
    for warning in overview["warnings"]:
        print(f"warning: {warning}")


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
