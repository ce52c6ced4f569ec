"""Copy files, in the box: `python copy_files.py LIST`.

The list is JSON: pairs of the file to copy and the path for the copy. DVC's records of a commit
name these paths, so whoever follows them must not be able to change anything but the workspace.
"""

import fcntl
import json
import shutil
import sys
from pathlib import Path

_CLONE = 0x40049409  # FICLONE: the copy shares its blocks, on file systems that can do that


def main() -> None:
    """Copy each file of the list."""
    for source, target in json.loads(Path(sys.argv[1]).read_text()):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with Path(source).open("rb") as reader, Path(target).open("wb") as writer:
            try:
                fcntl.ioctl(writer, _CLONE, reader.fileno())
            except OSError:
                shutil.copyfileobj(reader, writer, 1 << 20)


if __name__ == "__main__":
    main()
