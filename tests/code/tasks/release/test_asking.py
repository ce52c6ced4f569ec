"""What the gate leaves open, a person decides with the form of an approval."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.core.errors import ConfigurationError
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.release import approval
from tasks.release.approval import Answer, Approval, wait_for_answer
from tasks.reports.release_report import Release
from tasks.training.gate import Verdict


class _Target:
    async def rollback(self, staged: object) -> None:
        """End preflight."""


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the forms that were shown."""
    shown: list[str] = []

    async def suspend(*, key: str, **_: Any) -> None:
        shown.append(key)

    async def describe(*_: Any) -> str:
        return ""

    monkeypatch.setattr(approval, "asuspend_flow_run", suspend)
    monkeypatch.setattr(approval, "_description", describe)
    monkeypatch.setattr(approval.deployment, "id", "some", raising=False)
    return shown


async def _ask(*, gate: str = "required", answer: Answer | None = None, **facts: Any) -> None:
    environment = ProcessEnvironment.model_validate(
        {"name": "production", "target": "process", "gate": gate}
    )

    package = SimpleNamespace(commit="0" * 40, label="wine@0000000")
    values: dict[str, Any] = {"verdict": Verdict(True, ("open",), asks=True), **facts}
    release = Release(package, "production", _Target(), {}, **values)  # type: ignore[arg-type]
    await wait_for_answer(Approval(environment, answer=answer), release, _Target(), object())  # type: ignore[arg-type]


async def test_environment_without_approvals_asks_if_the_gate_does(forms: list[str]) -> None:
    await _ask()
    assert len(forms) == 1
    await _ask(answer=Answer(decision="approve"))
    await _ask(gate="advised")
    await _ask(verdict=Verdict(True, ("better",)))
    await _ask(rollback=True)
    assert len(forms) == 1, "it asks once, and only where the gate is required and open"


async def test_run_that_cannot_wait_is_refused(
    forms: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval.deployment, "id", None, raising=False)
    with pytest.raises(ConfigurationError, match="for which only a run of a deployment can wait"):
        await _ask()
    assert not forms
