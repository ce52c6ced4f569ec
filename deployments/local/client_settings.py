"""`prefect.toml` in the checkout: the local stack's server for every `prefect` command typed there.

Prefect reads it from the working directory. Variables and `.env` win over it, so what names a
server of one's own goes on doing so. It holds the server's credential, so only its owner can read
it, and Git ignores it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from deployments.local.credentials import Credentials, write_private
from deployments.local.layout import Layout

NAME = "prefect.toml"
_FIRST_LINE = "# Written by `make up`, removed by `make down`: the server of the local stack."


def write_settings(layout: Layout, secrets: Credentials, log: Callable[[str], None]) -> None:
    """Name the stack's server to the Prefect commands typed in its checkout.

    A file of the user's own is left as it is.

    Args:
        layout: The stack; one whose folder is elsewhere is not the checkout's own.
        secrets: Its secrets; the file holds that of the Prefect API.
        log: Receives one line on what to type in a shell.
    """
    if not _is_own(layout):
        return
    variables = (
        f"export PREFECT_API_URL={layout.prefect_api_url}, and PREFECT_API_AUTH_STRING, which is"
        f" `prefect` in {layout.home / 'secrets' / 'credentials.json'}"
    )
    if not _may_write(layout.checkout / NAME):
        log(f"{NAME} is a file of yours; for `prefect` commands: {variables}")
        return
    url, login = json.dumps(layout.prefect_api_url), json.dumps(secrets.prefect)
    text = f"{_FIRST_LINE}\n[api]\nurl = {url}\nauth_string = {login}\n"
    write_private(layout.checkout / NAME, text)
    log(f"`.venv/bin/prefect` in this folder uses this server; elsewhere: {variables}")


def remove_settings(layout: Layout) -> None:
    """Remove what `write_settings` wrote, so that other profiles of the user's count again."""
    file = layout.checkout / NAME
    if _is_own(layout) and file.exists() and _may_write(file):
        file.unlink()


def _is_own(layout: Layout) -> bool:
    return layout.home == layout.checkout / ".slipway"


def _may_write(file: Path) -> bool:
    return not file.exists() or file.read_text().startswith(_FIRST_LINE)
