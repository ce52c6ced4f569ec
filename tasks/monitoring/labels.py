"""Labels from a table: a file on the worker's host or in the bucket, CSV or Parquet, or a query."""

from __future__ import annotations

import asyncio
import csv
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.bucket.bucket import AbsentObject, load_bucket
from tasks.bucket.requests import download_content
from tasks.bucket.stores.catalogue import STORES
from tasks.core import commands
from tasks.core.errors import ConfigurationError, SlipwayError, TransientError
from tasks.core.programs import run_module
from tasks.core.settings import Settings
from tasks.monitoring.records import Value, normalize_value
from tasks.monitoring.settings import REQUEST, LabelTable
from tasks.monitoring.window import Answer
from tasks.runs.retrying import capability
from tasks.training.database import find_url, make_variables, name_block
from tasks.training.database_names import UNREACHABLE

_ROW = "row"  # optional column beside the request's id: which of its rows, from 0
_STATE = "no report was written"
_PARQUET = ".parquet"

_Lines = tuple[Collection[str], Iterable[Mapping[str, str]]]  # names of the columns, and lines


@dataclass
class Labels:
    """Labels of the rows of a window, from a table.

    Attributes:
        by_row: The label by request and number of the row; the last line of the table counts.
        unmatched: Lines of the table that are of no row of the window.
        replaced: Lines that a later one replaces.
    """

    by_row: dict[tuple[str, int], str] = field(default_factory=dict)
    unmatched: int = 0
    replaced: int = 0


async def read_labels(table: LabelTable | None, answers: Sequence[Answer]) -> Labels:
    """Read the labels of the rows of a window.

    Args:
        table: Where they are; None for none.
        answers: The rows.

    Raises:
        ConfigurationError: There is no such table, or it lacks a column.
        TransientError: The bucket or the database cannot be reached.
    """
    if table is None or not answers:
        return Labels()
    with tempfile.TemporaryDirectory(prefix="slipway-labels-") as folder:
        file = await fetch_labels(table, Path(folder))
        return await asyncio.to_thread(_read_file, file, table, answers)


@capability("fetch labels", timeout=3600)
async def fetch_labels(table: LabelTable, folder: Path) -> Path:
    """Bring the table as a file, CSV or Parquet.

    Args:
        table: Where it is.
        folder: Folder for it.

    Raises:
        ConfigurationError: There is no such file, or the query is wrong.
        TransientError: The bucket or the database cannot be reached.
    """
    target = folder / f"labels{_PARQUET if table.file.endswith(_PARQUET) else '.csv'}"
    if table.query:
        await _run_query(table, folder, target)
    elif table.file.startswith(tuple(f"{scheme}://" for scheme in STORES)):
        await _download(table, target)
    elif not (target := Path(table.file)).is_file():
        raise _refuse(table, "there is no such file on the worker's host")
    return target


async def _download(table: LabelTable, target: Path) -> None:
    bucket = await load_bucket("read")
    if not table.file.startswith(bucket.root):
        raise _refuse(table, f"it is not in the models' bucket, {bucket.root}…")
    key = table.file.removeprefix(bucket.root)
    try:
        await asyncio.to_thread(download_content, bucket, key, "", target)
    except AbsentObject:
        raise _refuse(table, "there is no such object") from None


async def _run_query(table: LabelTable, folder: Path, target: Path) -> None:
    seconds = Settings().refresh_seconds
    url = await find_url(table.database)
    if not url:
        block = name_block(table.database)
        raise _refuse(table, f"there is neither a Secret block {block} nor its variable")
    query = folder / "labels.sql"
    query.write_text(table.query)
    result = await commands.run(
        run_module("tasks.training.query", query, target, str(seconds)),
        timeout=seconds,
        cwd=folder,
        env=make_variables(url),
    )
    if result.code:
        raise _explain(table, result.last_object())


