from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tasks.images.slimming import prune, strip, strip_libraries


@pytest.fixture
def library() -> bytes:
    """An extension module as its wheel brings it, with symbols."""
    if sys.platform != "linux":
        pytest.skip("only Linux has such libraries")
    found = importlib.util.find_spec("yaml._yaml")
    assert found
    assert found.origin
    return Path(found.origin).read_bytes()


def test_a_stripped_library_is_smaller_and_can_be_loaded(tmp_path: Path, library: bytes) -> None:
    stripped = strip(library)
    assert len(stripped) < len(library) / 2
    assert strip(stripped) == stripped
    path = tmp_path / "_yaml.so"
    path.write_bytes(stripped)
    # All of it, now: not only what is called first.
    loaded = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    assert loaded.PyInit__yaml


@pytest.mark.parametrize("content", [b"", b"text", b"\x7fELF\x01\x01" + bytes(60)])
def test_what_is_no_such_library_stays_as_it_is(content: bytes) -> None:
    assert strip(content) == content


def test_what_uv_has_in_its_cache_stays_whole(tmp_path: Path, library: bytes) -> None:
    cached, installed = tmp_path / "cache" / "a.so", tmp_path / "installed" / "a.so"
    for path in (cached, installed):
        path.parent.mkdir()
    cached.write_bytes(library)
    cached.chmod(0o755)
    installed.hardlink_to(cached)
    strip_libraries(installed.parent)
    assert cached.read_bytes() == library
    assert installed.stat().st_size < len(library) / 2
    assert installed.stat().st_mode == cached.stat().st_mode


def test_only_what_is_never_imported_goes(tmp_path: Path) -> None:
    gone = [
        "tests/test_a.py", "core/tests/data/a.csv", "core/_a.pyx", "include/a.h", "lib/a.a",
        "core/_simd.cpython-311-x86_64-linux-gnu.so", "core/_umath_tests.cpython-311.so",
        "lib/_test_ccallback.abi3.so", "core/_cytest.so",
    ]  # fmt: skip
    kept = [
        "a.py", "testing/_private/utils.py", "_testing/__init__.py", "utils/_testing.py",
        "stats/_hypotests.py", "_libs/testing.cpython-311-x86_64-linux-gnu.so", "core/_umath.so",
        "sparse/_shortest_path.so", "datasets/data/a.csv",
    ]  # fmt: skip
    for name in (*gone, *kept):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    prune(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
