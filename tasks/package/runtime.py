"""Runtimes: Python environments for a model and its server, shared by requirements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.core import commands, uv
from tasks.core.commands import Argv
from tasks.core.errors import ConfigurationError, TerminalError
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings
from tasks.package.environment import check_pinned, check_python, make_environment, read_lock
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
    requirements, python = await read_requirements(package, further), package.minor_python
    key = fingerprint(requirements.serving, requirements.model, python)
    path = Settings().environments / f"runtime-{key}"
    await make_environment(path, python, requirements.write, STATE)
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