def _explain(table: LabelTable, reply: Mapping[str, Any]) -> SlipwayError:
    problem = reply.get("problem", "the query ended without a reason")
    if reply.get("kind") == UNREACHABLE:
        return TransientError(
            f"cannot reach database {table.database} for labels: {problem}",
            state=_STATE,
            next_step="check the database, and the URL in its Secret block or variable",
        )
    return _refuse(table, str(problem))


def _refuse(table: LabelTable, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot read labels from {table.file or table.database}: {problem}",
        state=_STATE,
        next_step="correct `monitor.labels` in the environment's file, then run `monitor` again",
    )


def _read_file(file: Path, table: LabelTable, answers: Sequence[Answer]) -> Labels:
    with _open_lines(file, table) as (names, lines):
        if missing := {table.label, *table.key}.difference(names):
            raise _refuse(table, f"it has no column {', '.join(sorted(missing))}")
        return match_labels(lines, table, answers)


def _open_lines(file: Path, table: LabelTable) -> AbstractContextManager[_Lines]:
    return (_open_parquet if file.suffix == _PARQUET else _open_csv)(file, table)


@contextmanager
def _open_csv(file: Path, table: LabelTable) -> Iterator[_Lines]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines = csv.DictReader(opened)
            yield lines.fieldnames or (), lines
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refuse(table, str(error)) from error


@contextmanager
def _open_parquet(file: Path, table: LabelTable) -> Iterator[_Lines]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ConfigurationError(
            f"cannot read labels from {table.file}: the worker has no package that reads Parquet",
            state=_STATE,
            next_step="run `uv sync --inexact --extra parquet` in the worker's checkout, then"
            " `monitor` again",
        ) from error
    from tasks.training.query import UnsupportedValue

    try:
        with ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            columns = [name for name in (table.label, *table.key, _ROW) if name in names]
            yield names, _read_batches(opened, columns)
    # Of a damaged page, pyarrow raises the OSError of a disk, too.
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, UnsupportedValue) as error:
        raise _refuse(table, str(error).splitlines()[0]) from error


def _read_batches(file: Any, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Yield lines as CSV would have them; some thousands are in memory at a time."""
    from tasks.training.query import to_cell

    for batch in file.iter_batches(columns=columns):
        for line in batch.to_pylist():
            yield {
                # What is no number is missing: pandas has no other missing number.
                name: "" if value != value else to_cell(value, name)  # noqa: PLR0124
                for name, value in line.items()
            }


def match_labels(
    lines: Iterable[Mapping[str, str]], table: LabelTable, answers: Sequence[Answer]
) -> Labels:
    """Match the lines of a table with the rows of a window. Pure.

    Args:
        lines: The lines.
        table: Their columns.
        answers: The rows.
    """
    rows: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for answer in answers:
        if key := _key_of(answer, table):
            rows.setdefault(key, []).append((answer.request, answer.number))
    labels = Labels()
    for line in lines:
        label = line[table.label]
        if not label:
            continue
        places = rows.get(_read_key(line, table) or ())
        if places is None:
            labels.unmatched += 1
            continue
        labels.replaced += places[0] in labels.by_row
        labels.by_row |= dict.fromkeys(places, label)
    return labels


def _key_of(answer: Answer, table: LabelTable) -> tuple[str, ...] | None:
    if table.key == (REQUEST,):
        return answer.request, str(answer.number)
    if not answer.inputs.keys() >= set(table.key):
        return None  # the log leaves a column out
    return _normalize_key([answer.inputs[name] for name in table.key])


def _read_key(line: Mapping[str, str], table: LabelTable) -> tuple[str, ...] | None:
    if table.key == (REQUEST,):
        return line[REQUEST], line.get(_ROW) or "0"
    return _normalize_key([line[name] or None for name in table.key])


def _normalize_key(values: Sequence[Value]) -> tuple[str, ...] | None:
    """Normalize a key; None if all of it is missing, since that names no row."""
    if all(value is None for value in values):
        return None
    return tuple(map(normalize_value, values))
