"""Byte code, compiled when files are installed: the sandbox cannot write beside what it imports."""

from __future__ import annotations

import compileall
import re
from pathlib import Path

from tasks.core.commands import Argv

# Tests of packages are half of their modules, and nothing imports them.
_TESTS = r"/tests?/"


def compile_packages(environment: Path, place: Path) -> Argv:
    """Make the command that compiles the packages of an environment, without running any of them.

    Args:
        environment: The environment.
        place: Where it will be.
    """
    # -S: no line of a package's .pth file is run either.
    return [str(environment / "bin" / "python"), "-I", "-S", "-m", "compileall", "-q", "-j", "0",
            "-x", _TESTS, "-s", str(environment), "-p", str(place),
            str(environment / "lib")]  # fmt: skip


def compile_folder(folder: Path, place: Path) -> None:
    """Compile a folder's modules with this Python; another version ignores the result.

    Args:
        folder: The folder.
        place: Where it will be.
    """
    compileall.compile_dir(
        folder, quiet=2, stripdir=str(folder), prependdir=str(place), rx=re.compile(_TESTS)
    )
