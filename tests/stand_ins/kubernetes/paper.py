"""A node that runs nothing: its pods reach their fate at once."""

from __future__ import annotations

from tests.stand_ins.kubernetes.apply import Object
from tests.stand_ins.kubernetes.store import Store, now

_RELEASE = "io.slipway/release"


class PaperNode:
    """A node on paper.

    Args:
        store: The objects of its cluster.
        namespace: Whose pods it has.

    Attributes:
        fates: State of the container of the pods of a release; ready is who is not in it.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self.fates: dict[str, Object] = {}
        self._store = store
        self._namespace = namespace

    def step(self) -> None:
        """Look at all pods once."""
        with self._store.lock:
            for pod in self._store.list("pods", self._namespace):
                if "deletionTimestamp" in pod["metadata"]:
                    self._store.delete("pods", self._namespace, pod["metadata"]["name"], 0)
                else:
                    self._tell(pod)

    def _tell(self, pod: Object) -> None:
        fate = self.fates.get(pod["metadata"]["labels"][_RELEASE])
        if fate == {}:  # no node has room
            placed = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                      "message": "0/1 nodes are available: 1 Insufficient memory."}  # fmt: skip
            pod["status"] = {"phase": "Pending", "conditions": [placed]}
            return
        before = pod.get("status", {}).get("conditions", [])
        since = next((condition["lastTransitionTime"] for condition in before), now())
        state = fate or {"running": {"startedAt": since}}
        pod["status"] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(not fate), "lastTransitionTime": since}],
            "containerStatuses": [{"name": "server", "state": state, "restartCount": 0}],
        }
