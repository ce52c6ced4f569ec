"""Bring data up to date: DVC imports them again, or their query runs again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tasks.bucket import dvc
from tasks.core import commands
from tasks.core.commands import Argv, CommandResult, CommandTimeout
from tasks.core.errors import ConfigurationError, DataRejected, TerminalError, TransientError
from tasks.core.fingerprint import file_digest
from tasks.core.programs import run_module
from tasks.core.settings import Settings
from tasks.training.database import make_variables
from tasks.training.database_names import UNREACHABLE
from tasks.training.sources import UNCHANGED, Source


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
            state=UNCHANGED,
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
    query, part = source.folder / source.query, source.folder / f"{source.path}.part"
    if not query.is_file():
        raise ConfigurationError(
            f"params.yaml: data.database: there is no query {source.query}",
            state=UNCHANGED,
            next_step="write the query into that file, or remove data.database, and commit",
        )
    part.parent.mkdir(parents=True, exist_ok=True)
    argv = run_module("tasks.training.query", query, part, str(Settings().refresh_seconds))
    try:
        result = await _run(argv, source, make_variables(url))
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
            state=UNCHANGED,
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
    reply = result.last_object()
    problem = reply.get("problem", result.tail(3))
    if reply.get("kind") == UNREACHABLE:
        return TransientError(
            f"database {source.database} cannot be reached for {source.query}: {problem}",
            state=UNCHANGED,
            next_step="check the database, and the URL in its Secret block or variable",
        )
    return ConfigurationError(
        f"the query {source.query} failed: {problem}",
        state=UNCHANGED,
        next_step="correct the query or the database's URL, and run again",
    )


def _require_rows(source: Source, part: Path) -> None:
    with part.open("rb") as file:
        file.readline()
        if file.readline():
            return
    raise DataRejected(
        f"the query {source.query} returned no rows",
        state=f"{UNCHANGED}; the live model stays",
        next_step="find out why the database returns none, then run again",
    )
