"""Tables of databases: a source is read by one query, a target is written in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import make_url

from tasks.core import commands
from tasks.core.commands import Argv
from tasks.core.errors import ConfigurationError, SlipwayError, TransientError
from tasks.core.programs import run_module
from tasks.core.secret_blocks import variable
from tasks.core.settings import Settings
from tasks.scoring.places import STATE, Place
from tasks.training.database import find_url, make_variables, name_block
from tasks.training.database_names import UNREACHABLE

_LOAD_SECONDS = 6 * 3600.0


async def run_query(place: Place, file: Path) -> None:
    """Write the rows of a table to a CSV file, as they are at one moment.

    Raises:
        ConfigurationError: There is no such database or table.
        TransientError: The database cannot be reached.
    """
    query = file.with_suffix(".sql")
    name = _quote(await _read_url(place), place.table)
    query.write_text(f"SELECT * FROM {name}")  # noqa: S608 - the name of an address
    seconds = Settings().refresh_seconds
    argv = run_module("tasks.training.query", query, file, str(seconds))
    await _run(place, argv, seconds, file.parent)


async def load_rows(place: Place, job: Path, *, overwrite: bool) -> None:
    """Write the parts of a result into a table, all rows or none; rejected rows into another.

    Args:
        place: The table.
        job: Folder of the result.
        overwrite: Whether to replace the table if it exists.

    Raises:
        ConfigurationError: The table exists, or the database cannot take it in one transaction.
        TransientError: The database cannot be reached.
    """
    mode = "replace" if overwrite else "create"
    argv = run_module("tasks.scoring.load", place.table, job, mode)
    await _run(place, argv, _LOAD_SECONDS, job)


async def has_table(place: Place, folder: Path) -> bool:
    """Check that a table exists."""
    argv = run_module("tasks.scoring.load", place.table, "", "look")
    reply = await _run(place, argv, 60.0, folder)
    return bool(reply.get("exists"))


async def _run(place: Place, argv: Argv, seconds: float, folder: Path) -> dict[str, Any]:
    variables = make_variables(await _read_url(place))
    result = await commands.run(argv, timeout=seconds, cwd=folder, env=variables, log=False)
    reply = result.last_object()
    if result.code:
        raise _explain(place, reply)
    return reply


async def _read_url(place: Place) -> str:
    if url := await find_url(place.database):
        return url
    block = name_block(place.database)
    raise ConfigurationError(
        f"{place}: there is neither a Secret block {block} nor a variable {variable(block)}",
        state=STATE,
        next_step="make the block, with the SQLAlchemy URL of the database",
    )


def _quote(url: str, table: str) -> str:
    """Write a table's name as its database reads it: capitals need quotes in some of them."""
    try:
        names = make_url(url).get_dialect()().identifier_preparer
    except exc.SQLAlchemyError:  # the program that connects says what is wrong with the URL
        return table
    return ".".join(map(names.quote, table.split(".")))


def _explain(place: Place, reply: Mapping[str, Any]) -> SlipwayError:
    problem = reply.get("problem", "the program ended without a reason")
    if reply.get("kind") == UNREACHABLE:
        return TransientError(
            f"database {place.database} cannot be reached for {place.table}: {problem}",
            state="nothing was published",
            next_step="check the database, and the URL in its Secret block or variable",
        )
    return ConfigurationError(
        f"table {place} cannot be used: {problem}",
        state="nothing was published",
        next_step="correct the table or the database's URL, and run again",
    )
