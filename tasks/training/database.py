"""Databases of data, labels and scores: their URLs, and the programs that talk to them."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.core.commands import Argv
from tasks.core.settings import CHECKOUT
from tasks.runs.secrets import find_secret
from tasks.training.database_names import URL_VARIABLE


def name_block(database: str) -> str:
    """Name the Secret block of a database: a commit chooses among blocks of this name alone."""
    return f"slipway-database-{database}"


async def find_url(database: str) -> str:
    """Return the SQLAlchemy URL of a database, from its variable or its block; empty if none."""
    return await find_secret(name_block(database))


def run_module(module: str, *arguments: str | Path) -> Argv:
    """Make the command of a program that talks to a database; its last line is an object of JSON.

    A process: only its end ends a query on every database. With -P it imports nothing from where it
    runs, which may be a workspace: that has modules of these names, too, of the commit.
    """
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def make_variables(url: str) -> dict[str, str]:
    """Make the variables of such a program."""
    return {"PYTHONPATH": str(CHECKOUT), URL_VARIABLE: url}
