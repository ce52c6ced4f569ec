"""DVC in the sandbox: stages are code of a ref, and so is what its metadata has DVC do.

`dvc.yaml` and `.dvc` files say what DVC reads and where it writes, its configuration which programs
ask for credentials. So whatever follows them runs here; outside of the sandbox DVC only sends
objects, without the configuration of the commit.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tasks.bucket import private_cache
from tasks.bucket.objects import outputs_of
from tasks.core import commands
from tasks.core.commands import Argv
from tasks.core.settings import Settings
from tasks.repository.escapes import refuse_escapes
from tasks.repository.workspace import Workspace
from tasks.sandbox.box import Box, start_in


async def run_dvc(
    workspace: Workspace,
    argv: Argv,
    *,
    timeout: float,
    environment: Path | None = None,
    log: bool = True,
    watch: Callable[[str], Awaitable[None]] | None = None,
) -> commands.CommandResult:
    """Run a DVC command that follows the commit's metadata, in the sandbox.

    Args:
        workspace: The workspace, the only thing that it can change.
        argv: The command.
        timeout: Seconds.
        environment: The model environment, if stages are to run.
        log: Whether to log the output.
        watch: Called with every line.

    Raises:
        CommandTimeout: The time was up.
        TerminalError: The stages left links that lead outside the workspace.
    """
    cache = Settings().dvc_cache
    cache.mkdir(parents=True, exist_ok=True)
    objects = await outputs_of(workspace)
    await asyncio.to_thread(private_cache.prepare, workspace, objects)
    temporary = workspace.path / ".dvc" / "tmp" / "box"
    temporary.mkdir(parents=True, exist_ok=True)
    box = _box_of_stages(workspace, environment, temporary)
    try:
        return await commands.run(
            start_in(box, argv), timeout=timeout, cwd=workspace.path, log=log, watch=watch
        )
    finally:
        await asyncio.shield(asyncio.to_thread(_close, workspace, temporary))


def _box_of_stages(workspace: Workspace, environment: Path | None, temporary: Path) -> Box:
    settings = Settings()
    python = [environment / "bin" / "python"] if environment else []
    return Box(
        folder=workspace.path,
        writable=(workspace.path,),
        # Hooks and settings of the repository would be followed by Git outside of the box.
        readable=(workspace.path / ".git", settings.dvc_cache),
        pythons=(Path(sys.executable), *python),
        temporary=temporary,
        network=settings.stage_network,
        variables=frozenset(filter(None, settings.stage_variables.replace(" ", "").split(","))),
        settings={
            "DVC_GLOBAL_CONFIG_DIR": f"{temporary}/dvc/global",
            "DVC_NO_ANALYTICS": "1",
            # Its own: DVC unpickles what it finds there.
            "DVC_SITE_CACHE_DIR": f"{temporary}/dvc/site",
            "DVC_SYSTEM_CONFIG_DIR": f"{temporary}/dvc/system",
            "UV_CACHE_DIR": f"{temporary}/uv",
            "UV_NO_SYNC": "1",
            "UV_OFFLINE": "0" if settings.stage_network else "1",
            **({"UV_PROJECT_ENVIRONMENT": str(environment)} if environment else {}),
        },
    )


def _close(workspace: Workspace, temporary: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    refuse_escapes(workspace.path, "the pipeline's output", also=Settings().dvc_cache)
    private_cache.take_over(workspace)
