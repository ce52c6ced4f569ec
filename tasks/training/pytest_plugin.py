"""A plugin of pytest for the gate: the fixtures of `tests/model`, for a model that is made already.

It runs in the sandbox, together with the server of the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.core.free_port import find_free_port
from tasks.training.model_under_test import Served, Trained
from tasks.training.pytest_plugin_names import BUNDLE, PORT, RESULTS, SERVER

_READY_SECONDS = 180.0
_failed: list[str] = []


def pytest_runtest_logreport(report: Any) -> None:
    """Note a test that fails, or whose fixtures do."""
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write which tests have failed."""
    Path(tempfile.gettempdir(), RESULTS).write_text(json.dumps(_failed))


@pytest.fixture(scope="session")
def trained() -> Trained:
    """Return the files of the model."""
    return Trained(Path.cwd())


@pytest.fixture(scope="session")
def served(trained: Trained) -> Iterator[Served]:
    """Yield the model behind its real server."""
    port = find_free_port()
    argv = [str(port) if word == PORT else word for word in json.loads(os.environ[SERVER])]
    environment = {**os.environ, "PYTHONPATH": os.environ[BUNDLE]}
    url = f"http://127.0.0.1:{port}"
    with (
        subprocess.Popen(argv, env=environment) as process,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        try:
            _wait_until_ready(client, process)
            yield Served(url, trained.features, lambda path, body: client.post(path, json=body))
        finally:
            process.terminate()


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)  # it does not listen yet
    pytest.fail("the server of the model did not get ready", pytrace=False)
