"""The sandbox in `doctor` and `check`."""

from __future__ import annotations

import pytest

from deployments.diagnosis import sandbox
from deployments.diagnosis.sandbox import check_sandbox


def test_host_without_a_sandbox_is_a_warning_and_in_production_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: "/usr/bin/bwrap")
    assert check_sandbox(required=True).ok
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: None)
    warning, problem = check_sandbox(required=False), check_sandbox(required=True)
    assert warning.ok
    assert warning.text.startswith("warning: ")
    assert not problem.ok
    assert "SLIPWAY_SANDBOX=container" in problem.fix
    monkeypatch.setenv("SLIPWAY_SANDBOX", "container")
    assert check_sandbox(required=True).ok
