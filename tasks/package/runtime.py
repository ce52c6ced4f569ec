"""Runtimes: the Python environment that a model and its server need, shared by its content."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import AsyncFileLock

from tasks.core import commands, uv
from tasks.core.commands import Argv
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings
from tasks.package.package import Package
from tasks.runs.retrying import capability

_INSTALL_SECONDS = 900.0


@capability("make runtime", run_name="runtime of {package.label}", timeout=2 * _INSTALL_SECONDS)
async def make_runtime(package: Package) -> Path:
    """Install what the model and its server need; models with the same needs share it.

    Args:
        package: The package.

    Returns:
        Path of the environment's Python.

    Raises:
        TerminalError: The requirements cannot be installed.
    """
    needed = await read_requirements(package)
    folder = Settings().environments
    folder.mkdir(parents=True, exist_ok=True)
    python = package.minor_python
    path = folder / f"runtime-{fingerprint(needed.serving, needed.model, python)}"
    async with AsyncFileLock(f"{path}.lock"):
        if not path.is_dir():
            # Made under another name: a folder with the final name is complete.
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            await run_uv(uv.venv(partial, python))
            files = needed.write(partial)
            await run_uv(uv.install(partial, files, overrides=files[-1]))
            partial.rename(path)
    return path / "bin" / "python"


@dataclass(frozen=True)
class Requirements:
    """What a model and its server need, pinned.

    Where both pin the same package, the model's version wins: it is the one the model was trained
    with, and preflight proves that the server runs on it.

    Attributes:
        serving: The server's, as lines of a requirements file.
        model: The model's.
    """

    serving: str
    model: str

    def write(self, folder: Path) -> list[Path]:
        """Write both as files into a folder; the one that wins is the last."""
        serving, model = folder / "serving.txt", folder / "model.txt"
        serving.write_text(self.serving)
        model.write_text(self.model)
        return [serving, model]


async def read_requirements(package: Package) -> Requirements:
    """What the commit says that the model and its server need.

    Args:
        package: The package.

    Returns:
        The requirements.
    """
    serving = await run_uv(uv.export(package.workspace.path / "serving"))
    model = "".join(f"{name}=={version}\n" for name, version in sorted(package.packages.items()))
    return Requirements(serving.stdout, model)


async def run_uv(argv: Argv, **variables: str) -> commands.CommandResult:
    """Run uv on what a model needs.

    Args:
        argv: The command.
        variables: Environment variables for it.

    Returns:
        What it said.

    Raises:
        TerminalError: It failed, and would again.
        TransientError: The package index could not be reached.
    """
    finished = await commands.run(argv, timeout=_INSTALL_SECONDS, env=variables, log=False)
    if finished.code:
        raise uv.install_failed(
            finished,
            state="the live model is untouched",
            next_step="check that the package index has these versions, or save the model again"
            " with versions it has",
        )
    return finished
