"""A published description of an API (OpenAPI 3), against which requests are held, strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.stand_ins.descriptions import absent, find_description

_ROOT = "urn:description"


class Description:
    """The description of an API, which checks requests.

    Args:
        newer: Operations, and their parameters as `"DELETE /path?parameter"`, that came later.
    """

    def __init__(self, document: Mapping[str, Any], newer: Collection[str] = ()) -> None:
        text = json.dumps(_strict(document)).replace('"#/', f'"{_ROOT}#/')
        self._document = json.loads(text)
        self._newer = newer
        resource = DRAFT202012.create_resource(self._document)
        self._registry: Registry[Any] = Registry().with_resource(_ROOT, resource)

    def complaints(self, method: str, path: str, query: Collection[str], body: Any) -> list[str]:
        """List the faults of a request."""
        for template, operations in self._document["paths"].items():
            pattern = re.sub(r"\{\w+\}", "[^/]+", template)
            if method.lower() in operations and re.fullmatch(pattern, path):
                return [
                    *self._parameters(f"{method} {template}", operations[method.lower()], query),
                    *self._body(operations[method.lower()], body),
                ]
        if any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", item), f"{method} {path}")
               for item in self._newer):  # fmt: skip
            return []
        return [f"there is no {method} {path}"]

    def _parameters(
        self, name: str, operation: Mapping[str, Any], query: Collection[str]
    ) -> list[str]:
        known = {item["name"] for item in operation.get("parameters", [])}
        strange = [item for item in query if item not in known]
        return [
            f"{name} has no parameter {item}"
            for item in strange
            if f"{name}?{item}" not in self._newer
        ]

    def _body(self, operation: Mapping[str, Any], body: Any) -> list[str]:
        description = operation.get("requestBody")
        if description is None:
            return [] if body is None else ["it takes no body"]
        if body is None:
            return ["it needs a body"] if description.get("required") else []
        schema = description["content"]["application/json"]["schema"]
        validator = Draft202012Validator(schema, registry=self._registry)
        return [f"{item.json_path}: {item.message}" for item in validator.iter_errors(body)]


def published(name: str, newer: Collection[str] = ()) -> Description:
    """Load a published description; skip the test where it is not there."""
    path = find_description(name)
    if path is None:
        pytest.skip(absent(name))
    return Description(yaml.load(path.read_text(), Loader=yaml.CSafeLoader), newer)


def _strict(schema: Any) -> Any:
    """Forbid properties that a schema does not describe."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items() if key != "example"}
    if strict.get("type") == "object" and "properties" in strict:
        strict.setdefault("additionalProperties", False)
    return strict
