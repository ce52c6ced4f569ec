"""uv commands as argvs, and errors from their failures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tasks.core.commands import Argv, CommandResult
from tasks.core.errors import TerminalError, TransientError

# uv exits alike for a wrong request and for an index that does not answer; these words, in lower
# case, are of the latter.
_TRANSIENT = ("failed to fetch", "connection", "timed out", "dns", "502", "503", "504")
# uv offers no data about a file with another hash than one of those that the lock names.
_OTHER_FILE = re.compile(r"Hash mismatch for `([^`]+)`")


def export(project: Path) -> Argv:
    """Print a project's lock as pinned requirements, with the hashes of their files."""
    return ["uv", "export", "--quiet", "--frozen", "--no-dev", "--no-header", "--no-annotate",
            "--project", str(project)]  # fmt: skip


def venv(path: Path, python: str) -> Argv:
    """Make an empty environment that can be moved."""
    return ["uv", "venv", "--quiet", "--relocatable", "--python", python, str(path)]


def install(environment: Path, requirements: Argv) -> Argv:
    """Install pinned requirements, from `pinned`, as wheels: those run nothing."""
    python = environment / "bin" / "python"
    return ["uv", "pip", "install", "--quiet", "--python", str(python), "--only-binary", ":all:",
            *requirements]  # fmt: skip


def install_for(folder: Path, requirements: Argv, *, python: str, platform: str) -> Argv:
    """Install wheels for another machine's Python into a plain folder."""
    return ["uv", "pip", "install", "--quiet", "--target", str(folder), "--python-version", python,
            "--python-platform", platform, "--only-binary", ":all:", *requirements]  # fmt: skip


def pinned(files: Sequence[Path], *, hashed: bool) -> Argv:
    """Name files of pinned requirements: where two pin a package, the last file wins.

    Args:
        files: The files. A file of a package is refused if its hash is not among those given.
        hashed: Whether to refuse a package without any.
    """
    argv = [word for file in files for word in ("--requirements", str(file))]
    return [*argv, "--overrides", str(files[-1]), *(["--require-hashes"] if hashed else [])]


def compile_for(folder: Path, place: str, python: str, *, instead: bool = False) -> Argv:
    """Compile a folder's modules as if the folder were `place`: same sources, same bytes.

    With `instead`, the byte code is where Python finds it without its source.
    """
    return ["uv", "run", "--quiet", "--no-project", "--python", python, "python", "-m",
            "compileall", "-q", *(["-b"] if instead else []), "--invalidation-mode",
            "unchecked-hash", "-s", str(folder), "-p", place, str(folder)]  # fmt: skip


def install_failed(
    result: CommandResult, *, state: str, next_step: str
) -> TerminalError | TransientError:
    """Make the error of a failed installation: transient if the package index does not answer.

    Args:
        result: The uv command.
        state: State after the failure.
        next_step: The next step if the request was wrong.
    """
    output = result.tail()
    if other := _OTHER_FILE.search(result.stderr):  # first: digits of a hash look like a status
        return TerminalError(
            f"{other[1]} in the package index is not the file that was locked: {output}",
            state=state,
            next_step="check the address of the package index, and who can write to it",
        )
    if any(words in output.lower() for words in _TRANSIENT):
        return TransientError(
            f"the package index does not answer: {output}",
            state=state,
            next_step="check the worker's network, then run the flow again",
        )
    return TerminalError(f"an environment cannot be installed: {output}", state=state,
                         next_step=next_step)  # fmt: skip
