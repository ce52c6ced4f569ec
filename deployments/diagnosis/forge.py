"""Checks of the repository on its site: who can read the key of the Prefect server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx

from deployments.diagnosis import github, gitlab
from deployments.diagnosis.finding import Finding
from tasks.core import secret_blocks
from tasks.core.tls import ssl_context
from tasks.repository.forge import Forge, own_forge

_GITHUB_API = "https://api.github.com"
_SECONDS = 20.0


async def check_forge() -> AsyncIterator[Finding]:
    """Check the repository with the worker's own token, as far as that may read the settings."""
    from prefect.blocks.system import Secret

    forge = own_forge()
    examine = {"github": github.examine_repository, "gitlab": gitlab.examine_repository}
    known = kind_of(forge) if forge else None
    if forge is None or known is None:
        return
    try:
        block: Any = await Secret.aload(secret_blocks.GIT_TOKEN)
    except ValueError:
        return  # origin is reached by SSH, or needs no token
    async with httpx.AsyncClient(
        base_url=api_of(forge),
        headers={"Authorization": f"Bearer {block.get()}"},
        timeout=_SECONDS,
        verify=ssl_context(),
    ) as client:
        async for finding in examine[known](client):
            yield finding


def kind_of(forge: Forge) -> Literal["github", "gitlab"] | None:
    """Return the kind of a site whose settings can be read, None for another."""
    if forge.kind == "gitlab":
        return "gitlab"
    return "github" if forge.address == "github.com" else None


def api_of(forge: Forge) -> str:
    """Return the URL of a repository in the REST API of its site."""
    if forge.kind == "gitlab":
        api = os.environ.get("GITLAB_API_URL") or f"https://{forge.address}/api/v4"
        return f"{api}/projects/{forge.path.replace('/', '%2F')}"
    return f"{os.environ.get('GITHUB_API_URL') or _GITHUB_API}/repos/{forge.path}"
