"""What installed packages hold and no server needs: a third of the large ones.

Only what is never imported or read goes: tests, headers, sources of extensions, sources of modules
whose byte code is there, and what debuggers read. No package is left out, so a bill of materials
stays true.
"""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

# Packages that never read their own source. Others do (Numba, PyTorch): theirs stays.
LARGE = ("joblib", "narwhals", "numpy", "pandas", "scipy", "sklearn")
_TESTS = {"test", "tests"}
_SOURCES = {".a", ".c", ".cpp", ".h", ".pxd", ".pyi", ".pyx", ".tp"}
# Extensions that only those tests import.
_FOR_TESTS = re.compile(r"_(simd|cytest|test_\w+|\w+_tests)(\.[\w-]+)*\.so")


def prune(package: Path) -> None:
    """Remove what a large package does not need to run.

    Args:
        package: Its folder.
    """
    for path in sorted(package.rglob("*")):
        if path.is_dir() and path.name in _TESTS:
            shutil.rmtree(path)
        elif path.suffix in _SOURCES or _FOR_TESTS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def strip_libraries(folder: Path) -> None:
    """Take out of shared libraries what is for debuggers alone: a tenth of all bytes.

    Args:
        folder: The folder with all packages.
    """
    for path in folder.rglob("*.so*"):
        content = path.read_bytes()
        if (stripped := strip(content)) != content:
            mode = path.stat().st_mode
            path.unlink()  # uv may have linked it to its cache
            path.write_bytes(stripped)
            path.chmod(mode)


def strip(library: bytes) -> bytes:
    """Cut a shared library off where the bytes end that are loaded to run it.

    What follows are symbols and debug information, and the table of sections that says so, which
    the dynamic loader does not read: it goes by the program headers alone, as the ELF specification
    has it (a section header table is optional in what is executed).

    Args:
        library: Content of the file.

    Returns:
        Its content without that; what is no 64-bit little-endian ELF file is left as it is.
    """
    if library[:6] != b"\x7fELF\x02\x01":
        return library
    (headers,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    end = headers + size * count
    for header in range(headers, end, size):
        (offset,) = struct.unpack_from("<Q", library, header + 8)
        (length,) = struct.unpack_from("<Q", library, header + 32)
        end = max(end, offset + length)
    kept = bytearray(library[:end])
    struct.pack_into("<Q", kept, 40, 0)  # where the table of sections is
    struct.pack_into("<HH", kept, 60, 0, 0)  # how many there are, and which names them
    return bytes(kept)
