"""What `slipway doctor` finds in the settings of a project on GitLab."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from deployments.diagnosis.finding import Finding
from deployments.diagnosis.gitlab import examine_repository
from deployments.diagnosis.repository_settings import KEY

_URL = "https://gitlab.com/api/v4/projects/you%2Fwine"


async def _examine(answers: dict[str, Any]) -> dict[str, Finding]:
    def answer(request: httpx.Request) -> httpx.Response:
        path = str(request.url.copy_with(query=None)).removeprefix(_URL)
        if path not in answers:
            return httpx.Response(403, json={"message": "403 Forbidden"})
        return httpx.Response(200, json=answers[path])

    async with httpx.AsyncClient(base_url=_URL, transport=httpx.MockTransport(answer)) as client:
        return {finding.thing: finding async for finding in examine_repository(client)}


def _variable(**facts: Any) -> dict[str, Any]:
    usual = {"key": KEY, "environment_scope": "production", "protected": True, "masked": True}
    return {**usual, **facts}


@pytest.mark.parametrize(
    ("facts", "fix"),
    [
        ({}, ""),
        ({"protected": False}, "protect the variable"),
        ({"masked": False}, "mask the variable"),
        ({"key": "OTHER", "protected": False}, ""),
    ],
)
async def test_key_that_others_can_read_is_a_problem(facts: dict[str, Any], fix: str) -> None:
    branches = [{"name": "main"}]
    findings = await _examine({"/variables": [_variable(**facts)], "/protected_branches": branches})
    fixes = " ".join(finding.fix for finding in findings.values()).strip()
    assert fixes.startswith(fix) if fix else not fixes
    assert findings["GitLab, protected branches"].text == "main"


async def test_project_without_a_protected_branch_is_a_problem() -> None:
    findings = await _examine({"/variables": [], "/protected_branches": []})
    assert not findings["GitLab, protected branches"].ok


async def test_token_without_the_right_to_look_is_no_problem() -> None:
    findings = await _examine({})
    assert len(findings) == 2
    assert all(f.ok and "may not read them (403)" in f.text for f in findings.values())
