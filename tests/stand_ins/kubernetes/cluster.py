"""A cluster on loopback: API server, controllers and one node with real containers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import kubernetes_validate

from tests.stand_ins.faults import Faults
from tests.stand_ins.front import Front
from tests.stand_ins.kubernetes.controllers import Controllers
from tests.stand_ins.kubernetes.node import Node
from tests.stand_ins.kubernetes.server import Server
from tests.stand_ins.kubernetes.store import Store
from tests.stand_ins.machines import Machines
from tests.stand_ins.serve import serving

TOKEN = "no-secret"
NAMESPACE = "models"
_TICK_SECONDS = 0.05
_REST_SECONDS = 0.3
_REST_AFTER_SECONDS = 3.0


@dataclass(frozen=True)
class StubCluster:
    """The cluster.

    Attributes:
        url: Of its API, as clients reach it.
        server: What answers there.
        faults: The faults of its API.
    """

    url: str
    server: Server
    store: Store
    faults: Faults

    def kubeconfig(self, token: str = TOKEN) -> str:
        """Make the kubeconfig of the cluster."""
        return write_kubeconfig(self.url, token)


def write_kubeconfig(url: str, token: str) -> str:
    """Write a kubeconfig for the cluster."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "me"}}],
        "clusters": [{"name": "tests", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    return json.dumps(kubeconfig)


@contextlib.contextmanager
def serving_api(version: str = "") -> Iterator[StubCluster]:
    """Run a cluster without a node: of the newest version, or one that reports an older one."""
    newest = kubernetes_validate.latest_version()
    store = Store(newest)
    store.create("namespaces", {"apiVersion": "v1", "kind": "Namespace",
                                "metadata": {"name": NAMESPACE}})  # fmt: skip
    server = Server(store, TOKEN, f"v{version or newest}")
    faults = Faults(server.app, error=status)
    controllers = Controllers(store, NAMESPACE)
    with serving(faults) as url, repeated(controllers.step, store):
        yield StubCluster(url, server, store, faults)


@contextlib.contextmanager
def running_cluster(machines: Machines, front: Front) -> Iterator[StubCluster]:
    """Run a cluster with a node that runs containers."""
    with contextlib.ExitStack() as opened:
        stub = opened.enter_context(serving_api())
        # The node's own calls meet no faults.
        inside = opened.enter_context(serving(stub.server.app))
        node = Node(inside, TOKEN, NAMESPACE, machines, front)
        stub.server.log = node.log
        opened.callback(node.close)
        opened.enter_context(repeated(node.step, stub.store))
        yield stub


@contextlib.contextmanager
def repeated(step: Callable[[], None], store: Store) -> Iterator[None]:
    """Call something from a thread: often while objects change, now and then at rest."""
    over = threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        version, changed_at, pause = -1, 0.0, _TICK_SECONDS
        while not over.wait(pause):
            # Each step asks for all objects: a cluster at rest would take a sixth of a core.
            if version != store.version:
                version, changed_at = store.version, time.monotonic()
            at_rest = time.monotonic() - changed_at > _REST_AFTER_SECONDS
            pause = _REST_SECONDS if at_rest else _TICK_SECONDS
            try:
                step()
            except Exception as error:
                errors.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if errors:
            raise errors[0]


def status(code: int) -> dict[str, object]:
    """Make an error in the words of an API server."""
    message = "too many requests" if code == 429 else "etcdserver: request timed out"
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
            "code": code}  # fmt: skip
