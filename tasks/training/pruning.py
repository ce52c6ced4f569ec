"""The end of a push: what has become useless, here and on origin, is removed."""

from __future__ import annotations

from tasks.bucket.cache import prune_dvc_cache
from tasks.core import commands
from tasks.core.caches import prune_caches
from tasks.core.errors import SlipwayError
from tasks.core.settings import Settings
from tasks.core.threads import in_thread
from tasks.repository.candidate_refs import prune_candidates
from tasks.repository.workspace import Workspace


async def prune(workspace: Workspace) -> None:
    """Remove old candidates, environments, layers and objects; a failure is logged only."""
    try:
        await prune_candidates(workspace)
        await prune_dvc_cache(workspace)
    except (SlipwayError, OSError, ValueError) as error:  # a listing may be corrupt
        commands.run_logger().warning("old candidates and objects were not removed: %s", error)
    await in_thread(prune_caches, Settings())
