"""Model servers in the sandbox: what starts one, and one beside a block of code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tasks.core import commands
from tasks.core.commands import Argv
from tasks.core.free_port import find_free_port
from tasks.package.bundle import Bundle, make_bundle
from tasks.package.package import Package
from tasks.package.runtime import make_runtime
from tasks.sandbox.box import Box, start_in


def serve(python: Path, bundle: Path, port: int) -> Argv:
    """Make the command that serves a bundle on loopback."""
    return [str(python), "-m", "serving", "--bundle", str(bundle), "--host", "127.0.0.1",
            "--port", str(port)]  # fmt: skip


def serve_in_box(
    bundle: Bundle,
    port: int,
    variables: Mapping[str, str],
    *,
    trial: Path | None = None,
    spool: Path | None = None,
    yields: bool = False,
) -> Argv:
    """Make the command that serves a bundle in the sandbox.

    The server sees its bundle and its packages, and can change neither. Requests come through a
    socket that it inherits; it reaches no network.

    Args:
        bundle: The bundle.
        port: Port of loopback.
        variables: Variables of the server; who runs the command has to set them.
        trial: Folder for the temporary files of a trial; a live server has them in memory.
        spool: Folder for the records of its prediction log.
        yields: Whether the host's other programs come first, as they do before a trial.
    """
    box = Box(
        folder=bundle.path,
        readable=(bundle.path,),
        spool=spool,
        pythons=(bundle.python,),
        temporary=trial,
        variables=frozenset(variables),
        settings={"PYTHONPATH": str(bundle.path)},
        port=port,
        yields=yields or trial is not None,
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


@asynccontextmanager
async def run_server(
    bundle: Bundle, folder: Path, variables: Mapping[str, str]
) -> AsyncIterator[tuple[str, commands.BackgroundProgram]]:
    """Serve a bundle on a port of loopback beside a block of code.

    Args:
        bundle: The bundle.
        folder: Folder for its log and its temporary files, in a workspace: the clean-up of that
            also ends a server that a killed run has left.
        variables: Variables of the server.

    Yields:
        Its URL, which does not answer before it is ready, and its process.
    """
    temporary = folder / "tmp"  # without the log, which is read outside of the sandbox
    temporary.mkdir(parents=True, exist_ok=True)
    port = find_free_port()
    async with commands.run_in_background(
        serve_in_box(bundle, port, variables, trial=temporary),
        cwd=folder,
        env={**os.environ, **variables},  # the box passes on what it names
        log=folder / "log",
    ) as server:
        yield f"http://127.0.0.1:{port}", server
