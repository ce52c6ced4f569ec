"""The node of a cluster: runs its pods in containers, probes them, and leads the traffic to those
that are ready. It asks the API server for all it knows, so it serves any API server.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import docker
import httpx

from tests.stand_ins.front import Front
from tests.stand_ins.kubernetes.apply import Object
from tests.stand_ins.machines import Machine, Machines

_TICK_SECONDS = 0.1
_READY_SECONDS = 0.3  # between looks at a pod that is ready: each is a call of the engine
_BACKOFF_SECONDS = 0.5
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


class Node:
    """The one node of a cluster.

    Args:
        url: Of the API server.
        token: Who the node is.
        namespace: Whose pods it runs.
        machines: Where their containers are.
        front: The way in from outside: what the Service of the namespace leads to.
    """

    def __init__(
        self, url: str, token: str, namespace: str, machines: Machines, front: Front
    ) -> None:
        self._api = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20,
            trust_env=False, verify=False,
        )  # fmt: skip
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._services = f"/api/v1/namespaces/{namespace}/services"
        self._machines = machines
        self._front = front
        self._led: list[str] = []
        self._run: dict[str, _Pod] = {}

    def log(self, name: str) -> str:
        """Return the log of a pod."""
        for pod in self._run.values():
            if pod.name == name and pod.machine:
                return self._machines.logs(pod.machine)
        return ""

    def step(self) -> None:
        """Look at all pods and services once."""
        pods = self._list(self._pods)
        self._lead(pods)
        # Only now: nobody is sent to what is told to end.
        for pod in pods:
            uid, metadata = pod["metadata"]["uid"], pod["metadata"]
            if uid not in self._run and "deletionTimestamp" in metadata:
                self.let_go(metadata["name"])
            elif uid not in self._run:
                self._take(pod)
            elif "deletionTimestamp" in metadata:
                self._run[uid].end.set()
        for uid in self._run.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._run.pop(uid).end.set()

    def close(self) -> None:
        """Let go of all pods."""
        for pod in self._run.values():
            pod.end.set()
        for pod in self._run.values():
            pod.thread.join()
        self._api.close()

    def _list(self, path: str) -> list[Object]:
        return list(self._api.get(path).raise_for_status().json()["items"])

    def _lead(self, pods: list[Object]) -> None:
        selectors = [service["spec"].get("selector") for service in self._list(self._services)]
        urls = []
        for pod in pods:
            running = self._run.get(pod["metadata"]["uid"])
            labels = pod["metadata"].get("labels", {}).items()
            chosen = any(selector and selector.items() <= labels for selector in selectors)
            ending = "deletionTimestamp" in pod["metadata"]
            if running and running.machine and running.ready and chosen and not ending:
                urls.append(running.machine.url)
        if sorted(urls) != self._led:
            self._led = sorted(urls)
            self._front.lead_to(urls)

    def _take(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if not pod["spec"].get("nodeName"):
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                       "target": {"kind": "Node", "name": "node"}}  # fmt: skip
            self._api.post(f"{self._pods}/{name}/binding", json=binding).raise_for_status()
        self._run[pod["metadata"]["uid"]] = _Pod(self, self._machines, pod)

    def tell(self, name: str, status: Mapping[str, Any]) -> None:
        """Say how a pod is."""
        self._api.patch(
            f"{self._pods}/{name}/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def variables(self, declared: list[Object]) -> dict[str, str]:
        """Return the variables of a container, secret ones from their Secrets."""
        values: dict[str, str] = {}
        for variable in declared:
            plain = variable.get("value")
            content = self._secret(variable) if plain is None else _expand(plain, values)
            values[variable["name"]] = content
        return values

    def _secret(self, variable: Object) -> str:
        source = variable["valueFrom"]["secretKeyRef"]
        path = f"{self._pods.removesuffix('/pods')}/secrets/{source['name']}"
        data = self._api.get(path).raise_for_status().json()["data"]
        return base64.b64decode(data[source["key"]]).decode()

    def let_go(self, name: str) -> None:
        """Say that a pod has ended."""
        self._api.delete(f"{self._pods}/{name}", params={"gracePeriodSeconds": 0})


def _expand(value: str, earlier: Mapping[str, str]) -> str:
    """Put earlier variables for their names: `$(NAME)`; `$$` is a dollar sign."""

    def content(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else earlier.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", content, value)


class _Pod:
    """A pod that runs, with a thread of its own."""

    def __init__(self, node: Node, machines: Machines, pod: Object) -> None:
        self.name = pod["metadata"]["name"]
        self.machine: Machine | None = None
        self.ready = False
        self.end = threading.Event()
        self._node = node
        self._machines = machines
        self._spec = pod["spec"]
        (self._container,) = pod["spec"]["containers"]
        self._restarts = 0
        self._last: Object = {}
        self._since = _now()
        self.thread = threading.Thread(target=self._live)
        self.thread.start()

    def _live(self) -> None:
        try:
            if self._start():
                self._watch()
            else:
                self.end.wait()
        finally:
            self._stop()

    def _start(self) -> bool:
        self._tell("Pending", {"waiting": {"reason": "ContainerCreating"}})
        try:
            self.machine = self._machines.start(
                self._container["image"],
                self._node.variables(self._container["env"]),
                **_options(self._spec, self._container),
            )
        except docker.errors.APIError as error:
            waiting = {"reason": "ImagePullBackOff", "message": str(error.explanation)}
            self._tell("Pending", {"waiting": waiting})
            return False
        self._tell("Running", {"running": {"startedAt": _now()}})
        return True

    def _watch(self) -> None:
        """Probe it, and start it again whenever it ends."""
        assert self.machine
        started = time.monotonic()
        probe = self._container["startupProbe"]
        patience = probe["failureThreshold"] * probe["periodSeconds"]
        path = self._container["readinessProbe"]["httpGet"]["path"]
        while not self.end.wait(_READY_SECONDS if self.ready else _TICK_SECONDS):
            if not self._machines.runs(self.machine):
                if not self._begin_again():
                    self.end.wait()
                    return
                started = time.monotonic()
            elif self.ready:
                continue
            elif self.machine.answers(path):
                self.ready, self._since = True, _now()
                self._tell("Running", {"running": {"startedAt": _now()}})
            elif time.monotonic() - started > patience:
                self._machines.kill(self.machine)
                started = time.monotonic()

    def _begin_again(self) -> bool:
        """Start it again after it has ended, if it is to be."""
        assert self.machine
        termination = {"terminated": {"exitCode": self._machines.exit_code(self.machine),
                                "reason": "Error"}}  # fmt: skip
        self.ready, self._since = False, _now()
        if self._spec.get("restartPolicy") == "Never":
            self._tell("Failed", termination)
            return False
        self._restarts, self._last = self._restarts + 1, termination
        self._tell("Running", {"waiting": {"reason": "CrashLoopBackOff"}})
        if self.end.wait(_BACKOFF_SECONDS):
            return False
        self._machines.restart(self.machine)
        self._tell("Running", {"running": {"startedAt": _now()}})
        return True

    def _stop(self) -> None:
        if self.machine:
            hook = self._container.get("lifecycle", {}).get("preStop")
            if hook:
                self._machines.execute(self.machine, hook["exec"]["command"])
            grace = self._spec.get("terminationGracePeriodSeconds", 30)
            self._machines.stop(self.machine, grace)
            self._machines.remove(self.machine)
        self._node.let_go(self.name)

    def _tell(self, phase: str, state: Object) -> None:
        image = self._container["image"]
        container = {
            "name": self._container["name"], "image": image, "imageID": image,
            "ready": self.ready, "restartCount": self._restarts, "state": state,
            "lastState": self._last,
        }  # fmt: skip
        conditions = [
            {"type": kind, "status": str(value), "lastTransitionTime": self._since}
            for kind, value in (
                ("PodScheduled", True),
                ("ContainersReady", self.ready),
                ("Ready", self.ready),
            )
        ]
        status = {"phase": phase, "conditions": conditions, "containerStatuses": [container]}
        self._node.tell(self.name, status)


def _options(spec: Object, container: Object) -> dict[str, Any]:
    """Translate a pod's limits and rights for an engine."""
    who, may = spec["securityContext"], container["securityContext"]
    limits = container["resources"]["limits"]
    return {
        "user": f"{who['runAsUser']}:{who['runAsGroup']}",
        "read_only": may["readOnlyRootFilesystem"],
        "cap_drop": may["capabilities"]["drop"],
        "security_opt": [f"no-new-privileges:{str(not may['allowPrivilegeEscalation']).lower()}"],
        "tmpfs": {mount["mountPath"]: "" for mount in container["volumeMounts"]},
        "mem_limit": _bytes(limits["memory"]),
        "nano_cpus": int(_processors(limits["cpu"]) * 1e9),
    }


def _bytes(text: str) -> int:
    digits = text.rstrip("kMGi")
    return int(digits) * _UNITS.get(text[len(digits) :], 1)


def _processors(text: str) -> float:
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
