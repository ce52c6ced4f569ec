"""Checks of the whole set-up, by use: server, worker, deployments, buckets, origin."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from deployments.apply import apply, server_url
from deployments.catalogue.prefect_yaml import Manifest
from deployments.diagnosis.exposure import check_exposure
from deployments.diagnosis.finding import Finding, problem
from deployments.diagnosis.sandbox import check_sandbox
from tasks.core.errors import ConfigurationError, SlipwayError
from tasks.core.settings import CHECKOUT, Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


async def examine(options: frozenset[str], *, local: bool, notify: bool) -> AsyncIterator[Finding]:
    """Check one thing after the other.

    Args:
        options: Options of `apply` that the server was made equal to the repository with.
        local: Whether the server is the local stack's.
        notify: Whether to send a message through the notification block.
    """
    # They import Prefect, which has to find its variables set.
    from deployments.diagnosis import checks, forge, origin, signing

    async def on_server(client: PrefectClient) -> AsyncIterator[Finding]:
        yield await checks.check_worker(client, Manifest.read(CHECKOUT).work_pool)
        yield await check_catalogue(options)
        async for finding in checks.check_buckets():
            yield finding
        async for finding in checks.check_secrets():
            yield finding
        yield await signing.check_signing()
        async for finding in forge.check_forge():
            yield finding
        yield await checks.check_notification(client, send=notify)

    async for finding in check_server(on_server, local=local):
        yield finding
    async for finding in origin.check_origin():
        yield finding
    if pinned := await origin.check_pinned_commit():
        yield pinned
    yield check_sandbox(required=Settings().sandbox == "required")


async def check_catalogue(options: frozenset[str]) -> Finding:
    """Check that the server has what the repository declares."""
    thing = "deployments, pool, blocks"
    try:
        changes = await apply(options, dry_run=True)
    except SlipwayError as error:
        return problem(thing, error)
    if changes:
        names = ", ".join(f"{change.kind} {change.name}" for change in changes[:3])
        return Finding(thing, f"{len(changes)} differ: {names}", "slipway apply --dry-run")
    return Finding(thing, "equal to the repository")


async def check_server(
    check_more: Callable[[PrefectClient], AsyncIterator[Finding]], *, local: bool
) -> AsyncIterator[Finding]:
    """Check that the Prefect server answers, and if it does, check more with a client of it.

    Args:
        check_more: Further checks.
        local: Whether the server is the local stack's.
    """
    import httpx
    from prefect import get_client

    url = os.environ.get("PREFECT_API_URL", "")
    try:
        url = server_url()
        async with get_client() as client:
            await client.read_work_pools(limit=1)
            yield Finding("Prefect server", f"{url} answers")
            async for finding in check_exposure(url.rstrip("/")):
                yield finding
            async for finding in check_more(client):
                yield finding
    except ConfigurationError as error:
        yield problem("Prefect server", error)
    except httpx.HTTPError as error:
        text = f"{url}: {str(error).partition(chr(10))[0]}"
        remote_fix = "check PREFECT_API_URL, and PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        yield Finding("Prefect server", text, "slipway up" if local else remote_fix)
