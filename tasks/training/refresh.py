"""Refresh the data before a retraining, and refuse changes of their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.bucket import dvc
from tasks.bucket.bucket import load_bucket
from tasks.bucket.transfer import restore
from tasks.core import commands
from tasks.core.errors import ConfigurationError, DataRejected
from tasks.core.secret_blocks import variable
from tasks.core.settings import Settings
from tasks.core.yaml12 import load_yaml
from tasks.package.card import name_type
from tasks.package.package import read_at
from tasks.repository import git
from tasks.repository.workspace import Workspace
from tasks.runs import artifacts
from tasks.runs.retrying import capability
from tasks.training.data_selection import select_data
from tasks.training.database import find_url, name_block
from tasks.training.sources import FOLDER, Source, find_source, is_allowed
from tasks.training.updates import refresh_import, refresh_query, separate_repository

_NAMED = 5  # columns in a message
_NO_SOURCE = (
    "the data are not refreshed: they are neither imported by `dvc import-url` nor the result of a"
    " query"
)
_DESCRIPTION = "reports/data.json"


async def refresh_data(workspace: Workspace) -> bool:
    """Refresh the data: import them, or run their query, again.

    Returns:
        True if the data have changed; their record in the workspace has, too.
    """
    source = _find_source(workspace.path)
    if source is None or not source.has_origin:
        commands.run_logger().info(_NO_SOURCE)
        return False
    async with select_data(workspace):
        await restore(workspace, sources=True)  # an import that is not there would look changed
    record = workspace.path / source.record
    return await refresh_source(workspace, source, record.read_bytes() if record.is_file() else b"")


async def refresh_checkout(folder: Path) -> str:
    """Refresh the data of a person's checkout; return a sentence on the result.

    Args:
        folder: The checkout, whose owner decides which addresses data come from.
    """
    source = _find_source(folder)
    if source is None or not source.has_origin:
        return _NO_SOURCE
    before = source.digest
    if source.database:
        await refresh_query(source, await _read_url(source), {})
    else:
        await refresh_import(source, {})
    if source.digest == before:
        return f"{source.path} is up to date"
    return f"{source.path} was refreshed; next: commit {source.record}, and `dvc push`"


def _find_source(folder: Path) -> Source | None:
    # Not the workspace's parameters, which are those before overrides.
    return find_source(folder, load_yaml((folder / "params.yaml").read_text()) or {})


@capability(
    "refresh data",
    run_name="refresh {source.path}",
    timeout=2 * Settings().refresh_seconds + 60,  # the query, and DVC that keeps its result
)
async def refresh_source(workspace: Workspace, source: Source, former: bytes) -> bool:
    """Refresh the data from their source, and publish a report on it.

    Args:
        workspace: The workspace, with the data as they are.
        source: Their source.
        former: Content of their record in the commit; empty if there is none.

    Raises:
        TransientError: The source cannot be reached.
        ConfigurationError: The source, or the query, is wrong.
        DataRejected: The query returns no rows.
    """
    record = workspace.path / source.record
    if former:
        record.write_bytes(former)  # an earlier try may have brought the data, and failed later
    before = source.digest
    if not before:
        raise ConfigurationError(
            f"{source.record} is not in the commit, so DVC does not keep the result of the query",
            state="nothing was trained; origin is unchanged",
            next_step="run `slipway data --refresh` once, commit the record, and `dvc push`",
        )
    separate = workspace.tool_cache / "refresh"
    if source.database:
        place = f"query {source.query} of database {source.database}"
        url = await _read_url(source)
        with separate_repository(source, separate, Settings().dvc_cache) as alone:
            await refresh_query(alone, url, dvc.variables(workspace))
    elif is_allowed(source.address, Settings().sources):
        place = source.address
        variables = await _variables(workspace, source)
        with separate_repository(source, separate, Settings().dvc_cache) as alone:
            await refresh_import(alone, variables)
    else:
        text = f"not refreshed: SLIPWAY_SOURCES of the worker does not list {source.address}"
        commands.run_logger().warning("%s was %s", source.path, text)
        await _report(workspace, f"{source.path} was {text}.")
        return False
    if (after := source.digest) == before:
        record.write_bytes(former)  # of the same data at another time or with another ETag
        text = f"{source.path} is up to date with {place}"
    else:
        text = f"{source.path} was refreshed from {place}: {before} became {after}"
    commands.run_logger().info(text)
    await _report(workspace, f"{text}.")
    return after != before


async def _report(workspace: Workspace, text: str) -> None:
    key = artifacts.artifact_key(workspace.model, "data")
    title = f"Data of {workspace.model}"
    await artifacts.publish_markdown(key, f"# {title}\n\n{text}", title)


async def _read_url(source: Source) -> str:
    if url := await find_url(source.database):
        return url
    block = name_block(source.database)
    raise ConfigurationError(
        f"params.yaml: data.database: there is neither a Secret block {block} nor a variable"
        f" {variable(block)}",
        state="nothing was trained; origin is unchanged",
        next_step="make the block, with the SQLAlchemy URL of a user that may only read",
    )


async def _variables(workspace: Workspace, source: Source) -> dict[str, str]:
    """Return the variables for DVC, with the bucket's credentials for what lies there."""
    variables = dvc.variables(workspace)
    if source.address.startswith(f"{Settings().store}://"):
        bucket = await load_bucket("read")
        if source.address.startswith(bucket.root):
            return {**variables, **bucket.environment}
    return variables


