"""Disks that are full, read-only or closed to us: their errors, with state and next step."""

from __future__ import annotations

import errno
import getpass
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import TerminalError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
# Less than what any program here writes: a disk with more was not what stopped one.
_FULL_BYTES = 64 * 1024
_STATE = "what is live goes on serving; what was not written is missing"
_AGAIN = "then run the same again"


@contextmanager
def explaining_disk_errors() -> Iterator[None]:
    """Turn errors of a disk in a block of code into errors with state and next step."""
    try:
        yield
    except OSError as error:
        if explanation := explain_disk_error(error):
            raise explanation from error
        raise


def explain_disk_error(error: OSError) -> TerminalError | None:
    """Return what an error of a disk means; None if it is no such error."""
    full = full_disks(_written_folders())
    # A copied folder has the texts of its errors, and no number.
    if error.errno in _FULL or (isinstance(error, shutil.Error) and full):
        # A failed write, other than a failed open, does not know its file.
        folders = [error.filename] if error.filename else [*full, *_written_folders()]
        return full_disk_error(str(folders[0]))
    if error.errno in _CLOSED and error.filename:
        return TerminalError(
            f"the system does not let user {_user()} use {error.filename}: {error.strerror}",
            state=_STATE,
            next_step=f"give that user the right to read and write there, {_AGAIN}",
        )
    return None


def full_disk_error(path: str, doing: str = "") -> TerminalError:
    """Return the error of a write to a full disk.

    Args:
        path: A file or folder on it.
        doing: The command that could not go on, if any.
    """
    return TerminalError(
        f"the disk of {path} is full{doing and f': {doing} failed'}",
        state=_STATE,
        next_step=f"free space there (`df {path}`), {_AGAIN}",
    )


def full_disks(folders: Iterable[Path]) -> list[Path]:
    """Return those of some folders whose disk is full."""
    return [folder for folder in folders if _is_full(folder)]


def require_space(folder: Path | None, command: str) -> None:
    """Explain the failure of a command by a full disk, if there is one.

    Programs say so in their own words, each in others; the system says it in numbers.

    Args:
        folder: The folder in which the command worked.
        command: The beginning of the command.

    Raises:
        TerminalError: That disk, or the one for temporary files, is full.
    """
    folders = [Path(folder or "."), *_written_folders()]
    if full := full_disks(folders):
        raise full_disk_error(str(full[0]), f"`{command} …`")


def _written_folders() -> list[Path]:
    from tasks.core.settings import Settings  # slow to import, for scripts that run a command

    return [Settings().home, Path(tempfile.gettempdir())]


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:  # it is not there
        return False
    root = os.geteuid() == 0  # for whom some blocks are reserved
    blocks, files = (disk.f_bfree, disk.f_ffree) if root else (disk.f_bavail, disk.f_favail)
    return blocks * disk.f_frsize < _FULL_BYTES or (disk.f_files > 0 and files == 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
