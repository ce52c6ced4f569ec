from __future__ import annotations

from pathlib import Path

from tasks.core.fingerprint import fingerprint


def test_content_and_names_count_byte_code_does_not(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = fingerprint(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert fingerprint(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert fingerprint(tmp_path) != before


def test_parts_do_not_run_into_each_other() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
