"""Settings of a repository on its site, read with a token that may not be allowed to."""

from __future__ import annotations

from typing import Any

import httpx

KEY = "PREFECT_API_KEY"
_PAGE = {"per_page": "100"}


async def read_settings(client: httpx.AsyncClient, path: str, site: str) -> Any:
    """Return the site's answer, or a text why there is none, which is no fault of the set-up."""
    try:
        response = await client.get(path, params=_PAGE)
    except httpx.HTTPError as error:
        return f"not checked: {site} does not answer: {error}"
    if response.is_error:
        return f"not checked: the worker's token may not read them ({response.status_code})"
    return response.json()
