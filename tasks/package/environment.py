"""Python environments, installed so that no code of a ref or a package runs outside of the box.

uv itself runs code for a project: interpreters that `.python-version` names, build scripts of
folders, repositories and source distributions. So a lock is read in the sandbox; what comes out is
a list of pinned packages, and outside of it uv unpacks wheels.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import AsyncFileLock

from tasks.core import commands, uv
from tasks.core.byte_code import compile_packages, share_byte_code
from tasks.core.caches import mark_used
from tasks.core.commands import Argv
from tasks.core.errors import TerminalError
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings
from tasks.sandbox.box import Box, start_in

_INSTALL_SECONDS = 900.0
# Python's pool of processes waits for ever if one of them is killed; then all is made again.
_COMPILE_SECONDS = 300.0
_PACKAGE = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w.,-]+\])?==[\w.!+-]+( ; [^\n]+)?")
_HASH = re.compile(r" --hash=\w+:\w+")
_VERSION = re.compile(r"[\d.,<>=!~* ]+")


async def read_lock(project: Path, state: str) -> str:
    """Read a project's lock as lines of pinned packages.

    Args:
        project: Folder of the project.
        state: State after a failure.

    Raises:
        TerminalError: It cannot be read, or names something else than packages of an index.
    """
    box = Box(folder=project, readable=(project,), pythons=(Path(sys.executable),))
    result = await run_uv(start_in(box, uv.export(project)), state)
    check_pinned(result.stdout, state)
    return result.stdout


def write_lock(requirements: str, folder: Path) -> Argv:
    """Write what `read_lock` has read into a folder; return the arguments that name it to uv."""
    file = folder / "requirements.txt"
    file.write_text(requirements)
    return uv.pinned([file], hashed=True)


def check_pinned(requirements: str, state: str) -> None:
    """Refuse requirements but pinned packages of an index.

    Args:
        requirements: Content of a requirements file.
        state: State after a failure.

    Raises:
        TerminalError: There is another one.
    """
    for line in requirements.replace("\\\n", " ").splitlines():
        text = _HASH.sub("", re.sub(r"\s+", " ", line)).strip()
        if text and not text.startswith("#") and not _PACKAGE.fullmatch(text):
            raise TerminalError(
                f"{text!r} is no pinned package of an index",
                state=state,
                next_step="name packages by version; a folder or a repository runs code when it is"
                " installed, so build a wheel of it into an index of yours",
            )


def check_python(version: str, state: str) -> None:
    """Refuse what is no version of Python: uv also takes paths of programs, and runs them.

    Args:
        version: A version, or bounds of it.
        state: State after a failure.

    Raises:
        TerminalError: It is none.
    """
    if not _VERSION.fullmatch(version):
        raise TerminalError(
            f"{version!r} is no version of Python",
            state=state,
            next_step="correct it at the commit: requires-python, or the model's runtime.json",
        )


async def make_environment(
    path: Path, python: str, write: Callable[[Path], Argv], state: str
) -> None:
    """Make an environment, unless it is there.

    Args:
        path: Its folder.
        python: The version of Python, or bounds of it.
        write: Writes requirements into a folder, and returns the arguments that name them to uv.
        state: State after a failure.

    Raises:
        TerminalError: The requirements cannot be installed.
        TransientError: The package index does not answer.
    """
    check_python(python, state)
    path.parent.mkdir(parents=True, exist_ok=True)
    async with AsyncFileLock(f"{path}.lock"):
        if not path.is_dir():
            # Built under another name, so that a folder with the final name is complete.
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            await run_uv(uv.venv(partial, python), state)
            await run_uv(uv.install(partial, write(partial)), state)
            await asyncio.to_thread(share_byte_code, partial)
            # What cannot be compiled is only slower to import.
            await commands.run(compile_packages(partial, path), timeout=_COMPILE_SECONDS, log=False)
            partial.rename(path)
        mark_used(path)


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


async def install_runtime(requirements: Requirements, python: str, state: str) -> Path:
    """Install the requirements of a model and its server, unless they are.

    Args:
        requirements: The requirements.
        python: The version of Python.
        state: State after a failure.

    Returns:
        Path of the environment's Python.
    """
    key = fingerprint(requirements.serving, requirements.model, python)
    path = Settings().environments / f"runtime-{key}"
    await make_environment(path, python, requirements.write, state)
    return path / "bin" / "python"


async def run_uv(argv: Argv, state: str, **variables: str) -> commands.CommandResult:
    """Run uv on the requirements of a model.

    Args:
        argv: The command.
        state: State after a failure.
        variables: Environment variables for it.

    Raises:
        TerminalError: It failed, and another try would too.
        TransientError: The package index does not answer.
    """
    result = await commands.run(argv, timeout=_INSTALL_SECONDS, env=variables, log=False)
    if result.code:
        raise uv.install_failed(
            result,
            state=state,
            next_step="check that the package index has these versions, as wheels for this host;"
            " or lock others, and train and save again",
        )
    return result
