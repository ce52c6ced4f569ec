"""One output of a commit as a file, wherever it is stored: Git, this host's cache, the bucket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tasks.bucket.objects import StoredObject, outputs_of
from tasks.bucket.transfer import pull
from tasks.core.errors import TerminalError
from tasks.core.fingerprint import file_digest
from tasks.core.settings import Settings
from tasks.repository.workspace import Workspace


async def fetch_output(workspace: Workspace, path: str) -> Path:
    """Return the file of an output of the commit, with the content that the commit names.

    Args:
        workspace: The workspace at the commit.
        path: Path of the output, a file.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
        TerminalError: The commit has no such output, or neither this host nor the bucket has it.
    """
    outputs = await outputs_of(workspace)
    stored = next((stored for stored in outputs if stored.path == path), None)
    if stored is None:
        file = workspace.path / path  # what Git has
        if file.is_file():
            return file
        raise TerminalError(
            f"{path} is no output of {workspace.label}",
            state="nothing was changed",
            next_step=f"run the train and save flows at {workspace.ref}",
        )
    cached = Settings().dvc_cache / stored.key
    if cached.is_file() and await _is_right(cached, stored):
        return cached
    (workspace.path / path).parent.mkdir(parents=True, exist_ok=True)
    file = await pull(workspace, path, stored.md5)
    if await _is_right(file, stored):
        return file
    raise TerminalError(
        f"{path} of {workspace.label} is corrupt in the bucket",
        state="it was not used",
        next_step=f"run the push flow at {workspace.commit[:7]}, which replaces wrong objects",
    )


async def _is_right(file: Path, stored: StoredObject) -> bool:
    return await asyncio.to_thread(file_digest, file, "md5") == stored.md5
