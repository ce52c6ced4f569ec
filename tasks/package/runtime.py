"""Runtimes: Python environments for a model and its server, shared by requirements."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import AsyncFileLock

from tasks.core import commands, uv
from tasks.core.caches import mark_used
from tasks.core.commands import Argv
from tasks.core.errors import TerminalError
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings
from tasks.package.package import Package
from tasks.runs.retrying import capability

_INSTALL_SECONDS = 900.0


@capability(
    "make runtime", run_name="make runtime of {package.label}", timeout=2 * _INSTALL_SECONDS
)
async def make_runtime(package: Package) -> Path:
    """Install the requirements of a model and its server; models with the same ones share them.

    Args:
        package: The package.

    Returns:
        Path of the environment's Python.

    Raises:
        TerminalError: The requirements cannot be installed.
    """
    requirements = await read_requirements(package)
    folder = Settings().environments
    folder.mkdir(parents=True, exist_ok=True)
    python = package.minor_python
    path = folder / f"runtime-{fingerprint(requirements.serving, requirements.model, python)}"
    async with AsyncFileLock(f"{path}.lock"):
        if not path.is_dir():
            # Built under another name, so that a folder with the final name is complete.
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            await run_uv(uv.venv(partial, python))
            await run_uv(uv.install(partial, requirements.write(partial)))
            partial.rename(path)
        mark_used(path)
    return path / "bin" / "python"


@dataclass(frozen=True)
class Requirements:
    """Pinned requirements of a model and its server, as lines of requirements files.

    Where both pin the same package, the model's version wins: the model was trained with it, and
    preflight proves that the server runs on it.

    Attributes:
        hashed: Whether every line has hashes. Those of the server have, those of a model that was
            saved before they were recorded have not.
    """

    serving: str
    model: str
    hashed: bool

    def write(self, folder: Path) -> Argv:
        """Write both as files into a folder, and return the arguments that name them to uv."""
        serving, model = folder / "serving.txt", folder / "model.txt"
        serving.write_text(self.serving)
        model.write_text(self.model)
        return uv.pinned([serving, model], hashed=self.hashed)


async def read_requirements(package: Package) -> Requirements:
    """Read the requirements of the commit's model and server.

    Raises:
        TerminalError: The lock did not name the file of a package when the model was saved.
    """
    serving = await run_uv(uv.export(package.workspace.path / "serving"))
    lines = []
    for name, version in sorted(package.packages.items()):
        hashes = (package.hashes or {}).get(name, ())
        if package.hashes is not None and not hashes:
            raise TerminalError(
                f"model/uv.lock had no hash of {name} {version} when {package.label} was saved",
                state="the live model is unchanged",
                next_step="run `uv sync --project model`, then save the model again and push it",
            )
        lines.append(" ".join([f"{name}=={version}", *(f"--hash={value}" for value in hashes)]))
    if package.hashes is None:
        commands.run_logger().warning(
            "%s was saved without hashes of its packages: they are installed by version alone",
            package.label,
        )
    return Requirements(serving.stdout, "\n".join([*lines, ""]), package.hashes is not None)


async def run_uv(argv: Argv, **variables: str) -> commands.CommandResult:
    """Run uv on the requirements of a model.

    Args:
        argv: The command.
        variables: Environment variables for it.

    Raises:
        TerminalError: It failed, and another try would too.
        TransientError: The package index does not answer.
    """
    result = await commands.run(argv, timeout=_INSTALL_SECONDS, env=variables, log=False)
    if result.code:
        raise uv.install_failed(
            result,
            state="the live model is unchanged",
            next_step="check that the package index has these versions, or save the model again"
            " with versions it has",
        )
    return result
