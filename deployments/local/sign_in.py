"""Links that bring a browser to the local Prefect server signed in.

The server gives out a ticket, which works once and for some minutes, and its page `SIGN_IN` takes
it for the credential (`browser_guard.py`). The ticket is in the fragment of the link: a browser
sends that to no server, so it is in no log.
"""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from deployments.local.credentials import write_private
from deployments.prefect_api.server_auth import basic

SIGN_IN = "/slipway/sign-in"
TICKETS = "/slipway/tickets"
_SECONDS = 5.0
_PAGE = "open.html"


def sign_in_url(root: str, login: str, url: str) -> str:
    """Return a link to a page of the server that signs the browser in first.

    Args:
        root: URL of the server.
        login: Its `user:password`.
        url: The page.

    Returns:
        The link; the page itself if it is another server's, or this one does not answer.
    """
    if not url.startswith(f"{root}/") and url != root:
        return url
    headers = {"Authorization": basic(login)}
    try:
        answer = httpx.post(f"{root}{TICKETS}", headers=headers, timeout=_SECONDS, trust_env=False)
        ticket = answer.raise_for_status().text
    except httpx.HTTPError:
        return url
    return f"{root}{SIGN_IN}#{ticket}{url.removeprefix(root) or '/'}"


def write_redirect(folder: Path, url: str) -> Path:
    """Write a page that leads to a link, and return it.

    A browser is started with the page instead of the link: every user of this machine can read the
    arguments of its processes, and might use the ticket first.

    Args:
        folder: Where the page goes.
        url: The link.
    """
    page = folder / _PAGE
    target = json.dumps(url).replace("<", "\\u003c")
    write_private(page, f"<!doctype html><script>location.replace({target})</script>\n")
    return page
