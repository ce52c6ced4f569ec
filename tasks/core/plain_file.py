"""Files in folders that foreign code writes to: no link is followed, no pipe is waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_plain(path: Path) -> int:
    """Open a file for reading, and return its descriptor.

    Raises:
        OSError: It is gone, cannot be read, or is something else than a file.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file
