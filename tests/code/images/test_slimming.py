from __future__ import annotations

from pathlib import Path

from tasks.images.slimming import prune


def test_prune_removes_only_files_that_nothing_imports(tmp_path: Path) -> None:
    removed = [
        "tests/test_a.py", "core/tests/data/a.csv", "core/_a.pyx", "include/a.h", "lib/a.a",
        "core/_simd.cpython-311-x86_64-linux-gnu.so", "core/_umath_tests.cpython-311.so",
        "lib/_test_ccallback.abi3.so", "core/_cytest.so",
    ]  # fmt: skip
    needed = [
        "a.py", "testing/_private/utils.py", "_testing/__init__.py", "utils/_testing.py",
        "stats/_hypotests.py", "_libs/testing.cpython-311-x86_64-linux-gnu.so", "core/_umath.so",
        "sparse/_shortest_path.so", "datasets/data/a.csv",
    ]  # fmt: skip
    for name in (*removed, *needed):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    prune(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(needed)
