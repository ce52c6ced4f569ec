"""Checks of the repository on GitHub: who can read the key of the Prefect server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from deployments.diagnosis.finding import Finding
from deployments.diagnosis.repository_settings import KEY, read_settings
from tasks.platforms.catalogue import environment_names

_PAGE_OF_DOCS = "see docs/github.md#set-it-up"


async def examine_repository(client: httpx.AsyncClient) -> AsyncIterator[Finding]:
    """Check where the key of the Prefect server is kept, and which branches can use it.

    Args:
        client: A client of the repository's REST API.
    """
    thing = "GitHub, secrets of the repository"
    secrets = await read_settings(client, "/actions/secrets", "GitHub")
    if isinstance(secrets, str):
        yield Finding(thing, secrets)
    elif KEY in {secret["name"] for secret in secrets["secrets"]}:
        text = f"everyone who may push a branch can read {KEY}, which is a shell on the worker"
        yield Finding(thing, text, f"make it a secret of an environment, {_PAGE_OF_DOCS}")
    else:
        yield Finding(thing, f"{KEY} is none of them")
    known = await read_settings(client, "/environments", "GitHub")
    if isinstance(known, str):
        yield Finding("GitHub, environments", known)
        return
    for environment in known["environments"]:
        if (name := environment["name"]) not in environment_names():
            continue
        thing = f"GitHub, environment {name}"
        if environment.get("deployment_branch_policy"):
            yield Finding(thing, "only some branches can use its secrets")
        else:
            fix = f"choose its deployment branches, {_PAGE_OF_DOCS}"
            yield Finding(thing, "a workflow of any branch can use its secrets", fix)
