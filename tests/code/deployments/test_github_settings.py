"""What `slipway doctor` finds in the settings of a repository on GitHub."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from deployments.diagnosis.finding import Finding
from deployments.diagnosis.forge import api_of, kind_of
from deployments.diagnosis.github import examine_repository
from deployments.diagnosis.repository_settings import KEY
from tasks.repository.forge import find_forge


async def _examine(answers: dict[str, Any]) -> dict[str, Finding]:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/repos/you/wine")
        if path not in answers:
            return httpx.Response(403, json={"message": "Resource not accessible"})
        return httpx.Response(200, json=answers[path])

    url, transport = "https://api.github.com/repos/you/wine", httpx.MockTransport(answer)
    async with httpx.AsyncClient(base_url=url, transport=transport) as client:
        return {finding.thing: finding async for finding in examine_repository(client)}


async def test_key_that_every_branch_can_read_is_a_problem() -> None:
    findings = await _examine({
        "/actions/secrets": {"secrets": [{"name": KEY}]},
        "/environments": {"environments": [
            {"name": "production", "deployment_branch_policy": None},
            {"name": "github-pages", "deployment_branch_policy": None},
        ]},
    })  # fmt: skip
    assert list(findings) == ["GitHub, secrets of the repository", "GitHub, environment production"]
    assert not any(finding.ok for finding in findings.values())


async def test_key_of_an_environment_with_deployment_branches_is_well() -> None:
    policy = {"protected_branches": False, "custom_branch_policies": True}
    findings = await _examine({
        "/actions/secrets": {"secrets": [{"name": "SLIPWAY_S3_READ_SECRET"}]},
        "/environments": {"environments": [
            {"name": "production", "deployment_branch_policy": policy},
        ]},
    })  # fmt: skip
    assert len(findings) == 2
    assert all(finding.ok for finding in findings.values())


async def test_token_without_the_right_to_look_is_no_problem() -> None:
    findings = await _examine({})
    assert all(f.ok and "may not read them (403)" in f.text for f in findings.values())


@pytest.mark.parametrize(
    ("origin", "api"),
    [
        ("https://github.com/you/wine.git", "https://api.github.com/repos/you/wine"),
        ("git@github.com:you/wine", "https://api.github.com/repos/you/wine"),
        (
            "https://gitlab.com/team/a/wine.git",
            "https://gitlab.com/api/v4/projects/team%2Fa%2Fwine",
        ),
        ("https://code.example.com/you/wine", None),
        ("/srv/origin.git", None),
    ],
)
def test_api_of_a_repository_is_known_by_its_address(
    origin: str, api: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_API_URL", "GITLAB_API_URL"):
        monkeypatch.delenv(name, raising=False)
    forge = find_forge(origin)
    assert (api_of(forge) if forge and kind_of(forge) else None) == api
