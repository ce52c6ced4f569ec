"""Removal of files that no server needs from the large packages.

Only files that nothing imports or reads go: tests, headers, sources of extensions, and sources of
modules that have byte code. No package is left out, so the bill of materials stays true.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

# Packages that never read their own sources. Others do, such as Numba and PyTorch.
LARGE = ("joblib", "narwhals", "numpy", "pandas", "scipy", "sklearn")
_TESTS = {"test", "tests"}
_SOURCES = {".a", ".c", ".cpp", ".h", ".pxd", ".pyi", ".pyx", ".tp"}
# Extensions that only those tests import.
_FOR_TESTS = re.compile(r"_(simd|cytest|test_\w+|\w+_tests)(\.[\w-]+)*\.so")


def prune(package: Path) -> None:
    """Remove the files that a large package does not need to run.

    Args:
        package: Folder of the package.
    """
    for path in sorted(package.rglob("*")):
        if path.is_dir() and path.name in _TESTS:
            shutil.rmtree(path)
        elif path.suffix in _SOURCES or _FOR_TESTS.fullmatch(path.name):
            path.unlink(missing_ok=True)
