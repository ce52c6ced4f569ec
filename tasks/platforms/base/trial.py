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


def serve(python: Path, bundle: Path, port: int) -> Argv:
    """Make the command that serves a bundle on loopback."""
    return [str(python), "-m", "serving", "--bundle", str(bundle), "--host", "127.0.0.1",
            "--port", str(port)]  # fmt: skip


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
    folder.mkdir(exist_ok=True)
    port = find_free_port()
    async with commands.run_in_background(
        serve(bundle.python, bundle.path, port),
        cwd=folder,
        env=_bare_environment(folder, bundle.path, variables),
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


def _bare_environment(home: Path, bundle: Path, variables: Mapping[str, str]) -> dict[str, str]:
    # With the two marks by which a process that outlives its run is found.
    passed_on = {"PATH", "LANG", "LC_ALL", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
            "SLIPWAY_STACK", "PREFECT__FLOW_RUN_ID"}  # fmt: skip
    ours = {"HOME": str(home), "PYTHONPATH": str(bundle)}
    inherited = {key: value for key, value in os.environ.items() if key in passed_on}
    return inherited | dict(variables) | ours
