"""The pod of an environment as a part of manifests: probes, limits and rights; pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.images.image import PORT, USER
from tasks.platforms.kubernetes.settings import KubernetesEnvironment

_USER, _GROUP = map(int, USER.split(":"))
_PROBE_SECONDS = 2
_TIMEOUT_SECONDS = 5


def pod_spec(
    environment: KubernetesEnvironment,
    name: str,
    image: str,
    variables: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Make the specification of a pod with one container.

    Args:
        name: Name of the container.
        image: Its image, by digest.
        variables: Its variables, as `env` of a container.
    """
    ready, up = ({"path": path, "port": "http"} for path in ("/readyz", "/healthz"))
    often = {"periodSeconds": _PROBE_SECONDS, "timeoutSeconds": _TIMEOUT_SECONDS}
    tries = math.ceil(environment.ready_seconds / _PROBE_SECONDS)
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "env": list(variables),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # A pod is ready only after it has replayed the golden predictions, so no other gets
        # traffic.
        "startupProbe": {"httpGet": ready, **often, "failureThreshold": tries},
        "readinessProbe": {"httpGet": ready, **often, "failureThreshold": 3},
        "livenessProbe": {
            "httpGet": up,
            "periodSeconds": 10,
            "timeoutSeconds": _TIMEOUT_SECONDS,
            "failureThreshold": 3,
        },
        "resources": {
            "requests": {"cpu": environment.cpu, "memory": environment.memory},
            "limits": {"cpu": environment.cpu_limit, "memory": environment.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        # Else a service called `slipway` would set SLIPWAY_PORT.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _GROUP,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    if environment.pull_secret:
        spec["imagePullSecrets"] = [{"name": environment.pull_secret}]
    return spec


def drain_command(environment: KubernetesEnvironment) -> list[str]:
    """Make the command that lets a server drain (`serving/draining.py`) before it is ended."""
    drain = "os.kill(1, signal.SIGUSR1)"
    code = f"import os, signal, time; {drain}; time.sleep({environment.drain_seconds})"
    return ["python3", "-IS", "-c", code]  # every image has this, and not every one a shell


def prefer_apart(ours: Mapping[str, str]) -> dict[str, Any]:
    """Prefer different nodes and zones; not required, since there may be one node."""
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": weight,
                "podAffinityTerm": {
                    "topologyKey": key,
                    "labelSelector": {"matchLabels": dict(ours)},
                },
            }
            for key, weight in (
                ("kubernetes.io/hostname", 100),
                ("topology.kubernetes.io/zone", 50),
            )
        ]
    }
