"""Run a SQL query and write its rows as CSV: python -m tasks.training.query QUERY RESULT SECONDS.

A program of its own, so that a query that takes too long can be ended. PostgreSQL does not notice
the end of a client, and would go on: it gets the time limit itself. The database's URL is in a
variable. The last line on stdout is an object of JSON: the number of rows, or kind and text of the
problem.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import sys
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import URL, CursorResult, make_url
from sqlalchemy.pool import NullPool

from tasks.training.database_names import UNREACHABLE, URL_VARIABLE

_FETCH = 1000  # rows in memory at a time
# After the end of this program, whose message says more than the database's own.
_GRACE_SECONDS = 5.0


class Unreachable(Exception):
    """No connection to the database, or one that was lost."""


class UnsupportedValue(Exception):
    """A value that a cell of a CSV file cannot hold."""


def write_rows(url: URL, query: str, path: Path, seconds: float) -> int:
    """Write the rows of a query to a CSV file, and return their number; change no database.

    Args:
        url: The database, with credentials.
        query: One statement that returns rows.
        path: UTF-8, commas, one header line.
        seconds: The time limit of this program.
    """
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        # The query is of a commit; it must not read other files of the worker.
        event.listen(engine, "connect", _protect)
    try:
        connection = engine.connect()
    except exc.DBAPIError as error:
        raise Unreachable(error.orig) from error
    with connection, path.open("w", encoding="utf-8", newline="") as file:
        try:
            if engine.dialect.name == "postgresql":
                connection.execution_options(postgresql_readonly=True)
                # Of this transaction alone: a pool may share the connection with others.
                limit = round(1000 * (seconds + _GRACE_SECONDS))
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
            # No parameters: a percent sign or a colon of the query means nothing to the driver.
            connection.execution_options(stream_results=True, yield_per=_FETCH, no_parameters=True)
            return _write(connection.exec_driver_sql(query), file)
        except exc.DBAPIError as error:
            if error.connection_invalidated:
                raise Unreachable(error.orig) from error
            raise
        finally:
            connection.rollback()


def _write(result: CursorResult[Any], file: IO[str]) -> int:
    writer = csv.writer(file, lineterminator="\n")
    names = list(result.keys())
    writer.writerow(names)
    count = 0
    for row in result:
        writer.writerow([to_cell(value, name) for value, name in zip(row, names, strict=True)])
        count += 1
    return count


def to_cell(value: Any, column: str) -> str:
    """Write a value as `fetch` reads it: NULL is the empty cell."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime() | date() | time():
            return value.isoformat()
        case int() | float() | Decimal() | str():
            return str(value)
    raise UnsupportedValue(f"column '{column}' has values of type {type(value).__name__}; cast it")


def _protect(connection: Any, _record: Any) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    # A rollback takes back changes of rows only: outside of a transaction, DROP TABLE counts.
    connection.execute("PRAGMA query_only = ON")


def main(query: str, path: str, seconds: str) -> int:
    """Run the query; return the exit code."""
    try:
        url = make_url(os.environ[URL_VARIABLE])
    except exc.ArgumentError:  # its text may have the password
        return _fail("url", "the URL is not one of SQLAlchemy: dialect://user:password@host/name")
    try:
        rows = write_rows(url, Path(query).read_text(encoding="utf-8"), Path(path), float(seconds))
    except Unreachable as error:
        return _fail(UNREACHABLE, hide(str(error), [url.password]))
    except (ModuleNotFoundError, exc.NoSuchModuleError) as error:
        return _fail("driver", f"{error}; add the database's driver: uv add PACKAGE")
    except (exc.SQLAlchemyError, UnsupportedValue, OSError, UnicodeDecodeError) as error:
        return _fail("query", hide(str(error).splitlines()[0], [url.password]))
    print(json.dumps({"rows": rows}))
    return 0


def _fail(kind: str, problem: str) -> int:
    print(json.dumps({"kind": kind, "problem": problem}))
    return 1


def hide(text: str, secrets: Iterable[object]) -> str:
    """Replace secrets in a text by stars."""
    for secret in filter(None, map(str, secrets)):
        text = text.replace(secret, "***")
    return text


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
