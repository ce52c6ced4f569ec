"""The DVC cache of a host: objects that no commit on origin names are removed."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.bucket.objects import StoredObject
from tasks.core.caches import days_ago, is_due
from tasks.core.commands import Argv
from tasks.core.settings import Settings
from tasks.core.threads import in_thread
from tasks.repository.workspace import Workspace

_NAMED = re.compile(r"^[+ -].*\bmd5: ([0-9a-f]{32}(?:\.dir)?)\s*$", re.MULTILINE)


def metadata_history() -> Argv:
    """Print every version of DVC's metadata in all commits, as patches."""
    return ["git", "log", "--all", "--format=", "--patch", "--unified=0", "--no-ext-diff",
            "--no-color", "--diff-merges=separate", "--", "dvc.lock", "*.dvc"]  # fmt: skip


async def prune_dvc_cache(workspace: Workspace) -> int:
    """Remove objects older than SLIPWAY_CACHE_DAYS that no commit names and no run uses.

    Those that a commit names stay: the bucket may lack them until they are pushed.

    Args:
        workspace: Any workspace: it has all refs of origin.

    Returns:
        How many were removed.
    """
    settings = Settings()
    if not settings.cache_days or not is_due(settings, "dvc-cache"):
        return 0
    history = (await workspace.git(metadata_history())).stdout
    named = set(_NAMED.findall(history))
    return await in_thread(_remove_unnamed, settings.dvc_cache, named, settings.cache_days)


def _remove_unnamed(cache: Path, named: set[str], days: float) -> int:
    for listing in [md5 for md5 in named if md5.endswith(".dir")]:
        folder = StoredObject(listing, None, "", "")
        if (file := cache / folder.key).is_file():
            named.update(member.md5 for member in folder.members(file.read_bytes()))
    removed = 0
    for file in (cache / "files" / "md5").glob("??/*"):
        is_old = file.stat().st_mtime < days_ago(days)
        if is_old and file.parent.name + file.name not in named:
            file.unlink()
            removed += 1
    return removed
