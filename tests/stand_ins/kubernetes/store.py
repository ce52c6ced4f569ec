"""The objects of a cluster, as an API server keeps them: versions, generations, owners."""

from __future__ import annotations

import copy
import re
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import kubernetes_validate

from tests.stand_ins.kubernetes.apply import Conflict, Object, Path, apply, managed_fields

_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Refusal(Exception):
    """An error of the API server.

    Attributes:
        code: HTTP status.
        body: What it says, an object of kind Status.
    """

    def __init__(self, code: int, reason: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": code,
        }  # fmt: skip


class Store:
    """All objects, by kind (as paths name it), namespace and name.

    Args:
        schemas: The version of Kubernetes whose published schemas hold.
    """

    def __init__(self, schemas: str) -> None:
        self.lock = threading.RLock()
        self._schemas = schemas
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._managers: dict[str, dict[str, set[Path]]] = {}
        self.version = 0

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object itself, not a copy."""
        return self._objects.get((kind, namespace, name))

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return an object as clients see it."""
        stored = self.find(kind, namespace, name)
        if stored is None:
            raise Refusal(404, "NotFound", f'{kind} "{name}" not found', name=name, kind=kind)
        return self.shown(stored)

    def list(self, kind: str, namespace: str, labels: Mapping[str, str] = {}) -> list[Object]:
        """List the objects with these labels, not copies."""
        return [
            item
            for (its_kind, its_namespace, _), item in sorted(self._objects.items())
            if (its_kind, its_namespace) == (kind, namespace)
            and labels.items() <= item["metadata"].get("labels", {}).items()
        ]

    def shown(self, thing: Object) -> Object:
        """Return a copy of an object as clients see it."""
        shown = copy.deepcopy(thing)
        managers = self._managers.get(thing["metadata"]["uid"])
        if managers:
            shown["metadata"]["managedFields"] = managed_fields(managers, thing["apiVersion"])
        return shown

    def create(self, kind: str, thing: Object) -> Object:
        """Take in a new object."""
        metadata = thing["metadata"]
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        self._objects[kind, metadata.get("namespace", ""), metadata["name"]] = thing
        self.touch(thing)
        return thing

    def touch(self, thing: Object) -> None:
        """Count a change of an object."""
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)

    def apply(
        self, kind: str, manifest: Object, manager: str, *, force: bool
    ) -> tuple[int, Object]:
        """Apply a manifest on the server's side.

        Returns:
            201 for a new object, else 200; and the object as clients see it.
        """
        namespace, name = manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]
        old = self.find(kind, namespace, name)
        fresh: Object = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"],
                         "metadata": {"name": name}}  # fmt: skip
        if namespace:
            fresh["metadata"]["namespace"] = namespace
        thing = copy.deepcopy(old) if old else fresh
        managers = copy.deepcopy(self._managers.get(thing["metadata"].get("uid", ""), {}))
        try:
            apply(thing, managers, copy.deepcopy(manifest), manager, force=force)
        except Conflict as conflict:
            raise Refusal(409, "Conflict", str(conflict)) from None
        self._check(kind, thing, old)
        _fill_in(kind, thing)
        if old is None:
            code, result = 201, self.create(kind, thing)
        else:
            code, result = 200, old
            changed = any(old.get(part) != thing.get(part) for part in ("spec", "data"))
            if changed or old["metadata"] != thing["metadata"]:
                old.clear()
                old.update(thing)
                old["metadata"]["generation"] += changed
                self.touch(old)
        self._managers[result["metadata"]["uid"]] = managers
        return code, self.shown(result)

    def delete(self, kind: str, namespace: str, name: str, grace: int | None = None) -> Object:
        """Delete an object; a pod on a node stays until the node lets it go."""
        stored = self.find(kind, namespace, name)
        if stored is None:
            raise Refusal(404, "NotFound", f'{kind} "{name}" not found', name=name, kind=kind)
        shown = self.shown(stored)
        if kind == "pods" and grace != 0 and stored["spec"].get("nodeName"):
            if "deletionTimestamp" not in stored["metadata"]:
                seconds = stored["spec"].get("terminationGracePeriodSeconds", 30)
                stored["metadata"]["deletionTimestamp"] = now()
                stored["metadata"]["deletionGracePeriodSeconds"] = seconds
                self.touch(stored)
            return shown
        del self._objects[kind, namespace, name]
        self._managers.pop(stored["metadata"]["uid"], None)
        return shown

    def collect(self) -> None:
        """Delete what belongs to objects that are gone."""
        uids = {item["metadata"]["uid"] for item in self._objects.values()}
        for (kind, namespace, name), item in list(self._objects.items()):
            owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences", [])]
            if owners and not uids.intersection(owners):
                self.delete(kind, namespace, name)

    def _check(self, kind: str, thing: Object, old: Object | None) -> None:
        """Refuse what a server refuses."""
        try:
            if thing["apiVersion"] != "policy/v1beta1":  # older than the oldest schemas
                content = {key: value for key, value in thing.items() if key != "status"}
                kubernetes_validate.validate(content, self._schemas, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            raise Refusal(422, "Invalid", f"{kind}: {where}: {error.message}") from None
        metadata, spec = thing["metadata"], thing.get("spec", {})
        wrong = []
        if not _NAME.fullmatch(metadata["name"]):
            wrong.append(f"metadata.name: Invalid value: {metadata['name']!r}")
        wrong += [
            f"metadata.labels: Invalid value: {value!r}"
            for item in (metadata, spec.get("template", {}).get("metadata", {}))
            for value in item.get("labels", {}).values()
            if not _LABEL.fullmatch(value)
        ]
        if kind == "deployments":
            selector = spec["selector"]["matchLabels"]
            if not selector.items() <= spec["template"]["metadata"]["labels"].items():
                wrong.append("spec.template.metadata.labels: `selector` does not match")
            if old and old["spec"]["selector"] != spec["selector"]:
                wrong.append("spec.selector: field is immutable")
            if spec["progressDeadlineSeconds"] <= spec["minReadySeconds"]:
                wrong.append("spec.progressDeadlineSeconds: must be greater than minReadySeconds")
        if kind == "pods" and old and old["spec"]["containers"] != spec["containers"]:
            wrong.append("spec: Forbidden: pod updates may not change fields")
        if wrong:
            raise Refusal(422, "Invalid", f"{kind} {metadata['name']}: {'; '.join(wrong)}")


def now() -> str:
    """Return the time in the form of objects."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _fill_in(kind: str, thing: Object) -> None:
    if kind == "secrets":  # which have no spec
        return
    spec: dict[str, Any] = thing.setdefault("spec", {})
    if kind == "deployments":
        spec.setdefault("replicas", 1)
    if kind == "pods":
        spec.setdefault("nodeName", "node")
        thing.setdefault("status", {"phase": "Pending"})
    if kind == "services":
        spec.setdefault("sessionAffinity", "None")
