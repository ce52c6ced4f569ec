"""The controllers of a cluster: Deployments make ReplicaSets, which make pods; orphans go."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
import string
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.stand_ins.kubernetes.apply import Object
from tests.stand_ins.kubernetes.store import Store, now

_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"
_TOTALS = ("replicas", "readyReplicas", "availableReplicas")


class Controllers:
    """The controllers, which move objects to their desired state, one step at each call of `step`.

    Args:
        namespace: Where they are.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._moved: dict[str, tuple[tuple[int, ...], float]] = {}

    def step(self) -> None:
        """Look at all objects once."""
        with self._store.lock:
            self._store.collect()
            for autoscaler in self._list("horizontalpodautoscalers"):
                self._scale(autoscaler)
            self._fill_all()  # so that Deployments count the pods that there are
            for deployment in self._list("deployments"):
                self._roll(deployment)
            self._fill_all()

    def _scale(self, autoscaler: Object) -> None:
        target = autoscaler["spec"]["scaleTargetRef"]["name"]
        deployment = self._store.find("deployments", self._namespace, target)
        if deployment:
            now_, least = deployment["spec"]["replicas"], autoscaler["spec"]["minReplicas"]
            replicas = min(max(now_, least), autoscaler["spec"]["maxReplicas"])
            if replicas != now_:
                deployment["spec"]["replicas"] = replicas
                deployment["metadata"]["generation"] += 1
                self._store.touch(deployment)

    def _roll(self, deployment: Object) -> None:
        sets = [
            replica_set
            for replica_set in self._list("replicasets")
            if _owns(deployment, replica_set)
        ]
        new = next(
            (
                replica_set
                for replica_set in sets
                if _template(replica_set) == _template(deployment)
            ),
            None,
        )
        if new is None:
            new = self._new_set(deployment)
            deployment.setdefault("status", {})["conditions"] = [
                _condition("Progressing", "True", "NewReplicaSetCreated", new)
            ]
            self._moved.pop(deployment["metadata"]["uid"], None)
        old = [replica_set for replica_set in sets if replica_set is not new]
        self._number(deployment, new, old)
        replicas = deployment["spec"]["replicas"]
        surge = _surge(deployment)
        total = sum(replica_set["spec"]["replicas"] for replica_set in (new, *old))
        room = replicas + surge - total
        if new["spec"]["replicas"] > replicas:
            new["spec"]["replicas"] = replicas
        elif room > 0:
            new["spec"]["replicas"] = min(replicas, new["spec"]["replicas"] + room)
        self._shrink(replicas, new, old)
        self._report(deployment, new, old)

    def _shrink(self, replicas: int, new: Object, old: Sequence[Object]) -> None:
        """Take old pods away, those that serve only when as many new ones do."""
        total = sum(replica_set["spec"]["replicas"] for replica_set in (new, *old))
        missing = new["spec"]["replicas"] - _count(new, "availableReplicas")
        spare = total - replicas - missing
        for replica_set in old:  # what does not serve goes first
            idle = replica_set["spec"]["replicas"] - _count(replica_set, "availableReplicas")
            gone = max(0, min(idle, spare))
            replica_set["spec"]["replicas"] -= gone
            spare -= gone
        available = sum(_count(replica_set, "availableReplicas") for replica_set in (new, *old))
        spare = available - replicas
        for replica_set in old:
            gone = max(0, min(replica_set["spec"]["replicas"], spare))
            replica_set["spec"]["replicas"] -= gone
            spare -= gone

    def _new_set(self, deployment: Object) -> Object:
        template = copy.deepcopy(_template(deployment))
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        labels = {**template["metadata"]["labels"], _HASH: digest}
        template["metadata"]["labels"] = labels
        selector = {**deployment["spec"]["selector"]["matchLabels"], _HASH: digest}
        return self._store.create(
            "replicasets",
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{deployment['metadata']['name']}-{digest}",
                    "namespace": self._namespace,
                    "labels": labels,
                    "annotations": {},
                    "ownerReferences": [_owner(deployment)],
                },
                "spec": {
                    "replicas": 0,
                    "minReadySeconds": deployment["spec"]["minReadySeconds"],
                    "selector": {"matchLabels": selector},
                    "template": template,
                },
                "status": {"replicas": 0},
            },
        )

    def _number(self, deployment: Object, new: Object, old: Sequence[Object]) -> None:
        """Make the newest the one with the highest revision; annotations are handed on."""
        notes = deployment["metadata"].setdefault("annotations", {})
        its = new["metadata"]["annotations"]
        its.update({key: value for key, value in notes.items() if key != _REVISION})
        highest = max((_revision(replica_set) for replica_set in old), default=0)
        if _revision(new) <= highest:
            its[_REVISION] = str(highest + 1)
        notes[_REVISION] = its[_REVISION]

    def _report(self, deployment: Object, new: Object, old: Sequence[Object]) -> None:
        status = deployment.setdefault("status", {})
        totals = {
            kind: sum(_count(replica_set, kind) for replica_set in (new, *old)) for kind in _TOTALS
        }
        status |= totals
        status["updatedReplicas"] = _count(new, "replicas")
        status["observedGeneration"] = deployment["metadata"]["generation"]
        replicas = deployment["spec"]["replicas"]
        complete = set(totals.values()) | {status["updatedReplicas"]} == {replicas}
        self._judge(deployment, new, complete=complete)
        if complete:
            limit = deployment["spec"]["revisionHistoryLimit"]
            for replica_set in sorted(old, key=_revision, reverse=True)[limit:]:
                self._store.delete("replicasets", self._namespace, replica_set["metadata"]["name"])

    def _judge(self, deployment: Object, new: Object, *, complete: bool) -> None:
        """Say whether it gets on; once it does not, it says so until something moves."""
        status, uid = deployment["status"], deployment["metadata"]["uid"]
        moves = tuple(status[kind] for kind in (*_TOTALS, "updatedReplicas"))
        last, since = self._moved.get(uid, ((), 0.0))
        before = next(iter(status.get("conditions", [])), None)
        late = time.monotonic() - since > deployment["spec"]["progressDeadlineSeconds"]
        if complete:
            condition = _condition("Progressing", "True", "NewReplicaSetAvailable", new)
        elif moves != last:
            condition = _condition("Progressing", "True", "ReplicaSetUpdated", new)
        elif late and before and before["reason"] != "NewReplicaSetAvailable":
            condition = _condition("Progressing", "False", "ProgressDeadlineExceeded", new)
        else:
            condition = before or _condition("Progressing", "True", "FoundNewReplicaSet", new)
        if moves != last:
            self._moved[uid] = moves, time.monotonic()
        enough = status["availableReplicas"] >= deployment["spec"]["replicas"]
        available = _condition("Available", str(enough), "MinimumReplicas", new)
        status["conditions"] = [condition, available]

    def _fill_all(self) -> None:
        for replica_set in self._list("replicasets"):
            self._fill(replica_set)

    def _fill(self, replica_set: Object) -> None:
        pods = [
            item
            for item in self._list("pods")
            if _owns(replica_set, item)
            and "deletionTimestamp" not in item["metadata"]
            and item.get("status", {}).get("phase") != "Failed"
        ]
        least = replica_set["spec"]["minReadySeconds"]
        ready = [item for item in pods if _ready_for(item) is not None]
        available = [item for item in ready if (_ready_for(item) or 0) >= least]
        replica_set["status"] = {
            "replicas": len(pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(available),
            "observedGeneration": replica_set["metadata"]["generation"],
        }
        too_many = len(pods) - replica_set["spec"]["replicas"]
        for pod in sorted(pods, key=lambda item: item in ready)[: max(0, too_many)]:
            self._store.delete("pods", self._namespace, pod["metadata"]["name"])
        for _ in range(-too_many):
            self._new_pod(replica_set)

    def _new_pod(self, replica_set: Object) -> None:
        template = copy.deepcopy(replica_set["spec"]["template"])
        suffix = "".join(random.choices(string.ascii_lowercase + string.digits, k=5))
        name = f"{replica_set['metadata']['name']}-{suffix}"
        metadata = {
            **template["metadata"],
            "name": name,
            "namespace": self._namespace,
            "ownerReferences": [_owner(replica_set)],
        }
        spec = {"nodeName": "node", **template["spec"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
               "status": {"phase": "Pending"}}  # fmt: skip
        self._store.create("pods", pod)

    def _list(self, kind: str) -> list[Object]:
        return self._store.list(kind, self._namespace)


def _template(thing: Object) -> Object:
    """Return the template of a Deployment or ReplicaSet, without what the latter adds."""
    template = copy.deepcopy(thing["spec"]["template"])
    template["metadata"]["labels"].pop(_HASH, None)
    return dict(template)


def _owner(thing: Object) -> Object:
    kinds = {key: thing[key] for key in ("apiVersion", "kind")}
    reference = {key: thing["metadata"][key] for key in ("name", "uid")}
    return {**kinds, **reference, "controller": True, "blockOwnerDeletion": True}


def _owns(owner: Object, thing: Object) -> bool:
    owners = thing["metadata"].get("ownerReferences", [])
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in owners)


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"]["annotations"].get(_REVISION, 0))


def _count(replica_set: Object, kind: str) -> int:
    return int(replica_set["status"].get(kind, 0))


def _surge(deployment: Object) -> int:
    share = deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    if isinstance(share, int):
        return share
    return math.ceil(deployment["spec"]["replicas"] * int(share.rstrip("%")) / 100)


def _ready_for(pod: Object) -> float | None:
    """Return the seconds for which a pod has been ready."""
    for condition in pod.get("status", {}).get("conditions", []):
        if (condition["type"], condition["status"]) == ("Ready", "True"):
            since = datetime.fromisoformat(condition["lastTransitionTime"])
            return (datetime.now(UTC) - since).total_seconds()
    return None


def _condition(kind: str, status: str, reason: str, about: Object) -> dict[str, Any]:
    message = f'ReplicaSet "{about["metadata"]["name"]}": {reason}'
    return {"type": kind, "status": status, "reason": reason, "message": message,
            "lastUpdateTime": now()}  # fmt: skip
