"""The caches of a host, which grow with each version: what nothing uses or names goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.core.commands import run_logger
from tasks.core.settings import Settings

_DAY = 86_400.0
_MARKER = "pruned"  # its time is that of the last pruning: once a day is enough


def mark_used(path: Path) -> None:
    """Note that a cached file or folder, which is there, is in use, so that it stays."""
    os.utime(path)


def days_ago(days: float) -> float:
    """Return the time so many days ago; for no days, a time before all others."""
    return time.time() - days * _DAY if days else 0.0


def is_due(settings: Settings, name: str) -> bool:
    """Check that one kind of cache was not pruned for a day, and note that it is now."""
    marker = settings.home / f"{_MARKER}-{name}"
    if marker.exists() and marker.stat().st_mtime > days_ago(1):
        return False
    marker.touch()
    return True


def prune_caches(settings: Settings) -> list[str]:
    """Remove environments, layers of images and notes that nobody has used for long.

    A failure is logged only: it is not that of the run which has tidied up.

    Returns:
        Their names.
    """
    if not settings.cache_days:
        return []
    removed: list[str] = []
    try:
        if is_due(settings, "environments"):
            removed = _remove_unused(settings)
    except OSError as error:
        run_logger().warning("unused environments and layers were not removed: %s", error)
    if removed:
        run_logger().info("removed what nobody has used for long: %s", ", ".join(removed))
    return removed


def _remove_unused(settings: Settings) -> list[str]:
    # Programs of live models name the environment that they run in.
    programs = (settings.home / "supervisor" / "conf.d").glob("*")
    named = "\n".join(program.read_text() for program in programs if program.is_file())
    removed = []
    for folder in (settings.environments, settings.layers, settings.up_to_date):
        for name, paths in _entries(folder).items():
            used = max(path.stat().st_mtime for path in paths)
            if used < days_ago(settings.cache_days) and name not in named:
                removed += [name] if _remove(folder, name, paths) else []
    return removed


def _entries(folder: Path) -> dict[str, list[Path]]:
    """Group what is in a folder of a cache: of one name are an entry and descriptions beside it."""
    entries: dict[str, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix != ".lock":
            entries.setdefault(path.name.partition(".")[0], []).append(path)
    return entries


def _remove(folder: Path, name: str, paths: Sequence[Path]) -> bool:
    """Remove an entry, unless a run is making or using it at this moment."""
    with contextlib.ExitStack() as stack:
        try:
            for lock in (folder / f"{name}.lock", folder / f"{name}.tar.gz.lock"):
                if lock.exists():
                    stack.enter_context(FileLock(lock, blocking=False))
        except Timeout:
            return False
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True
