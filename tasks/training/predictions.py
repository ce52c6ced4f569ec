"""The answers of a model to each row of its test split: DVC stores them, and Git has no row."""

from __future__ import annotations

import asyncio
from hashlib import md5
from pathlib import Path
from typing import Any

import yaml

from tasks.bucket.bucket import load_bucket
from tasks.bucket.objects import OBJECT_NAME, StoredObject
from tasks.bucket.requests import read_object
from tasks.core.commands import run_logger
from tasks.core.fast_yaml import read_yaml
from tasks.core.settings import Settings
from tasks.package.package import read_at
from tasks.repository.workspace import Workspace
from tasks.training.evidence import LOCK

PREDICTIONS = Path("data/predictions.csv")
_FORMER = "reports/predictions.csv"  # in the Git of models that an earlier version saved


async def read_predictions(
    workspace: Workspace, commit: str = "", *, is_offline: bool = False
) -> str:
    """Return the text of a model's predictions; empty if they are not stored anywhere.

    Args:
        workspace: Any workspace of the model.
        commit: The commit of the model; by default the model is the workspace's own.
        is_offline: Look in the caches of workspace and host alone, not in the bucket.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
        TerminalError: The bucket is needed and denies access.
    """
    file = workspace.path / PREDICTIONS
    if not commit and file.is_file():
        return file.read_text()
    stored = _find_object(await read_at(workspace, commit, LOCK))
    if stored is None:
        return await read_at(workspace, commit, _FORMER)
    content = await asyncio.to_thread(_read_cached, workspace, stored)
    if content is None and not is_offline:
        content = await read_object(await load_bucket("read"), stored)
    if content is None:
        place = commit[:7] or workspace.label
        run_logger().warning("%s of %s is neither here nor in the bucket", PREDICTIONS, place)
        return ""
    return content.decode()


def _find_object(lock: str) -> StoredObject | None:
    try:
        outputs: list[dict[str, Any]] = [
            out
            for stage in (read_yaml(lock) or {})["stages"].values()
            for out in stage.get("outs", [])
        ]
        name = next(str(out["md5"]) for out in outputs if out["path"] == str(PREDICTIONS))
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, StopIteration):
        return None
    return StoredObject(name, None, str(PREDICTIONS), "") if OBJECT_NAME.fullmatch(name) else None


def _read_cached(workspace: Workspace, stored: StoredObject) -> bytes | None:
    """Read an object from the cache of the checkout or the host; None if none has it whole."""
    for cache in (workspace.path / ".dvc" / "cache", Settings().dvc_cache):
        file = cache / stored.key
        if file.is_file():
            content = file.read_bytes()
            if md5(content, usedforsecurity=False).hexdigest() == stored.md5:
                return content
    return None
