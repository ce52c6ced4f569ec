"""Temporary files of a test run in memory, on a machine that has enough of it.

A run makes and removes hundreds of work trees and environments. On a disk, finding a free place for
each new file beside those just removed is a sixth of all CPU (ext4 passes over them one by one).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

_FOLDER = Path("/dev/shm")  # in memory on every Linux; others have no such folder
_PREFIX = "slipway-tests-"
# A run fills 3 GB, and its programs take as much beside.
_FILES, _MEMORY = 6 * 10**9, 12 * 10**9


def keep_files_in_memory() -> None:
    """Let this process, and those that it starts, write their temporary files into memory.

    The files of a failed run are there until the next run begins. A `TMPDIR` that is set is used.
    """
    if "TMPDIR" in os.environ or not _has_room():
        return
    for old in _FOLDER.glob(f"{_PREFIX}*"):
        if not psutil.pid_exists(int(old.name.removeprefix(_PREFIX))):
            shutil.rmtree(old, ignore_errors=True)
    folder = _FOLDER / f"{_PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    # The cache of packages is on a disk, which shares no files with memory.
    os.environ["UV_LINK_MODE"] = "copy"


def _has_room() -> bool:
    try:
        free = shutil.disk_usage(_FOLDER).free
    except OSError:
        return False
    available = psutil.virtual_memory().available
    return os.access(_FOLDER, os.W_OK) and free >= _FILES and available >= _MEMORY
