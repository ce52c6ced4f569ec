"""Checks of the project on GitLab: who can read the key of the Prefect server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from deployments.diagnosis.finding import Finding
from deployments.diagnosis.repository_settings import KEY, read_settings

_PAGE_OF_DOCS = "see docs/gitlab.md#set-it-up"


async def examine_repository(client: httpx.AsyncClient) -> AsyncIterator[Finding]:
    """Check where the key of the Prefect server is kept, and which branches can use it.

    Args:
        client: A client of the project's REST API.
    """
    variables = await read_settings(client, "/variables", "GitLab")
    if isinstance(variables, str):
        yield Finding("GitLab, variables", variables)
    else:
        for finding in _examine_keys(variables):
            yield finding
    branches = await read_settings(client, "/protected_branches", "GitLab")
    if isinstance(branches, str):
        yield Finding("GitLab, protected branches", branches)
    elif not branches:
        fix = f"protect the default branch, {_PAGE_OF_DOCS}"
        yield Finding("GitLab, protected branches", "there is none: everyone may push", fix)
    else:
        names = ", ".join(sorted(branch["name"] for branch in branches))
        yield Finding("GitLab, protected branches", names)


def _examine_keys(variables: list[dict[str, Any]]) -> list[Finding]:
    findings = []
    for variable in variables:
        if variable["key"] != KEY:
            continue
        thing = f"GitLab, {KEY} of {variable['environment_scope']}"
        text, fix = "only jobs of protected branches can read it", ""
        if not variable["protected"]:
            text = "everyone who may push a branch can read it, and it is a shell on the worker"
            fix = f"protect the variable, {_PAGE_OF_DOCS}"
        elif not variable["masked"]:
            text, fix = "logs of jobs may show it", f"mask the variable, {_PAGE_OF_DOCS}"
        findings.append(Finding(thing, text, fix))
    return findings
