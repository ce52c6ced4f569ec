"""The manifests of an environment in a Kubernetes cluster: pure functions.

They contain only fields that Slipway decides, in words that every server from 1.20 on knows. Other
fields belong to the server or to somebody else, and stay as they are (server-side apply).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.images.image import LABEL, PORT
from tasks.package.package import Package
from tasks.platforms.kubernetes.pod import drain_command, pod_spec, prefer_apart
from tasks.platforms.kubernetes.settings import KubernetesEnvironment

Manifest = dict[str, Any]

RELEASE = f"{LABEL}/release"
APPLIED = f"{LABEL}/applied"
COMPONENT = "app.kubernetes.io/component"
SERVER, PREFLIGHT = "server", "preflight"
# Where no operator says what to scrape, Prometheus' configurations for Kubernetes go by these.
_SCRAPE = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(PORT),
    "prometheus.io/path": "/metrics",
}
_SHUTDOWN_SECONDS = 35  # more than the 30 s that a server gives the requests under way


@dataclass(frozen=True)
class Released:
    """The contents of a release.

    Attributes:
        release: Name of the release.
        version: Name of the model version, empty for a preflight.
        image: Its image, by digest.
        variables: Variables of the server.
        secrets: Secret variables of the server; their values are in a Secret alone.
    """

    release: str
    version: str
    package: Package
    image: str
    variables: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def notes(self) -> dict[str, str]:
        """Its facts as annotations, the platform's record of the release."""
        facts = {
            "release": self.release,
            "version": self.version,
            "model": self.package.model,
            "commit": self.package.commit,
            "md5": self.package.md5,
            "serving": self.package.serving,
        }
        return {f"{LABEL}/{name}": value for name, value in facts.items()}


def object_name(environment: KubernetesEnvironment) -> str:
    """Name the objects of an environment."""
    return f"slipway-{environment.name}"


def labels(environment: KubernetesEnvironment) -> dict[str, str]:
    """Return the labels of all objects of an environment."""
    return {
        "app.kubernetes.io/managed-by": "slipway",
        "app.kubernetes.io/instance": environment.name,
    }


def secret_name(environment: KubernetesEnvironment, release: str) -> str:
    """Name the Secret of a release; each has its own, so that a rollback finds its values."""
    return f"{object_name(environment)}-{release.lower()}"


def secret(environment: KubernetesEnvironment, released: Released) -> Manifest | None:
    """Make the Secret with a release's secret variables; None if it has none."""
    if not released.secrets:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": secret_name(environment, released.release),
            "namespace": environment.namespace,
            "labels": {**labels(environment), RELEASE: released.release},
        },
        "data": {
            name: base64.b64encode(value.encode()).decode()
            for name, value in released.secrets.items()
        },
    }


def deployment(environment: KubernetesEnvironment, released: Released) -> Manifest:
    """Make the Deployment: each old pod is replaced only after a new one is ready."""
    ours = {**labels(environment), COMPONENT: SERVER}
    pod = _pod(environment, released)
    pod["terminationGracePeriodSeconds"] = termination_seconds(environment)
    pod["containers"][0]["lifecycle"] = {
        "preStop": {"exec": {"command": drain_command(environment)}}
    }
    pod["affinity"] = {"podAntiAffinity": prefer_apart(ours)}
    spec: Manifest = {
        "selector": {"matchLabels": ours},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
        },
        "minReadySeconds": environment.steady_seconds,
        "progressDeadlineSeconds": progress_seconds(environment),
        "revisionHistoryLimit": environment.keep,
        "template": {
            "metadata": {
                "labels": {**ours, RELEASE: released.release},
                "annotations": {**released.notes, **_SCRAPE},
            },
            "spec": pod,
        },
    }
    if not environment.autoscale:  # else the number is the autoscaler's
        spec["replicas"] = environment.replicas
    return _manifest(environment, "apps/v1", "Deployment", spec)


