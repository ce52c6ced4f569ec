"""Ways out of a workspace: refuse them before programs outside of the sandbox read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import TerminalError

_NAMED = 3


def refuse_escapes(folder: Path, author: str, *, also: Path | None = None) -> None:
    """Refuse links that lead outside, repositories whose settings Git follows, and endless files.

    Args:
        folder: The workspace.
        author: Who made its content, for the message.
        also: A folder outside of it to whose files links may lead.

    Raises:
        TerminalError: There are some.
    """
    escapes = sorted(_find_escapes(folder, also))
    if escapes:
        names = ", ".join(str(path.relative_to(folder)) for path in escapes[:_NAMED])
        raise TerminalError(
            f"{author} has links that lead outside the repository, another one within it, or named"
            f" pipes: {names}",
            state="nothing of it was used; origin is unchanged",
            next_step="replace them with files, commit, and run the flow at that commit",
        )


def _find_escapes(folder: Path, also: Path | None) -> Iterator[Path]:
    inside = folder.resolve()
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder and (folder / ".git").is_dir():
            folders.remove(".git")  # ours; read-only for stages
        for name in (*folders, *names):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if name == ".git" or stat.S_ISFIFO(mode):  # who opens a pipe waits for ever
                yield path
            elif stat.S_ISLNK(mode):
                target = path.resolve()
                lent = also and target.is_file() and target.is_relative_to(also.resolve())
                at = target.relative_to(inside) if target.is_relative_to(inside) else None
                if not lent and (at is None or ".git" in at.parts):
                    yield path
