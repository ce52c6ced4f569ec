"""Making the stack's Prefect server equal to the checkout, unless it already is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from deployments.apply import WITHOUT_SCHEDULES
from deployments.catalogue import prefect_yaml
from deployments.local.credentials import Credentials
from deployments.local.layout import Layout
from deployments.local.worker_environment import apply_environment
from deployments.prefect_api.client import PrefectAPI
from tasks.core.commands import tail
from tasks.core.errors import TransientError

# Nothing is retrained by itself here.
APPLY_OPTIONS = (WITHOUT_SCHEDULES,)
_APPLY_SECONDS = 120.0
_LOG_LINES = 30


def register(
    api: PrefectAPI, layout: Layout, credentials: Credentials, log: Callable[[str], None]
) -> None:
    """Give the Prefect server what the checkout declares, unless it has it.

    Raises:
        TransientError: `slipway apply` failed; has the end of its log.
    """
    environment = apply_environment(layout, credentials)
    expected = prefect_yaml.digest(layout.checkout, environment, APPLY_OPTIONS)
    if prefect_yaml.is_registered(api, prefect_yaml.Manifest.read(layout.checkout), expected):
        return
    log("registering blocks, deployments and automations")
    file = layout.logs / "apply.log"
    # A process of its own, as it imports Prefect; `.env` is for another server, so not read here.
    command = ["-m", "deployments.cli", f"--env-file={os.devnull}", "apply", *APPLY_OPTIONS]
    with file.open("w") as output:
        result = subprocess.run(
            [sys.executable, *command],
            cwd=layout.checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=_APPLY_SECONDS,
            check=False,
        )
    if result.returncode:
        raise TransientError(
            f"registering with Prefect failed; the end of {file}:\n{tail(file, _LOG_LINES)}",
            state="the servers run; some deployments may be missing",
            next_step="fix what the log names, then run the same command again",
        )
    prefect_yaml.mark_registered(api, expected)
