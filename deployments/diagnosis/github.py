"""Checks of the repository on GitHub: who can read the key of the Prefect server."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx

from deployments.diagnosis.finding import Finding
from tasks.core import secret_blocks
from tasks.core.settings import Settings
from tasks.core.tls import ssl_context
from tasks.platforms.catalogue import environment_names

KEY = "PREFECT_API_KEY"
_REPOSITORY = re.compile(r"github\.com[/:]([\w.-]+/[\w.-]+?)(\.git)?/?$")
_API = "https://api.github.com"
_SECONDS = 20.0
_PAGE = {"per_page": "100"}
_PAGE_OF_DOCS = "see docs/github.md#set-it-up"


def repository_of(origin: str) -> str | None:
    """Return owner and name of a repository on GitHub, None if it is elsewhere."""
    match = _REPOSITORY.search(origin)
    return match[1] if match else None


async def check_github() -> AsyncIterator[Finding]:
    """Check the repository with the worker's own token, as far as that may read the settings."""
    from prefect.blocks.system import Secret

    repository = repository_of(Settings().origin)
    if repository is None:
        return
    try:
        block: Any = await Secret.aload(secret_blocks.GIT_TOKEN)
    except ValueError:
        return  # origin is reached by SSH, or needs no token
    async with httpx.AsyncClient(
        base_url=f"{os.environ.get('GITHUB_API_URL') or _API}/repos/{repository}",
        headers={"Authorization": f"Bearer {block.get()}"},
        timeout=_SECONDS,
        verify=ssl_context(),
    ) as client:
        async for finding in examine_repository(client):
            yield finding


async def examine_repository(client: httpx.AsyncClient) -> AsyncIterator[Finding]:
    """Check where the key of the Prefect server is kept, and which branches can use it.

    Args:
        client: A client of the repository's REST API.
    """
    thing = "GitHub, secrets of the repository"
    secrets = await _read(client, "/actions/secrets", "secrets")
    if isinstance(secrets, str):
        yield Finding(thing, secrets)
    elif KEY in {secret["name"] for secret in secrets}:
        text = f"everyone who may push a branch can read {KEY}, which is a shell on the worker"
        yield Finding(thing, text, f"make it a secret of an environment, {_PAGE_OF_DOCS}")
    else:
        yield Finding(thing, f"{KEY} is none of them")
    known = await _read(client, "/environments", "environments")
    if isinstance(known, str):
        yield Finding("GitHub, environments", known)
        return
    for environment in known:
        if (name := environment["name"]) not in environment_names():
            continue
        thing = f"GitHub, environment {name}"
        if environment.get("deployment_branch_policy"):
            yield Finding(thing, "only some branches can use its secrets")
        else:
            fix = f"choose its deployment branches, {_PAGE_OF_DOCS}"
            yield Finding(thing, "a workflow of any branch can use its secrets", fix)


async def _read(client: httpx.AsyncClient, path: str, key: str) -> list[dict[str, Any]] | str:
    """Return a list of GitHub's, or why it cannot be read, which is no fault of the set-up."""
    try:
        response = await client.get(path, params=_PAGE)
    except httpx.HTTPError as error:
        return f"not checked: GitHub does not answer: {error}"
    if response.is_error:
        return f"not checked: the worker's token may not read them ({response.status_code})"
    return list(response.json()[key])
