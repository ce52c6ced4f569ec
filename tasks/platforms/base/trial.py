"""The trial on the worker: boot a package as a process with the model's own packages, and prove it.

It needs no container engine, and shows what a release would be before anything leaves the worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from tasks.core import commands
from tasks.core.commands import Argv
from tasks.core.free_port import find_free_port
from tasks.package.bundle import Bundle, make_bundle
from tasks.package.package import Package
from tasks.package.runtime import make_runtime
from tasks.platforms.base.proof import Candidate, prove
from tasks.sandbox.box import Box, start_in


def serve(python: Path, bundle: Path, port: int) -> Argv:
    """Make the command that serves a bundle on loopback."""
    return [str(python), "-m", "serving", "--bundle", str(bundle), "--host", "127.0.0.1",
            "--port", str(port)]  # fmt: skip


def serve_in_box(
    bundle: Bundle, port: int, variables: Mapping[str, str], *, trial: Path | None = None
) -> Argv:
    """Make the command that serves a bundle in the sandbox.

    The server sees its bundle and its packages, and can change neither. Requests come through a
    socket that it inherits; it reaches no network.

    Args:
        bundle: The bundle.
        port: Port of loopback.
        variables: Variables of the server; who runs the command has to set them.
        trial: Folder for the temporary files of a trial; a live server has them in memory.
    """
    box = Box(
        folder=bundle.path,
        readable=(bundle.path,),
        pythons=(bundle.python,),
        temporary=trial,
        variables=frozenset(variables),
        settings={"PYTHONPATH": str(bundle.path)},
        port=port,
        yields=trial is not None,
    )
    return start_in(box, serve(bundle.python, bundle.path, port))


async def stage(
    package: Package, file: Path, folder: Path, *, environment: str, identifier: str
) -> Bundle:
    """Make what can be served: an environment of the model's packages, and a bundle.

    Args:
        file: Its verified model file.
        folder: Folder of the bundle.
        environment: Name of the environment.
        identifier: Name of the release.

    Raises:
        TerminalError: The packages cannot be installed.
    """
    python = await make_runtime(package)
    return await asyncio.to_thread(
        make_bundle, package, file, python, folder, environment=environment, identifier=identifier
    )


async def boot(bundle: Bundle, within: float, variables: Mapping[str, str]) -> None:
    """Serve a bundle in an environment of its own, prove it, and stop it.

    Args:
        within: Seconds in which it has to get ready.
        variables: Variables of the server, as it will have them where it is released.

    Raises:
        TerminalError: It crashes, does not get ready, or predicts something else.
    """
    # In the workspace: its clean-up also ends processes that a killed run has left there.
    folder = bundle.package.workspace.path / "preflight"
    temporary = folder / "tmp"  # without the log, which is read outside of the sandbox
    temporary.mkdir(parents=True, exist_ok=True)
    port = find_free_port()
    async with commands.run_in_background(
        serve_in_box(bundle, port, variables, trial=temporary),
        cwd=folder,
        env={**os.environ, **variables},  # the box passes on what it names
        log=folder / "log",
    ) as server:
        candidate = Candidate(
            f"http://127.0.0.1:{port}",
            bundle.package,
            bundle.identifier,
            crashed=lambda: server.code is not None,
            last_lines=server.tail,
        )
        await prove(candidate, within)
