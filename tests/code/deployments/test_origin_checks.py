from __future__ import annotations

from pathlib import Path

import pytest

from deployments.diagnosis.origin import check_origin


async def test_origin_is_checked_in_a_hook_as_anywhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "of-the-hook"))
    monkeypatch.setenv("SLIPWAY_ORIGIN", str(source))
    findings = [finding async for finding in check_origin()]
    assert [finding.ok for finding in findings] == [True, True], findings