async def require_same_columns(workspace: Workspace) -> None:
    """Refuse refreshed data with other columns than before; their order may change.

    Clients send these columns, so that other ones are a person's decision.

    Raises:
        DataRejected: A column is new, has gone, or is of another type.
    """
    former = await read_at(workspace, workspace.commit, _DESCRIPTION)
    if not former or await _has_changed_section(workspace):
        return
    path = workspace.path / _DESCRIPTION
    changes = list_changes(json.loads(former), json.loads(path.read_text()))
    if changes:
        more = f"; and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
        raise DataRejected(
            f"the refreshed data of {workspace.model} have other columns:"
            f" {'; '.join(changes[:_NAMED])}{more}",
            state="nothing was trained; origin is unchanged; the live model stays",
            next_step="correct the source; or run `slipway data --refresh`, edit `data` in"
            " params.yaml where needed, and commit both",
        )


async def _has_changed_section(workspace: Workspace) -> bool:
    """Check that section `data` has changed since the stages of the commit ran."""
    lock = load_yaml(await read_at(workspace, workspace.commit, "dvc.lock")) or {}
    stage = lock.get("stages", {}).get("process", {})
    before = stage.get("params", {}).get("params.yaml", {}).get("data")
    parameters = load_yaml((workspace.path / "params.yaml").read_text())
    return bool(before != parameters["data"])


def list_changes(former: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the columns whose kind differs between two `reports/data.json`."""
    before, after = (
        {name: _find_kind(dtype) for name, dtype in _list_types(description)}
        for description in (former, new)
    )
    return [
        f"column '{name}' {_describe_change(before.get(name), after.get(name))}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _find_kind(dtype: str) -> str:
    """Return the kind of a column: a whole number may become a fraction, or missing."""
    kind = name_type(dtype)
    return "number" if kind == "integer" else kind


def _describe_change(before: str | None, after: str | None) -> str:
    if before is None:
        return "is new"
    return "is missing" if after is None else f"was {before}, and is {after} now"


def _list_types(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    target = description["target"]
    columns = description["columns"].items()
    return [*((name, column["dtype"]) for name, column in columns),
            (target["name"], target["dtype"])]  # fmt: skip


async def report_rejection(workspace: Workspace, error: DataRejected) -> None:
    """Publish a report on data that were rejected, with rows and columns."""
    # Indented, so that nothing in a cell is markdown.
    problem = "\n".join(f"    {line}" for line in str(error).splitlines())
    await _report(
        workspace, f"The data are **rejected**; the model that is live stays.\n\n{problem}"
    )


async def describe_newest_data(workspace: Workspace) -> str:
    """Return a clause with the day of the newest data; empty if it is unknown."""
    source = _find_source(workspace.path)
    if source is None:
        return ""
    paths = [source.path.as_posix(), source.record.as_posix()]
    day = (await workspace.git(git.last_change(paths))).stdout.strip()
    return f"its newest data, {source.path.relative_to(FOLDER)}, are of {day}" if day else ""
