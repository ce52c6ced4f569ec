"""Runtimes: Python environments for a model and its server, shared by requirements."""

from __future__ import annotations

from pathlib import Path

from tasks.core import commands
from tasks.core.errors import ConfigurationError, TerminalError
from tasks.package.environment import (
    Requirements,
    check_pinned,
    check_python,
    install_runtime,
    read_lock,
)
from tasks.package.package import Package
from tasks.runs.retrying import capability

_INSTALL_SECONDS = 900.0
STATE = "the live model is unchanged"


@capability(
    "make runtime", run_name="make runtime of {package.label}", timeout=2 * _INSTALL_SECONDS
)
async def make_runtime(package: Package, further: str = "") -> Path:
    """Install the requirements of a model and its server; models with the same ones share them.

    Args:
        package: The package.
        further: Name of a package of `model/uv.lock` to install beside them; empty for none.

    Returns:
        Path of the environment's Python.

    Raises:
        TerminalError: The requirements cannot be installed.
    """
    requirements = await read_requirements(package, further)
    return await install_runtime(requirements, package.minor_python, STATE)


async def read_requirements(package: Package, further: str = "") -> Requirements:
    """Read the requirements of the commit's model and server.

    Args:
        package: The package.
        further: As of `make_runtime`.

    Raises:
        TerminalError: The lock did not name the file of a package when the model was saved, or they
            are something else than packages of an index.
    """
    check_python(package.minor_python, STATE)
    serving = await read_lock(package.workspace.path / "serving", STATE)
    lines = []
    for name, version in sorted(package.packages.items()):
        hashes = (package.hashes or {}).get(name, ())
        if package.hashes is not None and not hashes:
            raise TerminalError(
                f"model/uv.lock had no hash of {name} {version} when {package.label} was saved",
                state=STATE,
                next_step="run `uv sync --project model`, then save the model again and push it",
            )
        lines.append(" ".join([f"{name}=={version}", *(f"--hash={value}" for value in hashes)]))
    if package.hashes is None:
        commands.run_logger().warning(
            "%s was saved without hashes of its packages: they are installed by version alone",
            package.label,
        )
    if further and further not in package.packages:
        lines.append(await _find_locked(package, further))
    model = "\n".join([*lines, ""])
    check_pinned(model, STATE)
    return Requirements(serving, model, package.hashes is not None)


async def _find_locked(package: Package, name: str) -> str:
    """Return the line of `model/uv.lock` at the commit that pins a package."""
    text = await read_lock(package.workspace.path / "model", STATE)
    lines = text.replace("\\\n", " ").splitlines()
    line = next((line for line in lines if line.startswith(f"{name}==")), "")
    if not line:
        raise ConfigurationError(
            f"model/uv.lock of {package.label} does not have {name}",
            state="nothing was started",
            next_step=f"run `uv add --project model --group custom {name}`, commit, retrain and"
            " deploy",
        )
    return " ".join(line.split())
