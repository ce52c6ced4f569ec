"""The key with which a worker signs commits, tags and models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.core.secret_blocks import SIGNING_KEY
from tasks.core.settings import Settings
from tasks.runs.secrets import read_secret


@asynccontextmanager
async def signing_key() -> AsyncIterator[Path | None]:
    """Provide the file of the worker's key, None if it has none.

    Raises:
        TransientError: The Prefect server, which may have the key, does not answer.
    """
    if file := Settings().signing_key_file:
        yield file
        return
    if not (text := await read_secret(SIGNING_KEY)):
        yield None
        return
    # OpenSSH signs with files only. This one exists for as long as it takes to sign.
    with TemporaryDirectory() as folder:
        file = Path(folder) / "key"
        file.touch(mode=0o600)
        file.write_text(f"{str(text).strip()}\n")
        yield file
