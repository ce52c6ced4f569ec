"""Folders of workspaces: each belongs to one run, which holds a lock for as long as it lives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout
from prefect.runtime import flow_run

from tasks.core import commands
from tasks.core.disk import explaining_disk_errors
from tasks.core.settings import Settings


def tool_folder(path: Path) -> Path:
    """Return the folder beside a workspace for what tools remember of it."""
    return path.with_name(f"{path.name}.tools")


@dataclass
class _SharedFolder:
    """A folder for the workspaces of a run, one after the other."""

    path: Path
    free: bool = True


_shared: ContextVar[_SharedFolder | None] = ContextVar("shared folder", default=None)


@asynccontextmanager
async def share_workspaces() -> AsyncIterator[None]:
    """Have workspaces that are opened one after the other use one clone while nobody changes it."""
    async with _make_folder() as path:
        token = _shared.set(_SharedFolder(path))
        try:
            yield
        finally:
            _shared.reset(token)


@asynccontextmanager
async def take_folder() -> AsyncIterator[Path]:
    """Provide the folder that workspaces share, if there is one and it is free, else a new one."""
    shared = _shared.get()
    if shared is None or not shared.free:
        async with _make_folder() as path:
            yield path
        return
    shared.free = False
    try:
        yield shared.path
    finally:
        shared.free = True


@asynccontextmanager
async def _make_folder() -> AsyncIterator[Path]:
    """Provide the path of a new folder, and remove it at the end."""
    folder = Settings().workspaces
    path = folder / f"{flow_run.get_id() or 'by-hand'}-{uuid4().hex[:4]}"
    with explaining_disk_errors():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(f"{path}.lock"):
            await asyncio.to_thread(_remove_abandoned, folder)
            try:
                yield path
            finally:
                await asyncio.to_thread(remove, path)
                Path(f"{path}.lock").unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a workspace, with what tools remember of it."""
    for folder in (path, tool_folder(path)):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.is_dir():  # stages have left folders that they may not write to
            _allow_all(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _allow_all(folder: Path) -> None:
    with contextlib.suppress(OSError):  # what cannot be removed stays
        folder.chmod(0o700)
        for parent, names, _ in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                if not path.is_symlink():
                    path.chmod(0o700)


def _remove_abandoned(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        try:
            # The kernel releases the lock of a process that dies.
            with FileLock(lock, blocking=False):
                abandoned = lock.with_suffix("")
                commands.end_processes_in(abandoned)
                remove(abandoned)
                lock.unlink(missing_ok=True)
        except Timeout:
            continue
