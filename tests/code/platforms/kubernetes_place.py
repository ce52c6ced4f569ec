"""A namespace of a Kubernetes cluster to release to: that of the stand-in, or one of your own.

`SLIPWAY_TEST_KUBECONFIG` is the file that says where your cluster is, `SLIPWAY_TEST_NAMESPACE` a
namespace in it (default: `slipway-test`), `SLIPWAY_TEST_REPOSITORY` where images are pushed that
its nodes can pull, `SLIPWAY_TEST_BASE` what they are built upon, and `SLIPWAY_TEST_URL` where port
30080 of a node is reached from here.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import TerminalError
from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.platforms.kubernetes import cluster, manifests
from tasks.platforms.kubernetes.access import Access
from tasks.platforms.kubernetes.cluster import Cluster, Kind, connect
from tasks.platforms.kubernetes.manifests import APPLIED
from tasks.platforms.kubernetes.settings import KubernetesEnvironment
from tasks.platforms.kubernetes.workload import KINDS
from tests.code.platforms.places import RemotePlace
from tests.containers import SECONDS
from tests.stand_ins.faults import Faults
from tests.stand_ins.faults import Kind as Fault
from tests.stand_ins.front import run_front
from tests.stand_ins.kubernetes.cluster import (
    NAMESPACE,
    TOKEN,
    running_cluster,
    status,
    write_kubeconfig,
)
from tests.stand_ins.kubernetes.relay import Relay
from tests.stand_ins.machines import Machines
from tests.stand_ins.serve import serving

OWN_CLUSTER = os.environ.get("SLIPWAY_TEST_KUBECONFIG", "")
_NAME = "slipway-kubernetes"
_BLOCKS = {"slipway-kubeconfig": TOKEN, "slipway-wrong-token": "wrong"}


class KubernetesPlace(RemotePlace):
    """Objects in a namespace, and images in a registry."""

    environment: KubernetesEnvironment
    wrong_credentials = (
        {"kubeconfig_block": "slipway-wrong-token"},
        "refuses the credentials in block secret/slipway-wrong-token",
    )

    def __init__(self, environment: KubernetesEnvironment, faults: Faults, api: str) -> None:
        super().__init__(environment, faults)
        path = f"/apis/apps/v1/namespaces/{environment.namespace}/deployments/{_NAME}"
        self.necessary_calls = (f"PATCH {path}",)
        self.repository = Repository(parse_reference(environment.repository))
        self._api = api

    def cluster(self) -> Cluster:
        """Connect to the cluster as its user."""
        kubeconfig = write_kubeconfig(self._api, TOKEN)
        return connect(Access("", ""), kubeconfig, self.environment.namespace)

    def list(self, kind: Kind) -> list[Any]:
        """List the objects of a kind."""
        return self.cluster().list(kind, manifests.labels(self.environment))

    def scale(self, replicas: int) -> None:
        """Set the number of replicas, as a person would."""
        manifest = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": _NAME, "namespace": self.environment.namespace},
            "spec": {"replicas": replicas},
        }
        self.cluster().apply(Kind.DEPLOYMENT, manifest, "somebody")

    def clear(self) -> None:
        """Remove everything from a cluster that is not ours."""
        for kind in (*KINDS, Kind.POD):
            for item in self.list(kind):
                self.cluster().delete(kind, item["metadata"]["name"])

    def _servers(self) -> list[str]:
        return sorted(
            pod["metadata"]["labels"]["pod-template-hash"]
            for pod in self.list(Kind.POD)
            if pod["metadata"]["labels"][manifests.COMPONENT] == manifests.SERVER
        )

    def _snapshot(self) -> dict[str, Any]:
        deployments = self.list(Kind.DEPLOYMENT)
        return {
            "servers": self._servers(),
            "replicas": [item["spec"]["replicas"] for item in deployments],
            "kept": sorted(item["metadata"]["name"] for item in self.list(Kind.REPLICA_SET)),
            "pods": len(self.list(Kind.POD)),
            "secrets": sorted(item["metadata"]["name"] for item in self.list(Kind.SECRET)),
            "applied": {
                kind.value: json.loads(item["metadata"]["annotations"][APPLIED])
                for kind in KINDS
                for item in self.list(kind)
            },
            "tags": self.repository.tags(),
        }

    def _break(self) -> None:
        self.scale(0)
        deadline = time.monotonic() + SECONDS
        while self._servers():
            assert time.monotonic() < deadline, "the pods stay"
            time.sleep(0.1)


class _Faults(Faults):
    """Faults; while calls hang, nobody waits for them as long as usual."""

    _usual = cluster._SECONDS

    def fail_each_call(self, *kinds: Fault) -> None:
        super().fail_each_call(*kinds)
        cluster._SECONDS = 1.0 if "hang" in kinds else self._usual

    def clear(self) -> None:
        super().clear()
        cluster._SECONDS = self._usual


@contextlib.contextmanager
def running_kubernetes(folder: Path, engine: str, registry: str) -> Iterator[KubernetesPlace]:
    """Remove everything from a cluster that is not ours."""
    with contextlib.ExitStack() as opened:
        front = opened.enter_context(run_front(folder))
        machines = Machines(engine, f"kubernetes-{os.getpid()}")
        opened.callback(machines.close)
        stub = opened.enter_context(running_cluster(machines, front))
        environment = KubernetesEnvironment(
            url=front.url,
            repository=f"{registry}/wine-kubernetes",
            base=f"{registry}/python:{{python}}-slim",
            namespace=NAMESPACE,
            **_common(),
        )
        yield opened.enter_context(_reached(environment, stub.server.app))


@contextlib.contextmanager
def own_kubernetes() -> Iterator[KubernetesPlace]:
    """Use a cluster of your own."""
    environment = KubernetesEnvironment(
        url=os.environ["SLIPWAY_TEST_URL"],
        repository=os.environ["SLIPWAY_TEST_REPOSITORY"],
        base=os.environ.get("SLIPWAY_TEST_BASE", "python:{python}-slim"),
        namespace=os.environ.get("SLIPWAY_TEST_NAMESPACE", "slipway-test"),
        create_namespace=True,
        service_type="NodePort",
        node_port=30080,
        **_common(),
    )
    with _reached(environment, Relay(Path(OWN_CLUSTER), TOKEN).app) as place:
        try:
            yield place
        finally:
            with contextlib.suppress(TerminalError):
                place.clear()


def _common() -> dict[str, Any]:
    return {
        "name": "kubernetes",
        "target": "kubernetes",
        "kubeconfig_block": "slipway-kubeconfig",
        "replicas": 1,
        "ready_seconds": 180,  # of a machine that does much else
        "steady_seconds": 1,
        "drain_seconds": 1,
        "soak_seconds": 0.3,
        "keep": 2,
    }


@contextlib.contextmanager
def _reached(environment: KubernetesEnvironment, app: Any) -> Iterator[KubernetesPlace]:
    faults = _Faults(app, error=status)
    with serving(faults) as api, pytest.MonkeyPatch.context() as patch:

        async def read_secret(block: str) -> Any:  # there is no Prefect server
            return write_kubeconfig(api, _BLOCKS[block])

        patch.setattr("tasks.platforms.kubernetes.access.read_secret", read_secret)
        yield KubernetesPlace(environment, faults, api)
