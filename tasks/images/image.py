"""The documents of an image: its configuration, its manifest, and the list over its platforms.

They are in Docker's format, not OCI's: every registry, engine and platform accepts it, and only it
has a health check that podman runs too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.images.base import Base
from tasks.images.layers import Layer
from tasks.images.registry import Manifest, sha256

_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"

# The prefix of Slipway's labels.
LABEL = "io.slipway"
FOLDER = "/app"
PACKAGES = f"{FOLDER}/packages"
MODEL = f"{FOLDER}/model"
PORT = 8080
# A number needs no entry in /etc/passwd, and lets Kubernetes see that it is not root.
USER = "65532:65532"
_SECOND = 1_000_000_000
_HEALTHY = (
    "import http.client as h, os, sys;"
    "c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4);"
    "c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"
)


def image_config(
    base: Base,
    layers: Sequence[Layer],
    *,
    names: Sequence[str],
    labels: Mapping[str, str],
    made: datetime,
) -> bytes:
    """Write the configuration from which an engine runs the image.

    Args:
        base: The base image.
        layers: The layers on top of it, bottom first.
        names: A comment for each of these layers.
        labels: Labels of the image.
        made: The commit's time, so that the same commit gives the same image.

    Returns:
        The document: the same bytes for the same arguments.
    """
    moment = made.astimezone(UTC).isoformat()
    environment = base.environment | {
        "PYTHONPATH": f"{FOLDER}:{PACKAGES}",
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",  # noqa: S108  # the user has none, and nothing else can be written
        "SLIPWAY_BUNDLE": MODEL,
        "SLIPWAY_HOST": "0.0.0.0",  # noqa: S104  # the container's own address
        "PORT": str(PORT),
    }
    history = [{"created": moment, "created_by": "slipway", "comment": name} for name in names]
    config = {
        "architecture": base.config["architecture"],
        "os": base.config["os"],
        "created": moment,
        "config": {
            "User": USER,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Entrypoint": ["python3", "-m", "serving"],
            "WorkingDir": FOLDER,
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "StopSignal": "SIGTERM",
            "Labels": dict(labels),
            "Healthcheck": {
                "Test": ["CMD", "python3", "-IS", "-c", _HEALTHY],
                "Interval": 30 * _SECOND,
                "Timeout": 5 * _SECOND,
                "StartPeriod": 60 * _SECOND,
                "Retries": 3,
            },
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [layer.diff_id for layer in (*base.layers, *layers)],
        },
        "history": [*base.config.get("history", []), *history],
    }
    return json.dumps(config, indent=2).encode()


def image_manifest(config: bytes, layers: Sequence[Layer]) -> Manifest:
    """Write the manifest of an image for one platform.

    Args:
        config: Its configuration.
        layers: All of its layers, bottom first.
    """
    return Manifest.of(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, "size": len(config), "digest": sha256(config)},
            "layers": [layer.describe() for layer in layers],
        }
    )


def image_list(manifests: Mapping[str, Manifest]) -> Manifest:
    """Write the list of an image's manifests by platform; of one manifest, return it instead."""
    if len(manifests) == 1:
        return next(iter(manifests.values()))
    entries: list[dict[str, Any]] = []
    for platform, manifest in manifests.items():
        system, architecture = platform.split("/")
        description = {"os": system, "architecture": architecture}
        entries.append({**manifest.describe(), "platform": description})
    return Manifest.of({"schemaVersion": 2, "mediaType": _LIST_TYPE, "manifests": entries})
