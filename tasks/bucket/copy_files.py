"""Copy files, in the box: `python copy_files.py LIST`.

The list is JSON: of each copy the file to copy, its path, and whether it may be executed; without a
file it is an empty folder. DVC's records of a commit name these paths, so whoever follows them must
not be able to change anything but the workspace.
"""

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

_CLONE = 0x40049409  # FICLONE: the copy shares its blocks, on file systems that can do that


def main() -> None:
    """Make each copy of the list."""
    for source, target, is_program in json.loads(Path(sys.argv[1]).read_text()):
        folder = Path(target).parent if source else Path(target)
        folder.mkdir(parents=True, exist_ok=True)
        if not source:
            continue
        # A stage may have made it read-only, or a link to another file.
        Path(target).unlink(missing_ok=True)
        with Path(source).open("rb") as reader, Path(target).open("wb") as writer:
            try:
                fcntl.ioctl(writer, _CLONE, reader.fileno())
            except OSError:
                shutil.copyfileobj(reader, writer, 1 << 20)
            if is_program:  # whoever may read it may execute it
                mode = os.fstat(writer.fileno()).st_mode
                os.fchmod(writer.fileno(), mode | (mode & 0o444) >> 2)


if __name__ == "__main__":
    main()
