"""The variables that the programs of the stack get, and those that they do not."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path

from deployments.catalogue import block_variables
from deployments.local import object_store, processes, signing
from deployments.local.credentials import Credentials
from deployments.local.layout import Layout
from deployments.local.ports import HOST
from deployments.local.supervisor import USERNAME
from tasks.platforms.catalogue import variable
from tasks.repository import git

# What the programs of the stack inherit from whoever starts it, the code of models included:
# tokens and other secrets of a shell are not among it.
_INHERITED = frozenset({
    "HOME", "LANG", "LOGNAME", "PATH", "TZ", "USER", "XDG_CACHE_HOME",
    "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "all_proxy", "http_proxy", "https_proxy", "no_proxy",
})  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "OPENBLAS_")
# What the worker inherits beside that: its settings, and how it reaches a package index and an
# engine.
_FOR_WORKER = frozenset({
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DOCKER_CERT_PATH", "DOCKER_HOST", "DOCKER_TLS_VERIFY",
})  # fmt: skip
_FOR_WORKER_PREFIXES = ("PIP_", "SLIPWAY_", "UV_")
# Another environment or Python is not for uv in flow runs; blocks hold the S3 credentials; the
# marker of a stack that this process may itself be part of belongs to that stack.
_NOT_FOR_WORKER = frozenset(
    {processes.MARKER, "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"} | block_variables.secret_variables()
)


def program_folder() -> Path:
    """Return the folder of the programs of the orchestrator environment."""
    return Path(sys.executable).parent


def base_environment(layout: Layout, credentials: Credentials) -> dict[str, str]:
    """Return what every program of the stack inherits, the model servers too: nothing secret."""
    return {
        **inherit(_INHERITED, _INHERITED_PREFIXES),
        processes.MARKER: credentials.stack,
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(layout.temporary),
    }


def worker_environment(layout: Layout, credentials: Credentials) -> dict[str, str]:
    """Return the variables that flow runs need, beside what every program inherits.

    Returns:
        Where things are, the user's own settings, and how a package index is reached. No S3
        credentials: flows get those from blocks.
    """
    dvc = layout.home / "dvc"
    no_proxy = _no_proxy()
    image_repository = layout.image_repository
    return {
        **{
            name: value
            for name, value in inherit(_FOR_WORKER, _FOR_WORKER_PREFIXES).items()
            if name not in _NOT_FOR_WORKER and not name.startswith(block_variables.PREFIXES)
        },
        **git.IDENTITY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DO_NOT_TRACK": "1",
        "DVC_GLOBAL_CONFIG_DIR": str(dvc / "global"),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SYSTEM_CONFIG_DIR": str(dvc / "system"),
        "GIT_TERMINAL_PROMPT": "0",
        "ITERATIVE_DO_NOT_TRACK": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PATH": os.pathsep.join([str(program_folder()), os.environ.get("PATH", os.defpath)]),
        "PREFECT_API_AUTH_STRING": credentials.prefect,
        # Prefect's clients read all certificates that they trust, also of a server on loopback
        # without TLS: 40 ms of CPU, some twenty times in a retrain. Of this file there is one.
        "PREFECT_API_SSL_CERT_FILE": str(layout.objects / object_store.AUTHORITY),
        "PREFECT_API_URL": layout.prefect_api_url,
        "PREFECT_CLI_COLORS": "false",
        # The stack's server wants no token: `browser_guard` refuses what one protects from.
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        "PREFECT_HOME": str(layout.prefect_home),
        "PREFECT_LOGGING_COLORS": "false",
        # How soon `make demo` shows a line; the default is 2 s.
        "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # The worker polls upon events (`polling.py`), and at this interval whatever comes of them.
        "PREFECT_WORKER_QUERY_SECONDS": "60",
        "SLIPWAY_CHECKOUT": str(layout.checkout),
        "SLIPWAY_GATEWAY": str(layout.routes),
        "SLIPWAY_GATEWAY_API": layout.gateway_api_url,
        "SLIPWAY_HOME": str(layout.home),
        "SLIPWAY_ORIGIN": str(layout.origin),
        "SLIPWAY_SIGNING_KEY_FILE": str(signing.key_file(layout.home)),
        "SLIPWAY_SUPERVISOR_PASSWORD": credentials.supervisor,
        "SLIPWAY_SUPERVISOR_URL": layout.supervisor_url,
        "SLIPWAY_SUPERVISOR_USERNAME": USERNAME,
        "SLIPWAY_TRUST": str(signing.trust_folder(layout.home)),
        "TMPDIR": str(layout.temporary),
        **{variable(name, "port"): str(layout.ports[name]) for name in layout.host_environments},
        **(
            {variable(layout.main_environment, "repository"): image_repository}
            if image_repository
            else {}
        ),
    }


def apply_environment(layout: Layout, credentials: Credentials) -> dict[str, str]:
    """Return the variables with which the stack's Prefect server is made equal to the checkout.

    Returns:
        The worker's, and the secrets that become blocks.
    """
    return {
        **base_environment(layout, credentials),
        **worker_environment(layout, credentials),
        **inherit(block_variables.secret_variables()),
        **layout.storage(credentials).to_environment(),
    }


def inherit(names: Collection[str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the variables of this process with one of these names or beginnings of names."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith(prefixes)
    }


def _no_proxy() -> str:
    """Return the hosts that are reached without the user's web proxy: loopback is among them."""
    loopback = f"{HOST},localhost"
    others = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    return f"{loopback},{others}" if others else loopback
