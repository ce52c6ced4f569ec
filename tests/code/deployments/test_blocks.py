"""`python -m deployments.blocks`, as error messages and docs name it."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx

from deployments import blocks
from deployments.api import PrefectAPI
from deployments.stack import Stack
from tasks.settings import CHECKOUT


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", blocks.PREFIX))
    }
    return subprocess.run(
        [sys.executable, "-m", "deployments.blocks"],
        cwd=CHECKOUT,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_registers_the_blocks_and_tells_no_secret(stack: Stack) -> None:
    with (
        PrefectAPI(stack.prefect_api_url) as api,
        httpx.Client(base_url=stack.prefect_api_url, trust_env=False) as client,
    ):
        found = client.post("/block_documents/filter", json={}).json()
        for each in found:
            if each["name"] == blocks.RESULTS:
                client.delete(f"/block_documents/{each['id']}").raise_for_status()
        assert not api.blocks() >= blocks.NAMES
        done = run(
            **stack.storage.to_environment(),
            PREFECT_API_URL=stack.prefect_api_url,
            PREFECT_HOME=str(stack.home / "prefect"),
        )
        assert done.returncode == 0, done.stderr
        assert api.blocks() >= blocks.NAMES
    for word in (*blocks.NAMES, stack.prefect_api_url, stack.storage.bucket):
        assert word in done.stdout
    for identity in (stack.storage.read_write, stack.storage.read):
        assert identity.secret not in done.stdout + done.stderr


def test_every_missing_variable_is_named() -> None:
    refused = run(SLIPWAY_S3_BUCKET="b", SLIPWAY_S3_READ_KEY_ID="k")
    assert refused.returncode != 0
    missing = {"READ_WRITE_KEY_ID", "READ_WRITE_SECRET", "READ_SECRET"}
    for name in missing:
        assert blocks.PREFIX + name in refused.stderr
    assert "SLIPWAY_S3_BUCKET" not in refused.stderr


def test_without_a_server_nothing_is_registered_anywhere(stack: Stack) -> None:
    variables = stack.storage.to_environment()
    home = str(stack.home / "no-profile")
    refused = run(**variables, PREFECT_HOME=home)
    assert refused.returncode != 0
    assert "PREFECT_API_URL" in refused.stderr
    unanswered = run(**variables, PREFECT_HOME=home, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert unanswered.returncode != 0
    assert "Next:" in unanswered.stderr
    assert "Traceback" not in unanswered.stderr
