"""What a Prefect server gives to those without its credential, and to web pages: by asking it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from deployments.diagnosis.finding import Finding
from deployments.prefect_api.connection import is_cloud, is_local
from deployments.prefect_api.server_auth import ServerAuth

_FOREIGN = "slipway-doctor.invalid"
_SECONDS = 15.0
_REFUSED = frozenset({401, 403})


async def check_exposure(url: str) -> AsyncIterator[Finding]:
    """Check that a server refuses strangers, pages of other sites and names of other hosts.

    Args:
        url: The server's API URL.
    """
    async with httpx.AsyncClient(
        auth=ServerAuth(url), timeout=_SECONDS, trust_env=not is_local(url)
    ) as client:
        yield await _check_credential(client, url)
        if is_cloud(url):  # each request carries a key that no page has
            return
        yield await _check_origin(client, url)
        # Over TLS, a browser refuses a server whose certificate is not for the name it asked for.
        if httpx.URL(url).scheme == "http":
            yield await _check_host(client, url)


async def _check_credential(client: httpx.AsyncClient, url: str) -> Finding:
    thing = "server, without a credential"
    query = {"limit": 1, "include_secrets": False}
    answer = await client.post(f"{url}/block_documents/filter", json=query)
    if answer.status_code in _REFUSED:
        return Finding(thing, f"refuses to read blocks ({answer.status_code})")
    if not answer.is_success:
        return Finding(thing, f"does not read blocks ({answer.status_code})")
    return Finding(
        thing,
        "everybody who reaches it can read the blocks with their secrets, and run commands on the"
        " worker",
        "set PREFECT_SERVER_API_AUTH_STRING on the server, and PREFECT_API_AUTH_STRING for its"
        " clients: docs/operations.md",
    )


async def _check_origin(client: httpx.AsyncClient, url: str) -> Finding:
    thing, origin = "server, page of another site", f"https://{_FOREIGN}"
    answer = await client.get(f"{url}/health", headers={"Origin": origin})
    allowed = answer.headers.get("access-control-allow-origin", "")
    if allowed not in {"*", origin}:
        return Finding(thing, "may not read its answers")
    return Finding(
        thing,
        f"may read its answers (Access-Control-Allow-Origin: {allowed})",
        "set PREFECT_SERVER_CORS_ALLOWED_ORIGINS on the server to the address of its UI",
    )


async def _check_host(client: httpx.AsyncClient, url: str) -> Finding:
    thing = "server, name of another host"
    answer = await client.get(f"{url}/health", headers={"Host": _FOREIGN})
    if not answer.is_success:
        return Finding(thing, f"is refused ({answer.status_code})")
    return Finding(
        thing,
        "warning: it answers to every name, so that a page of another site may pass for its own"
        " (DNS rebinding); reach it over https, or behind a proxy that knows its name",
    )