def preflight_pod(environment: KubernetesEnvironment, released: Released) -> Manifest:
    """Make a pod as it would serve, outside the service; it ends by itself if it is forgotten."""
    pod = _pod(environment, released)
    pod["restartPolicy"] = "Never"
    pod["terminationGracePeriodSeconds"] = 1
    pod["activeDeadlineSeconds"] = 2 * progress_seconds(environment)
    manifest = _manifest(environment, "v1", "Pod", pod)
    manifest["metadata"]["name"] += f"-preflight-{released.release.lower()}"
    manifest["metadata"]["labels"] |= {COMPONENT: PREFLIGHT, RELEASE: released.release}
    return manifest


def service(environment: KubernetesEnvironment) -> Manifest:
    """Make the Service, one address for the pods that are ready."""
    port: Manifest = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}
    if environment.node_port:
        port["nodePort"] = environment.node_port
    spec = {
        "type": environment.service_type,
        "selector": {**labels(environment), COMPONENT: SERVER},
        "ports": [port],
    }
    return _manifest(environment, "v1", "Service", spec)


def disruption_budget(environment: KubernetesEnvironment, version: str) -> Manifest:
    """Make the disruption budget: drained nodes evict one pod at a time, even a lone one."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {**labels(environment), COMPONENT: SERVER}},
    }
    return _manifest(environment, version, "PodDisruptionBudget", spec)


def ingress(environment: KubernetesEnvironment) -> Manifest | None:
    """Make the Ingress; None without a host name."""
    if not environment.ingress_host:
        return None
    backend = {"service": {"name": object_name(environment), "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    host = environment.ingress_host
    spec: Manifest = {"rules": [{"host": host, "http": {"paths": [path]}}]}
    if environment.ingress_class:
        spec["ingressClassName"] = environment.ingress_class
    if environment.ingress_tls:
        spec["tls"] = [{"hosts": [host], "secretName": environment.ingress_tls}]
    return _manifest(environment, "networking.k8s.io/v1", "Ingress", spec)


def autoscaler(environment: KubernetesEnvironment) -> Manifest | None:
    """Make the autoscaler; None if the environment sets the number of replicas."""
    if not environment.autoscale:
        return None
    spec = {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": object_name(environment),
        },
        "minReplicas": environment.autoscale.min,
        "maxReplicas": environment.autoscale.max,
        "targetCPUUtilizationPercentage": environment.autoscale.cpu,
    }
    return _manifest(environment, "autoscaling/v1", "HorizontalPodAutoscaler", spec)


def namespace(environment: KubernetesEnvironment) -> Manifest:
    """Make the namespace, for environments that may create theirs."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": environment.namespace}}


def record_manifest(manifest: Manifest) -> Manifest:
    """Add the manifest itself as an annotation, so that it can be applied again.

    A Deployment hands this on to its ReplicaSets: each has the manifest that it was made from.
    """
    metadata = manifest["metadata"]
    notes = {**metadata.get("annotations", {}), APPLIED: json.dumps(manifest, sort_keys=True)}
    return {**manifest, "metadata": {**metadata, "annotations": notes}}


def _pod(environment: KubernetesEnvironment, released: Released) -> Manifest:
    variables = _variables(environment, released)
    return pod_spec(environment, SERVER, released.image, variables)


def _variables(environment: KubernetesEnvironment, released: Released) -> list[Manifest]:
    source = secret_name(environment, released.release)
    # A node reads `$(NAME)` as another variable, and `$$` as `$`.
    plain = [
        {"name": name, "value": value.replace("$", "$$")}
        for name, value in released.variables.items()
    ]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": source, "key": name}}}
        for name in released.secrets
    ]
    return [*plain, *secret]


def progress_seconds(environment: KubernetesEnvironment) -> int:
    """Return the seconds that a rollout may go without progress."""
    return (
        environment.schedule_seconds
        + math.ceil(environment.ready_seconds)
        + environment.steady_seconds
    )


def termination_seconds(environment: KubernetesEnvironment) -> int:
    """Return the seconds that a pod may take to end."""
    return environment.drain_seconds + _SHUTDOWN_SECONDS


def _manifest(
    environment: KubernetesEnvironment, version: str, kind: str, spec: Manifest
) -> Manifest:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": object_name(environment),
            "namespace": environment.namespace,
            "labels": labels(environment),
        },
        "spec": spec,
    }
