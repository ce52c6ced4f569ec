"""The state of a rollout, read from the objects of a cluster: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.platforms.kubernetes.manifests import RELEASE, Manifest

_REVISION = "deployment.kubernetes.io/revision"
# States of a container in which waiting longer does not help.
_HOPELESS = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}


def release_of(workload: Manifest) -> str:
    """Return the release of a Deployment's or ReplicaSet's pods."""
    metadata = workload["spec"]["template"]["metadata"]
    return str(metadata.get("labels", {}).get(RELEASE, ""))


def same(first: Manifest, other: Manifest) -> bool:
    """Return whether Deployments or ReplicaSets have pods of the same release."""
    return release_of(first) == release_of(other)


def is_of(pod: Manifest, release: str) -> bool:
    """Return whether a pod is of a release."""
    return bool(pod["metadata"].get("labels", {}).get(RELEASE) == release)


def is_complete(deployment: Manifest) -> bool:
    """Return whether all pods are of the newest template and available, and no others exist."""
    status = deployment.get("status", {})
    replicas = deployment["spec"].get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and updated >= replicas
        and status.get("replicas", 0) <= updated
        and status.get("availableReplicas", 0) >= updated
    )


def counts(deployment: Manifest) -> tuple[int, ...]:
    """Return the numbers that change while a rollout makes progress."""
    status = deployment.get("status", {})
    kinds = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas",
             "availableReplicas")  # fmt: skip
    return tuple(status.get(kind, 0) for kind in kinds)


def owns_replicas(deployment: Manifest, manager: str) -> bool:
    """Return whether a manager has applied the number of replicas."""
    return any(
        "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in deployment["metadata"].get("managedFields", [])
        if (entry["manager"], entry["operation"]) == (manager, "Apply")
    )


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod would get traffic."""
    return _condition(pod, "Ready").get("status") == "True"


def by_age(replica_sets: Sequence[Manifest]) -> list[Manifest]:
    """Sort ReplicaSets by revision, the newest first."""

    def revision(replica_set: Manifest) -> int:
        return int(replica_set["metadata"].get("annotations", {}).get(_REVISION, 0))

    return sorted(replica_sets, key=revision, reverse=True)


def serving(deployment: Manifest, replica_sets: Sequence[Manifest]) -> Manifest | None:
    """Find the ReplicaSet that serves: the newest, or until it has taken over, the one before.

    Returns:
        One of them; None if there is none.
    """
    ordered = by_age(replica_sets)
    newest = [
        replica_set for replica_set in ordered if release_of(replica_set) == release_of(deployment)
    ]
    if not is_complete(deployment):
        others = [replica_set for replica_set in ordered if replica_set not in newest]
        ready = [
            replica_set
            for replica_set in others
            if replica_set.get("status", {}).get("readyReplicas", 0)
        ]
        newest = ready or newest or others
    return next(iter(newest), None)


def trouble(deployment: Manifest, pods: Sequence[Manifest]) -> tuple[str, str] | None:
    """Explain why a rollout will not complete, before its deadline; None if it may.

    Args:
        pods: The pods of its newest template.

    Returns:
        The reason, and the name of the pod that it is about, empty if it is about none; None if
        all may still go well.
    """
    for pod in pods:
        if why := trouble_of(pod):
            return why, pod["metadata"]["name"]
    refused = _condition(deployment, "ReplicaFailure")
    if refused.get("status") == "True" and "forbidden" in refused.get("message", ""):
        return refused["message"], ""
    return None


def is_overdue(deployment: Manifest) -> bool:
    """Return whether the cluster has given up on a new ReplicaSet.

    It forgets that only when something moves: of one that is used again it may be old news.
    """
    seen = deployment.get("status", {}).get("observedGeneration", 0)
    progress = _condition(deployment, "Progressing")
    return bool(
        seen >= deployment["metadata"]["generation"]
        and progress.get("reason") == "ProgressDeadlineExceeded"
    )


def delay(pods: Sequence[Manifest]) -> tuple[str, str]:
    """Explain what the first pod that is not ready waits for, with its name."""
    for pod in pods:
        if why := waits_for(pod):
            return why, pod["metadata"]["name"]
    return "there are too few pods", ""


def trouble_of(pod: Manifest) -> str | None:
    """Explain why a pod will not get ready; None if it still may."""
    if pod["metadata"].get("deletionTimestamp"):
        return None
    for container in pod.get("status", {}).get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        # One that has been started again had ended: it is no better the second time.
        for when in ("state", "lastState"):
            if termination := container.get(when, {}).get("terminated"):
                return f"it ended: {_reason(termination)}, exit code {termination.get('exitCode')}"
        if waiting.get("reason") in _HOPELESS:
            return _reason(waiting)
    return None


def refusal(pod: Manifest) -> str | None:
    """Explain why a node does not run a pod, or no longer does; None if it does."""
    status = pod.get("status", {})
    return _reason(status) or "it failed" if status.get("phase") == "Failed" else None


def waits_for(pod: Manifest) -> str | None:
    """Explain what a pod waits for; None if it is ready."""
    placed = _condition(pod, "PodScheduled")
    if placed.get("status") == "False":
        return _reason(placed)
    for container in pod.get("status", {}).get("containerStatuses", []):
        if waiting := container.get("state", {}).get("waiting"):
            return _reason(waiting)
    return None if is_ready(pod) else "it runs, and does not get ready"


def _condition(thing: Manifest, kind: str) -> dict[str, Any]:
    for condition in thing.get("status", {}).get("conditions", []):
        if condition["type"] == kind:
            return dict(condition)
    return {}


def _reason(state: Manifest) -> str:
    return ": ".join(filter(None, (state.get("reason"), state.get("message"))))
