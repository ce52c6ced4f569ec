"""The source of the data: an address that DVC imports from, or the query of a database."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tasks.bucket import dvc
from tasks.core import commands
from tasks.core.commands import Argv, CommandResult, CommandTimeout
from tasks.core.errors import ConfigurationError, DataRejected, TerminalError, TransientError
from tasks.core.fingerprint import file_digest
from tasks.core.settings import CHECKOUT, Settings

FOLDER = Path("data/source")
_UNCHANGED = "nothing was trained; origin is unchanged"
# All that DVC writes into the record of an import. Others, such as `cmd`, `wdir` and `fs_config`,
# would have DVC run a program, write elsewhere, or send credentials to another server.
_RECORD = {"md5", "frozen", "deps", "outs", "desc", "meta"}
_DEPENDENCY = {"md5", "size", "nfiles", "hash", "path", "etag", "checksum", "mtime", "files"}
_TRANSIENT = "connection"  # kind of an error of tasks/training/query.py


@dataclass(frozen=True)
class Source:
    """The file or folder of `data.source`, and where its content comes from.

    Attributes:
        folder: The repository's folder.
        path: The file or folder with the data, relative to it.
        record: The `.dvc` file that covers it, which may not be there yet.
        address: The address that DVC has imported it from; empty for none.
        database: Name of the database whose query it is the result of; empty for none.
    """

    folder: Path
    path: Path
    record: Path
    address: str
    database: str

    @property
    def has_origin(self) -> bool:
        """True if the data come from somewhere else, so that they can be refreshed."""
        return bool(self.address or self.database)

    @property
    def query(self) -> Path:
        """The file with the SQL query, beside the result."""
        return self.path.with_suffix(".sql")

    @property
    def output(self) -> Path:
        """The file or folder of the record: the data, or a folder above them."""
        return self.record.with_suffix("")

    @property
    def digest(self) -> str:
        """The hash of the data that is recorded; empty if there is no record."""
        content = _read_record(self.folder / self.record)
        return str(content["outs"][0].get("md5", "")) if content.get("outs") else ""


def find_source(folder: Path, parameters: Mapping[str, Any]) -> Source | None:
    """Find the source of the data; None if `data.source` is not a file or folder of `data/source/`.

    Args:
        folder: The repository's folder.
        parameters: Content of its `params.yaml`.

    Raises:
        ConfigurationError: The record of an import has what DVC does not write there.
    """
    data = parameters.get("data")
    data = data if isinstance(data, Mapping) else {}
    path = Path(os.path.normpath(str(data.get("source"))))
    if not path.is_relative_to(FOLDER) or path == FOLDER:
        return None
    places = [place for place in (path, *path.parents) if place.is_relative_to(FOLDER)]
    records = [place.with_name(f"{place.name}.dvc") for place in places]
    record = next((one for one in records if (folder / one).is_file()), records[0])
    address = _read_address(record, _read_record(folder / record))
    return Source(folder, path, record, address, str(data.get("database") or ""))


def _read_record(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise _refuse_record(path.name, str(error)) from error
    return content if isinstance(content, dict) else {}


def _read_address(record: Path, content: Mapping[str, Any]) -> str:
    dependencies = content.get("deps", [])
    if not dependencies or "repo" in dependencies[0]:  # the other repository says what is newest
        return ""
    (dependency, *others), outputs = dependencies, content.get("outs", [])
    unknown = {*content} - _RECORD or {*dependency} - _DEPENDENCY
    if others or unknown or [out["path"] for out in outputs] != [record.stem]:
        keys = f"it has the keys {', '.join(sorted(unknown))}" if unknown else ""
        problem = keys or "it names more than one file"
        raise _refuse_record(record.as_posix(), problem)
    return str(dependency["path"])


def _refuse_record(record: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{record} is not the record of one import by DVC: {problem}",
        state=_UNCHANGED,
        next_step="import the data again with `dvc import-url`, and commit",
    )


@contextmanager
def separate_repository(source: Source, folder: Path, cache: Path) -> Iterator[Source]:
    """Move a source, with data, record and query, to a repository of its own, and back at the end.

    DVC runs outside of the sandbox there, and the commit's own configuration of DVC may name
    programs to run, and folders with pickles to load.

    Args:
        source: The source in the workspace.
        folder: The repository's folder, which is made.
        cache: The cache in which DVC keeps data.
    """
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n"
        f'[cache]\n    dir = {cache}\n    type = "reflink,copy"\n'
    )
    names = (source.output, source.record, source.query)

    def move(start: Path, end: Path) -> None:
        for name in names:
            if (start / name).exists():
                (end / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(start / name, end / name)

    move(source.folder, folder)
    try:
        yield replace(source, folder=folder)
    finally:
        move(folder, source.folder)
        shutil.rmtree(folder, ignore_errors=True)


def is_allowed(address: str, allowed: str) -> bool:
    """Check that a worker may refresh data from an address: it is listed, or below one that is.

    Args:
        address: URL, or absolute path.
        allowed: Addresses, separated by commas.
    """
    parts = unquote(urlsplit(address).path).split("/")
    if ".." in parts or "\\" in address:
        return False
    places = [place.strip().rstrip("/") for place in allowed.split(",")]
    return any(place and f"{address}/".startswith(f"{place}/") for place in places)


async def refresh_import(source: Source, variables: Mapping[str, str]) -> None:
    """Bring imported data up to date; its record changes if they have changed.

    Args:
        source: The source, which has an address.
        variables: Variables for DVC; the place for credentials.

    Raises:
        TransientError: The address cannot be read.
        TerminalError: It took too long.
    """
    result = await _run(dvc.update(source.record.as_posix()), source, variables)
    if result.code:
        raise TransientError(
            f"data cannot be refreshed from {source.address}: {result.tail(3)}",
            state=_UNCHANGED,
            next_step="check that the worker reaches the address, and its credentials for it",
        )


async def refresh_query(source: Source, url: str, variables: Mapping[str, str]) -> None:
    """Run the query of a source; its result and record change if the rows have changed.

    Args:
        source: The source, which has a database.
        url: SQLAlchemy URL of the database, with credentials.
        variables: Variables for DVC.

    Raises:
        TransientError: The database cannot be reached.
        ConfigurationError: It refuses the query, or a value cannot be written as CSV.
        DataRejected: The query returns no rows.
        TerminalError: It took too long.
    """
    from tasks.training.query import URL_VARIABLE

    query, part = source.folder / source.query, source.folder / f"{source.path}.part"
    if not query.is_file():
        raise ConfigurationError(
            f"params.yaml: data.database: there is no query {source.query}",
            state=_UNCHANGED,
            next_step="write the query into that file, or remove data.database, and commit",
        )
    part.parent.mkdir(parents=True, exist_ok=True)
    # A process: only its end ends a query on every database. With -P it imports nothing from where
    # it runs, which is the workspace: that has modules of these names, too, of the commit.
    argv = [sys.executable, "-P", "-m", "tasks.training.query", str(query), str(part)]
    path = {"PYTHONPATH": str(CHECKOUT)}
    try:
        result = await _run(argv, source, {**path, URL_VARIABLE: url})
        if result.code:
            raise _explain_query(source, result)
        await asyncio.to_thread(_require_rows, source, part)
        target = source.folder / source.path
        if file_digest(part, "md5") == source.digest and target.is_file():
            return
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    added = await _run(dvc.add(source.path.as_posix()), source, variables)
    if added.code:
        raise TerminalError(
            f"DVC cannot keep {source.path}: {added.tail(3)}",
            state=_UNCHANGED,
            next_step="remove the file from Git if it is there: `git rm --cached`, and commit",
        )


async def _run(argv: Argv, source: Source, variables: Mapping[str, str]) -> CommandResult:
    limit = Settings().refresh_seconds
    try:
        return await commands.run(argv, timeout=limit, cwd=source.folder, env=variables)
    except CommandTimeout as error:  # another try would take as long
        raise TerminalError(
            f"the refresh of {source.path} took longer than {limit:.0f} s",
            state="it was stopped; nothing was trained; origin is unchanged",
            next_step="make the query faster or the file smaller, or raise SLIPWAY_REFRESH_SECONDS"
            " for the worker",
        ) from error


def _explain_query(source: Source, result: CommandResult) -> TerminalError | TransientError:
    try:
        error = yaml.safe_load(result.stdout.splitlines()[-1])
        kind, problem = str(error["kind"]), str(error["problem"])
    except (IndexError, KeyError, TypeError, yaml.YAMLError):
        kind, problem = "", result.tail(3)
    if kind == _TRANSIENT:
        return TransientError(
            f"database {source.database} cannot be reached for {source.query}: {problem}",
            state=_UNCHANGED,
            next_step="check the database, and the URL in its Secret block or variable",
        )
    return ConfigurationError(
        f"the query {source.query} failed: {problem}",
        state=_UNCHANGED,
        next_step="correct the query or the database's URL, and run again",
    )


def _require_rows(source: Source, part: Path) -> None:
    with part.open("rb") as file:
        file.readline()
        if file.readline():
            return
    raise DataRejected(
        f"the query {source.query} returned no rows",
        state=f"{_UNCHANGED}; the live model stays",
        next_step="find out why the database returns none, then run again",
    )
