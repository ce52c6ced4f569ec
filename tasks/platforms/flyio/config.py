"""The configuration of a machine on Fly.io, in the words of the Machines API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.package.package import Package
from tasks.platforms.flyio.settings import FlyioEnvironment

_AUTOSTOP = {
    "off": False,
    "stop": True,
    "suspend": "suspend",
}  # booleans are known to every version
_PER_GB = 1024

CREATED = "created"


def machine_config(
    environment: FlyioEnvironment,
    image: str,
    variables: Mapping[str, str],
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """Describe a machine that serves a model.

    Args:
        environment: Its size, and when it may be stopped.
        image: Its image, by digest.
        variables: Variables of the server.
        metadata: Its labels.

    Returns:
        The `config` of a machine.
    """
    port = environment.internal_port
    # 200 says that the server has verified its bytes and given its golden predictions.
    check = {
        "type": "http", "protocol": "http", "method": "GET", "port": port, "path": "/readyz",
        "interval": "5s", "timeout": "5s", "grace_period": "5s",
    }  # fmt: skip
    return {
        "image": image,
        "env": {**variables, "PORT": str(port)},
        "guest": _guest(environment),
        "metadata": dict(metadata),
        "restart": {"policy": "on-failure", "max_retries": 10},
        # The server gives requests under way 30 s; Fly would give it 5.
        "stop_config": {"signal": "SIGTERM", "timeout": "35s"},
        "metrics": {"port": port, "path": "/metrics"},
        "checks": {"ready": check},
        "services": [
            {
                "protocol": "tcp",
                "internal_port": port,
                "ports": [
                    {"port": 80, "handlers": ["http"], "force_https": True},
                    {"port": 443, "handlers": ["tls", "http"]},
                ],
                "checks": [check],
                "autostart": True,
                "autostop": _AUTOSTOP[environment.auto_stop],
                "min_machines_running": environment.min_machines_running,
            }
        ],
    }


def machine_metadata(
    environment: FlyioEnvironment,
    package: Package,
    *,
    release: str,
    version: str,
    images: Sequence[str],
    created: bool,
) -> dict[str, str]:
    """Label a machine with its release; Fly keeps no other record of releases.

    Args:
        environment: Its environment.
        package: The package that it serves.
        release: Name of the release.
        version: Name of the model version.
        images: Digests of the images of this release and of those before it, newest first.
        created: True if the app was created for the environment.

    Returns:
        The `metadata` of its configuration.
    """
    digests = list(dict.fromkeys(images))[: environment.keep]
    return {
        "fly_process_group": "app",
        "slipway_environment": environment.name,
        "slipway_release": release,
        "slipway_version": version,
        "slipway_model": package.model,
        "slipway_commit": package.commit,
        "slipway_md5": package.md5,
        "slipway_serving": package.serving,
        "slipway_images": ",".join(digests),
        "slipway_app": CREATED if created else "found",
    }


def _guest(environment: FlyioEnvironment) -> dict[str, Any]:
    kind, _, cpus = environment.size.removesuffix("x").rpartition("-")
    amount, unit = environment.memory[:-2], environment.memory[-2:]
    return {
        "cpu_kind": kind.removesuffix("-cpu"),
        "cpus": int(cpus),
        "memory_mb": int(amount) * (_PER_GB if unit == "gb" else 1),
    }
