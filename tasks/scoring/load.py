"""Write a result into a table: python -m tasks.scoring.load TABLE FOLDER create|replace|look.

A program of its own, so that a cancelled run ends it, and its transaction with it. The database's
URL is in a variable. The last line on stdout is an object of JSON.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    exc,
    inspect,
)
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.pool import NullPool

from tasks.training.database_names import UNREACHABLE, URL_VARIABLE
from tasks.training.query import hide

_TOGETHER = 1000  # rows of one insert
_ATOMIC = {"postgresql", "sqlite"}  # others end a transaction at each CREATE TABLE
_INTEGERS = 2**63
_REJECTED = "_rejected"  # end of the name of the table with rejected rows


class Refused(Exception):
    """The database cannot take the result; the message says why."""


def main(table: str, folder: str, mode: str) -> int:
    """Write or look; return the exit code."""
    try:
        url = make_url(os.environ[URL_VARIABLE])
    except exc.ArgumentError:  # its text may have the password
        return _fail("url", "the URL is not one of SQLAlchemy: dialect://user:password@host/name")
    secret = str(url.password or "")
    try:
        engine = create_engine(url, poolclass=NullPool)
        if engine.dialect.name not in _ATOMIC:
            raise Refused(f"{engine.dialect.name} cannot make and fill a table in one transaction")
        if engine.dialect.name == "sqlite":
            _begin_at_once(engine)
        with engine.begin() as connection:
            output = _work(connection, table, Path(folder), mode)
    except exc.OperationalError as error:
        return _fail(UNREACHABLE, hide(str(error.orig), [secret]))
    except (ModuleNotFoundError, exc.NoSuchModuleError) as error:
        return _fail("driver", f"{error}; add the database's driver: uv add PACKAGE")
    except (exc.SQLAlchemyError, Refused) as error:
        return _fail("table", hide(str(error).splitlines()[0], [secret]))
    print(json.dumps(output))
    return 0


def _begin_at_once(engine: Any) -> None:
    """Have Python's SQLite begin a transaction before it makes a table, which it does not."""

    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _work(connection: Connection, name: str, folder: Path, mode: str) -> dict[str, Any]:
    schema, _, short = name.rpartition(".")
    looks = inspect(connection)
    exists = any(
        looks.has_table(f"{short}{suffix}", schema=schema or None) for suffix in ("", _REJECTED)
    )
    if mode == "look":
        return {"exists": exists}
    if exists and mode == "create":
        raise Refused(f"it exists, or {short}{_REJECTED} does; set overwrite to replace both")
    for suffix, parts in (("", "part-*.csv"), (_REJECTED, "rejected/part-*.csv")):
        _write(connection, f"{short}{suffix}", schema or None, sorted(folder.glob(parts)))
    return {"exists": True}


def _write(connection: Connection, name: str, schema: str | None, files: list[Path]) -> None:
    if inspect(connection).has_table(name, schema=schema):
        Table(name, MetaData(), schema=schema).drop(connection)
    if not files:
        return
    kinds = _find_kinds(files)
    columns = [Column(column, kind[0]) for column, kind in kinds.items()]
    table = Table(name, MetaData(), *columns, schema=schema)
    table.create(connection)
    for file in files:
        rows = _read(file)
        while batch := list(islice(rows, _TOGETHER)):
            values = [
                {key: kinds[key][1](cell) if cell else None for key, cell in row.items()}
                for row in batch
            ]
            connection.execute(table.insert(), values)


def _read(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)


def _find_kinds(files: list[Path]) -> dict[str, tuple[Any, Any]]:
    """Find the type of each column, from all of its cells, and how to read them."""
    order = [(BigInteger, _to_integer), (Double, _to_number), (Text, str)]
    places: dict[str, int] = {}
    filled: set[str] = set()
    for file in files:
        for row in _read(file):
            for name, cell in row.items():
                place = places.setdefault(name, 0)
                if not cell:
                    continue
                filled.add(name)
                while place < 2 and not _fits(order[place][1], cell):
                    place += 1
                places[name] = place
    return {name: order[place if name in filled else 2] for name, place in places.items()}


def _fits(read: Any, cell: str) -> bool:
    try:
        read(cell)
    except ValueError:
        return False
    return True


def _to_integer(cell: str) -> int:
    number = int(cell)
    if str(number) != cell or abs(number) >= _INTEGERS:  # 007 is a code
        raise ValueError(cell)
    return number


def _to_number(cell: str) -> float:
    if cell[:1] == "0" and cell[1:2].isdigit():
        raise ValueError(cell)
    return float(cell)


def _fail(kind: str, problem: str) -> int:
    print(json.dumps({"kind": kind, "problem": problem}))
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
