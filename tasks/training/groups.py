"""Groups of test rows, such as those of one customer, which are not independent of each other."""

from __future__ import annotations

import asyncio
import json

from tasks.bucket.outputs import fetch_output
from tasks.core import commands
from tasks.core.errors import TerminalError
from tasks.repository.workspace import Workspace
from tasks.training.evidence import TEST
from tasks.training.rows import find_groups, read_rows


def read_keys(workspace: Workspace) -> tuple[str, ...]:
    """Return the columns that tell which rows belong together; none where each is on its own."""
    try:
        rule = json.loads((workspace.path / "reports" / "data.json").read_text())["split"]
        return tuple(rule["columns"]) if rule["kind"] in ("group", "stable") else ()
    except (OSError, ValueError, KeyError, TypeError):  # of a model of an earlier version
        return ()


async def read_groups(workspace: Workspace, *, is_offline: bool) -> list[str] | None:
    """Return the group of each test row of the workspace's model, None if each is on its own.

    Args:
        workspace: The workspace.
        is_offline: Look in the workspace alone.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
    """
    keys = read_keys(workspace)
    if not keys:
        return None
    file = workspace.path / TEST
    if not is_offline:
        try:
            file = await fetch_output(workspace, TEST)
        except TerminalError as error:
            commands.run_logger().warning("the groups of the test rows are unknown: %s", error.what)
    if not file.is_file():
        return None
    return await asyncio.to_thread(lambda: find_groups(read_rows(file), keys))
