"""Spools of versions that are not released yet, which the shipper leaves alone.

A server writes its records into the folder of its version from its start, also while it is proven.
If it is refused, another commit gets the version's name: nothing that the first has written may
pass for records of the second. So the folder is held until the release, or removed. The mark lies
beside the folder, where no code of a model can write.
"""

from __future__ import annotations

import shutil
from pathlib import Path

_MARK = ".held"


def hold_new(spool: Path) -> None:
    """Hold the spool of a version, unless it exists: then the version has been released before."""
    if not spool.exists():
        spool.parents[2].mkdir(mode=0o700, parents=True, exist_ok=True)
        spool.parent.mkdir(parents=True, exist_ok=True)
        _mark_of(spool).touch()


def is_held(spool: Path) -> bool:
    """Return whether a spool waits for the release of its version."""
    return _mark_of(spool).exists()


def let_go(spool: Path) -> None:
    """Let the shipper have a spool: its version is released."""
    _mark_of(spool).unlink(missing_ok=True)


def remove_held(spools: Path, environment: str) -> None:
    """Remove the spools of an environment that are held; their servers must have ended.

    Args:
        spools: Folder of all spools of this host.
        environment: Name of the environment.
    """
    for mark in spools.glob(f"*/{environment}/*{_MARK}"):
        shutil.rmtree(mark.with_name(mark.name.removesuffix(_MARK)), ignore_errors=True)
        mark.unlink(missing_ok=True)


def _mark_of(spool: Path) -> Path:
    return spool.with_name(f"{spool.name}{_MARK}")
