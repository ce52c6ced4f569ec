"""Byte code, compiled when files are installed: the sandbox cannot write beside what it imports."""

from __future__ import annotations

import compileall
import os
import re
from contextlib import suppress
from pathlib import Path

from tasks.core.commands import Argv

# Tests of packages are half of their modules, and nothing imports them; of all lexers for all
# languages, a twelfth of the rest, a stage needs none or one.
_UNUSED = r"/tests?/|/pygments/lexers/"


def compile_packages(environment: Path, place: Path) -> Argv:
    """Make the command that compiles the packages of an environment, without running any of them.

    Args:
        environment: The environment.
        place: Where it will be.
    """
    # -S: no line of a package's .pth file is run either.
    return [str(environment / "bin" / "python"), "-I", "-S", "-m", "compileall", "-q", "-j", "0",
            "-x", _UNUSED, "-s", str(environment), "-p", str(place),
            str(environment / "lib")]  # fmt: skip


def share_byte_code(environment: Path) -> None:
    """Take over byte code that environments beside one have of the very same files.

    uv installs a package by links to the files in its cache, where the file system allows it. A
    module knows the path that it was compiled for in tracebacks alone, and Python corrects that.

    Args:
        environment: An environment that was just installed.
    """
    beside = [other for other in environment.parent.iterdir() if other != environment]
    for folder, _, _ in os.walk(environment / "lib"):
        path = Path(folder)
        for other in beside:
            for compiled in (other / path.relative_to(environment)).glob("__pycache__/*.pyc"):
                with suppress(OSError):  # no links here, or no such file: it is compiled then
                    _link_byte_code(compiled, path)


def _link_byte_code(compiled: Path, folder: Path) -> None:
    name = f"{compiled.name.partition('.')[0]}.py"
    if (folder / name).samefile(compiled.parents[1] / name):
        cache = folder / "__pycache__"
        cache.mkdir(exist_ok=True)
        os.link(compiled, cache / compiled.name)


def compile_folder(folder: Path, place: Path) -> None:
    """Compile a folder's modules with this Python; another version ignores the result.

    Args:
        folder: The folder.
        place: Where it will be.
    """
    compileall.compile_dir(
        folder, quiet=2, stripdir=str(folder), prependdir=str(place), rx=re.compile(_UNUSED)
    )
