"""Databases of data, labels and scores: their URLs, and the programs that talk to them."""

from __future__ import annotations

from tasks.core import programs
from tasks.runs.secrets import find_secret
from tasks.training.database_names import URL_VARIABLE


def name_block(database: str) -> str:
    """Name the Secret block of a database: a commit chooses among blocks of this name alone."""
    return f"slipway-database-{database}"


async def find_url(database: str) -> str:
    """Return the SQLAlchemy URL of a database, from its variable or its block; empty if none."""
    return await find_secret(name_block(database))


def make_variables(url: str) -> dict[str, str]:
    """Make the variables of a program that talks to a database.

    A program of its own: only the end of its process ends a query on every database.
    """
    return {**programs.VARIABLES, URL_VARIABLE: url}
