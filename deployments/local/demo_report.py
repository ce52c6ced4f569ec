"""The last step of the demo: requests for the live model, and the report on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx

from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from tasks.core.errors import TransientError
from tasks.repository.git import Git


def send_golden_rows(url: str, origin: Path, model: str, commit: str) -> int:
    """Send the live model the rows that were saved with it, as a client would.

    Args:
        url: Its public URL.
        origin: The repository of the stack.
        model: Its name.
        commit: Its commit.

    Returns:
        The number of rows.

    Raises:
        TransientError: It does not answer.
    """
    golden = Git(origin)("show", f"{commit}:model/{model}.golden.json")
    rows = json.loads(golden)["inputs"]
    data = {"values": rows} if isinstance(rows[0], Mapping) else rows
    try:
        with httpx.Client(base_url=url, timeout=15, trust_env=False) as client:
            client.post("/predict", json={"data": data}).raise_for_status()
    except httpx.HTTPError as error:
        raise TransientError(
            f"the live model at {url} does not answer its golden rows: {error!r}",
            state="the deploy run has completed",
            next_step=f"open {url}/version, or: slipway status",
        ) from error
    return len(rows)


def start_monitor(api: PrefectAPI, environment: str) -> FlowRun | None:
    """Start the report on the requests of today; None if the environment keeps no log.

    Nothing waits for it. The flow itself waits until the records are in the bucket.
    """
    name = f"monitor/{environment}"
    if api.find_deployment(name) is None:
        return None
    return api.create_run(name, {"window": f"{datetime.now(UTC):%Y-%m-%d}"})
