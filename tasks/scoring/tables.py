"""Tables of databases: a source is read by one query, a target is written in one transaction."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tasks.core import commands
from tasks.core.errors import ConfigurationError, SlipwayError, TransientError
from tasks.core.secret_blocks import variable
from tasks.core.settings import CHECKOUT, Settings
from tasks.runs.secrets import read_secret
from tasks.scoring.places import STATE, Place
from tasks.training.query import URL_VARIABLE

_LOAD_SECONDS = 6 * 3600.0


async def run_query(place: Place, file: Path) -> None:
    """Write the rows of a table to a CSV file, as they are at one moment.

    Raises:
        ConfigurationError: There is no such database or table.
        TransientError: The database cannot be reached.
    """
    query = file.with_suffix(".sql")
    query.write_text(f"SELECT * FROM {place.table}")  # noqa: S608 - a name without quotes
    seconds = Settings().refresh_seconds
    argv = ["tasks.training.query", str(query), str(file), str(seconds)]
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
    argv = ["tasks.scoring.load", place.table, str(job), mode]
    await _run(place, argv, _LOAD_SECONDS, job)


async def has_table(place: Place, folder: Path) -> bool:
    """Check that a table exists."""
    output = await _run(place, ["tasks.scoring.load", place.table, "", "look"], 60.0, folder)
    return bool(output.get("exists"))


async def _run(place: Place, argv: list[str], seconds: float, folder: Path) -> dict[str, Any]:
    variables = {"PYTHONPATH": str(CHECKOUT), URL_VARIABLE: await _read_url(place)}
    # A process, as only its end ends a query on every database; the URL is in a variable.
    result = await commands.run(
        [sys.executable, "-P", "-m", *argv], timeout=seconds, cwd=folder, env=variables, log=False
    )
    try:
        output = dict(json.loads(result.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        output = {"kind": "", "problem": "the program ended without a reason"}
    if result.code:
        raise _explain(place, output)
    return output


async def _read_url(place: Place) -> str:
    block = f"slipway-database-{place.database}"
    url = os.environ.get(variable(block)) or await read_secret(block)
    if not url:
        raise ConfigurationError(
            f"{place}: there is neither a Secret block {block} nor a variable {variable(block)}",
            state=STATE,
            next_step="make the block, with the SQLAlchemy URL of the database",
        )
    return str(url)


def _explain(place: Place, output: dict[str, Any]) -> SlipwayError:
    if output.get("kind") == "connection":
        return TransientError(
            f"database {place.database} cannot be reached for {place.table}: {output['problem']}",
            state="nothing was published",
            next_step="check the database, and the URL in its Secret block or variable",
        )
    return ConfigurationError(
        f"table {place} cannot be used: {output.get('problem')}",
        state="nothing was published",
        next_step="correct the table or the database's URL, and run again",
    )
