"""One namespace of a Kubernetes cluster, through the official client, and what its errors mean.

Objects are plain dictionaries, as in manifests. The client's own classes are of one version of
Kubernetes, and would refuse what an older or newer server says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import urllib3
from kubernetes.client import ApiClient, ApiException

from tasks.core.errors import SlipwayError, TerminalError, TransientError
from tasks.platforms.base.no_answer import UNCHANGED, no_answer
from tasks.platforms.base.prediction_log import last_lines_without_records
from tasks.platforms.kubernetes.access import Access, make_client
from tasks.platforms.kubernetes.manifests import Manifest

MANAGER = "slipway"
_SECONDS = 30.0


class Kind(Enum):
    """The kinds of objects of a deploy, as paths name them."""

    NAMESPACE = "namespaces"
    POD = "pods"
    SECRET = "secrets"  # noqa: S105  # a kind of objects
    SERVICE = "services"
    DEPLOYMENT = "deployments"
    REPLICA_SET = "replicasets"
    DISRUPTION_BUDGET = "poddisruptionbudgets"
    INGRESS = "ingresses"
    AUTOSCALER = "horizontalpodautoscalers"


_VERSIONS = {
    Kind.NAMESPACE: "v1",
    Kind.POD: "v1",
    Kind.SECRET: "v1",
    Kind.SERVICE: "v1",
    Kind.DEPLOYMENT: "apps/v1",
    Kind.REPLICA_SET: "apps/v1",
    Kind.INGRESS: "networking.k8s.io/v1",
    Kind.AUTOSCALER: "autoscaling/v1",
}


def connect(access: Access, kubeconfig: str | None, namespace: str) -> Cluster:
    """Connect to one namespace of a cluster; see `make_client`."""
    return Cluster(make_client(access, kubeconfig), access, namespace)


class Cluster:
    """One namespace of a cluster.

    Args:
        api: The official client.
        access: Source of its credentials, for people.
    """

    def __init__(self, api: ApiClient, access: Access, namespace: str) -> None:
        self._api = api
        self._access = access
        self._namespace = namespace

    def version(self) -> str:
        """Return the version of the server."""
        return str(json.loads(self._call("GET", "/version"))["gitVersion"])

    def policy(self) -> str:
        """Return the server's version of disruption budgets; `policy/v1` came with 1.21."""
        known = self._find("/apis/policy")
        versions = {version["groupVersion"] for version in (known or {}).get("versions", [])}
        return "policy/v1" if "policy/v1" in versions else "policy/v1beta1"

    def namespace_exists(self) -> bool:
        """Return whether the namespace exists; assumed where the user may not ask."""
        return not self.may("get", Kind.NAMESPACE) or bool(
            self.find(Kind.NAMESPACE, self._namespace)
        )

    def namespace_missing(self) -> TerminalError:
        """Make the error of a namespace that does not exist."""
        return _NotFound(
            f"the cluster has no namespace {self._namespace}",
            state=UNCHANGED,
            next_step=f"`kubectl create namespace {self._namespace}`, or set"
            " `create_namespace = true` in the environment's file",
        )

    def may(self, verb: str, kind: Kind) -> bool:
        """Return whether the kubeconfig's user may do something."""
        group = _VERSIONS.get(kind, "policy/v1").rpartition("/")[0]
        attributes = {
            "namespace": self._namespace,
            "verb": verb,
            "group": group,
            "resource": kind.value,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(json.loads(self._call("POST", path, body=review))["status"]["allowed"])

    def apply(self, kind: Kind, manifest: Manifest, manager: str = MANAGER) -> Manifest:
        """Make an object what a manifest says, creating it if need be; what it does not say stays.

        Args:
            manager: In whose name.

        Returns:
            The object as it is now.
        """
        path = self._path(kind, manifest["metadata"]["name"], manifest["apiVersion"])
        query = [("fieldManager", manager), ("force", "true")]
        answer = self._call("PATCH", path, query, manifest, "application/apply-patch+yaml")
        return dict(json.loads(answer))

    def find(self, kind: Kind, name: str) -> Manifest | None:
        """Return an object, None if there is none."""
        return self._find(self._path(kind, name))

    def list(self, kind: Kind, labels: Mapping[str, str]) -> list[Manifest]:
        """List the objects of a kind with these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        answer = self._call("GET", self._path(kind), [("labelSelector", selector)])
        return list(json.loads(answer)["items"])

    def delete(self, kind: Kind, name: str) -> None:
        """Ask for an object to go, and what belongs to it as well; it may be gone already."""
        try:
            self._call("DELETE", self._path(kind, name), [("propagationPolicy", "Background")])
        except _NotFound:
            return

    def last_lines(self, pod: str, lines: int = 12) -> str:
        """Return the last lines of a pod's log, also after a restart; empty if unknown."""
        path = f"{self._path(Kind.POD, pod)}/log"
        for previous in ("false", "true"):
            query = [("tailLines", str(lines * 10)), ("previous", previous)]
            try:
                log = self._call("GET", path, query)
            except SlipwayError:  # not every cluster lets us read logs, and it is for people only
                continue
            if text := last_lines_without_records(log.decode(errors="replace"), lines):
                return text
        return ""

    def _find(self, path: str) -> Manifest | None:
        try:
            return dict(json.loads(self._call("GET", path)))
        except _NotFound:
            return None

    def _path(self, kind: Kind, name: str = "", version: str = "") -> str:
        version = version or _VERSIONS.get(kind) or self.policy()
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        if kind is not Kind.NAMESPACE:
            root = f"{root}/namespaces/{self._namespace}"
        return "/".join(filter(None, (root, kind.value, name)))

    def _call(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        content: str = "application/json",
    ) -> bytes:
        # As the client's own generic (dynamic) part does it, which asks for all that a server
        # knows first, and keeps that in a file.
        headers = {"Accept": "application/json, */*", "Content-Type": content}
        request = self._api.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            answer = self._api.call_api(*request, _request_timeout=_SECONDS)
            answer_body = answer.read()
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            reason = error.reason if isinstance(error, ApiException) else type(error).__name__
            raise no_answer(
                "the cluster",
                f"{method} {path}",
                reason,
                next_step="check `kubectl get nodes` with the same kubeconfig, then run the flow"
                " again",
            ) from None  # the request carries the token
        if not 200 <= answer.status <= 299:
            raise self._explain(f"{method} {path}", answer.status, answer_body)
        return bytes(answer_body)

    def _explain(self, what: str, code: int, body: bytes) -> SlipwayError:
        try:
            status = json.loads(body)
            message = str(status.get("message"))
            kind = (status.get("details") or {}).get("kind")
        except (ValueError, AttributeError):
            message, kind = body.decode(errors="replace"), None
        message = message[:600]
        if code == 401:
            return TerminalError(
                f"the cluster refuses the credentials in {self._access.source}: 401",
                state=UNCHANGED,
                next_step=f"get a valid kubeconfig; {self._access.renewal}",
            )
        if code == 404 and kind == "namespaces":
            return self.namespace_missing()
        if code == 404:
            return _NotFound(
                f"the cluster does not know {what}: {message}",
                state=UNCHANGED,
                next_step="check `kubectl version` with the same kubeconfig: Kubernetes 1.20 or"
                " newer is needed",
            )
        if code == 403:
            return TerminalError(
                f"the cluster forbids {what}: {message}",
                state=UNCHANGED,
                next_step="bind the role in docs/targets/kubernetes.md to the kubeconfig's user",
            )
        passing = code in {408, 409, 429} or code >= 500
        kind_of_error = TransientError if passing else TerminalError
        return kind_of_error(
            f"the cluster refused {what}: {code} {message}",
            state=UNCHANGED,
            next_step="read the message and the cluster's events, then run the flow again",
        )


class _NotFound(TerminalError):
    """An object that does not exist."""
