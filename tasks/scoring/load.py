"""Write a result into a table: python -m tasks.scoring.load TABLE FOLDER create|replace|look.

A program of its own, so that a cancelled run ends it, and its transaction with it. The database's
URL is in a variable. The last line on stdout is an object of JSON.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
_INTEGER = re.compile(r"0|-?[1-9]\d*", re.ASCII)  # 007 is a code
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_LEAST, _GREATEST = -(2**63), 2**63 - 1
_DIGITS = 17  # of a number whose digits a double keeps
_EXACT = 2**53  # a double is not each whole number beyond it
_SHORT = 15  # characters of a cell: if it fits a kind, it fits all behind it, too
_REJECTED = "_rejected"  # end of the name of the table with rejected rows


class Refused(Exception):
    """The database cannot take the result; the message says why."""


@dataclass(frozen=True)
class Kind:
    """A type of a column, for cells that it keeps as they are."""

    type: Any
    read: Callable[[str], Any]
    fits: Callable[[str], bool]


def _is_integer(cell: str) -> bool:
    return bool(_INTEGER.fullmatch(cell)) and _LEAST <= int(cell) <= _GREATEST


def _is_number(cell: str) -> bool:
    if _INTEGER.fullmatch(cell):
        return abs(int(cell)) <= _EXACT
    digits = re.split("[eE]", cell)[0].lstrip("-").replace(".", "").strip("0")
    return bool(_NUMBER.fullmatch(cell)) and len(digits) <= _DIGITS


_KINDS = (
    Kind(BigInteger, int, _is_integer),
    Kind(Double, float, _is_number),
    Kind(Text, str, lambda _: True),
)


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
    """Write files into a table, in the transaction in which its former rows are deleted.

    A table that can hold the new rows stays, with its grants, views and indexes, and others read it
    meanwhile. Else a new one is filled first: others wait for the exchange alone.
    """
    former = _lock_table(connection, name, schema)
    if not files:
        if former is not None:
            connection.execute(former.delete())
        return
    kinds = _find_kinds(files)
    if former is not None and (fitting := _fit_kinds(connection, former, kinds)):
        connection.execute(former.delete())
        _fill(connection, former, fitting, files)
        return
    chosen = {column: fitting[0] for column, fitting in kinds.items()}
    columns = [Column(column, kind.type) for column, kind in chosen.items()]
    table = Table(
        f"{name}_new" if former is not None else name, MetaData(), *columns, schema=schema
    )
    table.create(connection)
    _fill(connection, table, chosen, files)
    if former is not None:
        former.drop(connection)
        names = connection.dialect.identifier_preparer
        renamed = f"ALTER TABLE {names.format_table(table)} RENAME TO {names.quote(name)}"
        connection.exec_driver_sql(renamed)


def _lock_table(connection: Connection, name: str, schema: str | None) -> Table | None:
    """Have other runs wait until this one has replaced a table; None if there is no such table."""
    if not inspect(connection).has_table(name, schema=schema):
        return None
    if connection.dialect.name == "postgresql":
        # Else, of two runs at once, the second one would not see the rows of the first one, whose
        # transaction ends while it deletes: the table would have those of both. Others may read.
        quoted = connection.dialect.identifier_preparer.format_table(
            Table(name, MetaData(), schema=schema)
        )
        connection.exec_driver_sql(f"LOCK TABLE {quoted} IN SHARE ROW EXCLUSIVE MODE")
    return Table(name, MetaData(), schema=schema, autoload_with=connection)


def _fit_kinds(
    connection: Connection, former: Table, kinds: Mapping[str, Sequence[Kind]]
) -> dict[str, Kind] | None:
    """Find the kinds of a table's columns; None if the new rows do not fit into it."""
    by_type = {kind.type().compile(connection.dialect): kind for kind in _KINDS}
    types = {column.name: column.type.compile(connection.dialect) for column in former.columns}
    fitting = {name: by_type[text] for name, text in types.items() if text in by_type}
    if fitting.keys() != kinds.keys():
        return None
    return fitting if all(fitting[name] in kinds[name] for name in kinds) else None


def _fill(
    connection: Connection, table: Table, kinds: Mapping[str, Kind], files: list[Path]
) -> None:
    for file in files:
        rows = _read(file)
        while batch := list(islice(rows, _TOGETHER)):
            values = [
                {key: kinds[key].read(cell) if cell else None for key, cell in row.items()}
                for row in batch
            ]
            connection.execute(table.insert(), values)


def _read(file: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)  # of a cell; the parts are of this program's own run
    with file.open(encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)


def _find_kinds(files: list[Path]) -> dict[str, Sequence[Kind]]:
    """Find the kinds that keep all cells of each column, the best one first."""
    fitting: dict[str, Sequence[Kind]] = {}
    filled: set[str] = set()
    for file in files:
        for row in _read(file):
            for name, cell in row.items():
                kinds = fitting.setdefault(name, _KINDS)
                if not cell:
                    continue
                filled.add(name)
                if len(cell) > _SHORT or not kinds[0].fits(cell):
                    fitting[name] = [kind for kind in kinds if kind.fits(cell)]
    # An empty column is of any kind, and a new one takes texts later.
    return {
        name: kinds if name in filled else tuple(reversed(kinds)) for name, kinds in fitting.items()
    }


def _fail(kind: str, problem: str) -> int:
    print(json.dumps({"kind": kind, "problem": problem}))
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
