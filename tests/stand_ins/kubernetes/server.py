"""A small API server: as much of Kubernetes' API as a deploy uses, with a real one's answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.stand_ins.kubernetes.store import Refusal, Store

_KINDS = {
    ("v1", "namespaces"): "Namespace",
    ("v1", "pods"): "Pod",
    ("v1", "services"): "Service",
    ("v1", "secrets"): "Secret",
    ("apps/v1", "deployments"): "Deployment",
    ("apps/v1", "replicasets"): "ReplicaSet",
    ("policy/v1", "poddisruptionbudgets"): "PodDisruptionBudget",
    ("policy/v1beta1", "poddisruptionbudgets"): "PodDisruptionBudget",
    ("networking.k8s.io/v1", "ingresses"): "Ingress",
    ("autoscaling/v1", "horizontalpodautoscalers"): "HorizontalPodAutoscaler",
}
_METHODS = ["GET", "PATCH", "DELETE"]


class Server:
    """The API server.

    Args:
        token: Who may ask.
        version: What it says it is.
    """

    def __init__(self, store: Store, token: str, version: str) -> None:
        self._store = store
        self._token = token
        self._version = version
        self._policy = "policy/v1" if minor(version) >= 21 else "policy/v1beta1"
        # What its user may not do, as pairs of verb and kind.
        self.forbidden: set[tuple[str, str]] = set()
        # Who has a pod's log; a server without one is like one that does not reach its nodes.
        self.log: Callable[[str], str] | None = None
        paths = [
            f"{root}/{{namespace}}/{{plural}}{rest}"
            for root in ("/api/{version}/namespaces", "/apis/{group}/{version}/namespaces")
            for rest in ("", "/{name}", "/{name}/{part}")
        ]
        self.app = Starlette(
            routes=[
                Route("/version", self._guarded(self._tell_version)),
                Route("/apis/policy", self._guarded(self._tell_policy)),
                Route(
                    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                    self._guarded(self._review),
                    methods=["POST"],
                ),
                Route("/api/v1/namespaces/{name}", self._guarded(self._object), methods=_METHODS),
                *(Route(path, self._guarded(self._object), methods=_METHODS) for path in paths),
            ]
        )

    def _guarded(self, answer: Callable[[Request, Any], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            try:
                if request.headers.get("authorization") != f"Bearer {self._token}":
                    raise Refusal(401, "Unauthorized", "Unauthorized")
                with self._store.lock:
                    return answer(request, json.loads(body) if body else None)
            except Refusal as refusal:
                return JSONResponse(refusal.body, refusal.code)

        return endpoint

    def _tell_version(self, _: Request, __: Any) -> Response:
        return JSONResponse({"gitVersion": self._version})

    def _tell_policy(self, _: Request, __: Any) -> Response:
        versions = [{"groupVersion": self._policy, "version": self._policy.partition("/")[2]}]
        return JSONResponse({"kind": "APIGroup", "name": "policy", "versions": versions})

    def _review(self, _: Request, body: Any) -> Response:
        attributes = body["spec"]["resourceAttributes"]
        refused = (attributes["verb"], attributes["resource"]) in self.forbidden
        return JSONResponse({**body, "status": {"allowed": not refused}}, 201)

    def _object(self, request: Request, body: Any) -> Response:
        at = request.path_params
        plural = at.get("plural", "namespaces")
        version = "/".join(filter(None, (at.get("group"), at.get("version", "v1"))))
        kind = _KINDS.get((version, plural))
        if kind is None or (version.startswith("policy") and version != self._policy):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        namespace, name, part = at.get("namespace", ""), at.get("name", ""), at.get("part", "")
        if request.method == "GET" and part == "log":
            return self._tell_log(namespace, name)
        if request.method == "GET":
            return self._read(request, plural, namespace, name)
        if request.method == "DELETE":
            seconds = request.query_params.get("gracePeriodSeconds")
            grace = int(seconds) if seconds is not None else None
            return JSONResponse(self._store.delete(plural, namespace, name, grace))
        if part == "status":
            return self._report(plural, namespace, name, body)
        return self._apply(request, kind, plural, body)

    def _read(self, request: Request, plural: str, namespace: str, name: str) -> Response:
        if name:
            return JSONResponse(self._store.get(plural, namespace, name))
        selector = request.query_params.get("labelSelector", "")
        labels = dict(pair.split("=", 1) for pair in selector.split(",") if pair)
        items = [self._store.shown(item) for item in self._store.list(plural, namespace, labels)]
        return JSONResponse({"kind": "List", "metadata": {}, "items": items})

    def _tell_log(self, namespace: str, name: str) -> Response:
        self._store.get("pods", namespace, name)
        if self.log is None:
            raise Refusal(500, "InternalError", "dial tcp: lookup node: no such host")
        return PlainTextResponse(self.log(name))

    def _report(self, plural: str, namespace: str, name: str, body: Mapping[str, Any]) -> Response:
        """Take a node's report of a pod."""
        stored = self._store.find(plural, namespace, name)
        if stored is None:
            raise Refusal(404, "NotFound", f'{plural} "{name}" not found', kind=plural)
        stored.setdefault("status", {}).update(body["status"])
        self._store.touch(stored)
        return JSONResponse(self._store.shown(stored))

    def _apply(self, request: Request, kind: str, plural: str, body: Any) -> Response:
        content = request.headers.get("content-type")
        if content != "application/apply-patch+yaml":
            raise Refusal(415, "UnsupportedMediaType", f"the body was {content}")
        manager = request.query_params.get("fieldManager")
        if not manager:
            raise Refusal(422, "Invalid", "fieldManager: Required value: is required for apply")
        namespace = request.path_params.get("namespace", "")
        identity = (body["kind"], body["metadata"]["name"], body["metadata"].get("namespace", ""))
        if identity != (kind, request.path_params["name"], namespace):
            raise Refusal(400, "BadRequest", "the manifest is of another object than the path")
        if namespace and self._store.find("namespaces", "", namespace) is None:
            message = f'namespaces "{namespace}" not found'
            raise Refusal(404, "NotFound", message, name=namespace, kind="namespaces")
        force = request.query_params.get("force") == "true"
        code, thing = self._store.apply(plural, body, manager, force=force)
        return JSONResponse(thing, code)


def minor(version: str) -> int:
    """Return the minor version of Kubernetes: 20 in `v1.20.2`."""
    return int(version.split(".")[1])
