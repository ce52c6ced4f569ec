"""Place objects of this host's cache in a workspace, as `dvc checkout` would.

DVC itself takes a second and a half of CPU for that. It would also read the configuration of the
commit.
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.bucket import copy_files as program
from tasks.bucket.objects import StoredObject
from tasks.core import commands
from tasks.core.caches import mark_used
from tasks.core.errors import TerminalError
from tasks.core.fingerprint import file_digest
from tasks.repository.workspace import Workspace
from tasks.sandbox.box import Box, start_in


@dataclass(frozen=True)
class Copy:
    """A file to make in a workspace, or an empty folder.

    Attributes:
        path: Its path in the workspace.
        source: The file in the cache; None for an empty folder.
        is_program: Whether it may be executed.
    """

    path: str
    source: Path | None
    is_program: bool = False


def list_copies(cache: Path, outputs: Iterable[StoredObject]) -> Iterator[Copy]:
    """Yield what the workspace gets of each object of a cache.

    Left out is an output that the cache does not have whole, that is corrupt, or whose path has
    variables, so that only DVC knows it: the pipeline makes it again. As for DVC, an object that
    nobody may write is right.
    """
    for stored in outputs:
        is_placed = "${" not in stored.path and PurePosixPath(stored.path).parts[:1] != (".git",)
        if not is_placed or not stored.is_cached(cache):
            continue
        file = cache / stored.key
        members = stored.members(file.read_bytes()) if stored.is_folder else [stored]
        files = [(cache / member.key, member) for member in members]
        if all(_is_right(path, member) for path, member in files):
            for path, member in files:
                yield Copy(member.path, path, member.is_program)
            if not files:
                yield Copy(stored.path, None)


def _is_right(file: Path, stored: StoredObject) -> bool:
    mark_used(file)
    if not stat.S_IMODE(file.stat().st_mode) & 0o222:
        return True
    return file_digest(file, "md5") == stored.md5


async def copy_files(workspace: Workspace, copies: Sequence[Copy], timeout: float) -> None:
    """Copy files into a workspace, in the sandbox: DVC's records of a commit name their paths.

    Args:
        workspace: The workspace.
        copies: The files and empty folders.
        timeout: Seconds.

    Raises:
        TerminalError: A path is outside of the workspace, or cannot be written.
    """
    listing = workspace.tool_cache / "copies.json"
    entries = [(str(copy.source or ""), copy.path, copy.is_program) for copy in copies]
    listing.write_text(json.dumps(entries))
    folders = {copy.source.parents[1] for copy in copies if copy.source}
    script = Path(program.__file__)
    box = Box(
        folder=workspace.path,
        writable=(workspace.path,),
        readable=(workspace.path / ".git", *sorted(folders), listing, script),
        pythons=(Path(sys.executable),),
    )
    argv = [sys.executable, "-I", "-S", str(script), str(listing)]
    result = await commands.run(start_in(box, argv), timeout=timeout, cwd=workspace.path, log=False)
    if result.code:
        raise TerminalError(
            f"the data of {workspace.label} cannot be restored: {result.tail(1)}",
            state="nothing was trained; origin is unchanged",
            next_step="correct the path in the record of DVC that names it, try it with"
            " `dvc checkout`, commit, and run again",
        )
