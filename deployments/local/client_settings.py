"""`prefect.toml` in the checkout: the local stack's server for every `prefect` command typed there.

Prefect reads it from the working directory. Variables and `.env` win over it, so what names a
server of one's own goes on doing so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from deployments.local.layout import Layout

NAME = "prefect.toml"
_FIRST_LINE = "# Written by `make up`, removed by `make down`: the server of the local stack."


def write_settings(layout: Layout, log: Callable[[str], None]) -> None:
    """Name the stack's server to the Prefect commands typed in its checkout.

    A file of the user's own is left as it is.

    Args:
        layout: The stack; one whose folder is elsewhere is not the checkout's own.
        log: Receives one line on what to type in a shell.
    """
    variable = f"export PREFECT_API_URL={layout.prefect_api_url}"
    if not _is_own(layout):
        return
    if not _may_write(layout.checkout / NAME):
        log(f"{NAME} is a file of yours; for `prefect` commands: {variable}")
        return
    text = f"{_FIRST_LINE}\n[api]\nurl = {json.dumps(layout.prefect_api_url)}\n"
    draft = layout.home / f"{NAME}.draft"
    draft.write_text(text)
    draft.replace(layout.checkout / NAME)
    log(f"`.venv/bin/prefect` in this folder uses this server; elsewhere: {variable}")


def remove_settings(layout: Layout) -> None:
    """Remove what `write_settings` wrote, so that other profiles of the user's count again."""
    file = layout.checkout / NAME
    if _is_own(layout) and file.exists() and _may_write(file):
        file.unlink()


def _is_own(layout: Layout) -> bool:
    return layout.home == layout.checkout / ".slipway"


def _may_write(file: Path) -> bool:
    return not file.exists() or file.read_text().startswith(_FIRST_LINE)
