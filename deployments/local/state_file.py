"""`stack.json`: what a stack remembers between two starts, and what other programs read of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.local import object_store
from deployments.local.layout import Layout

NAME = "stack.json"
_FIRST_MAIN_ENVIRONMENT = "local"


def read_layout(home: Path, checkout: Path, main_environment: str | None = None) -> Layout:
    """Read the layout of a stack, as its last start left it.

    Args:
        home: Folder of the stack; may not exist.
        checkout: The checkout whose flows the worker runs.
        main_environment: Where a push to main deploys to; by default where it has so far.

    Returns:
        The layout; without ports if the stack has never been up.
    """
    try:
        remembered: dict[str, Any] = json.loads((home / NAME).read_text())
    except (OSError, ValueError):
        remembered = {}
    return Layout(
        home=home,
        checkout=checkout,
        ports=remembered.get("ports", {}),
        main_environment=main_environment
        or remembered.get("main_environment", _FIRST_MAIN_ENVIRONMENT),
    )


def write_ports(layout: Layout) -> None:
    """Write what the next start must know, before any program listens."""
    _replace(layout.home / NAME, _memory(layout))


def write_description(layout: Layout, pids: Mapping[str, int]) -> None:
    """Write where everything is, and no secret.

    Args:
        layout: The stack.
        pids: Process ids of the running programs, by name.
    """
    description = {
        **_memory(layout),
        "prefect_api_url": layout.prefect_api_url,
        "prefect_ui_url": layout.prefect_ui_url,
        "s3_endpoint_url": layout.s3_endpoint_url,
        "bucket": object_store.BUCKET,
        "origin": str(layout.origin),
        "models": {name: layout.model_url(name) for name in layout.host_environments},
        "supervisor_url": layout.supervisor_url,
        "gateway_api_url": layout.gateway_api_url,
        "pids": dict(pids),
    }
    _replace(layout.home / NAME, description)


def _memory(layout: Layout) -> dict[str, Any]:
    return {"ports": dict(layout.ports), "main_environment": layout.main_environment}


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)
