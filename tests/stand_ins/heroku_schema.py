"""Heroku's published description of its API, against which the requests of tests are held."""

from __future__ import annotations

import json
import re
from typing import Any

from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from tests.stand_ins.descriptions import find_description

NAME = "heroku-platform.schema.json"
_URI = "urn:heroku"
_IDENTITY = re.compile(r"\{[^}]*\}")
# What the description omits: releases of images.
_IMAGE = {"type": ["string", "null"], "pattern": "^sha256:[0-9a-f]{64}$"}


class Schema:
    """The description.

    Args:
        document: As Heroku publishes it.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        formation = document["definitions"]["formation"]
        formation["definitions"]["update"]["properties"]["docker_image"] = _IMAGE
        for link in formation["links"]:
            if link["title"] == "Update":
                link["schema"]["properties"]["docker_image"] = _IMAGE
        self._links = [
            (link["method"], _pattern(link["href"]), f"/definitions/{name}/links/{number}/schema")
            for name, definition in document["definitions"].items()
            for number, link in enumerate(definition.get("links", ()))
            if "schema" in link
        ]
        resource = Resource.from_contents(document, default_specification=DRAFT4)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)

    def complaints(self, method: str, path: str, body: Any) -> list[str]:
        """List the faults of a request; none if one description of it matches."""
        pointers = [pointer for allowed, pattern, pointer in self._links
                 if allowed == method and pattern.fullmatch(path)]  # fmt: skip
        complaints = [self._complaint(item, body) for item in pointers] or ["is not described"]
        return [] if None in complaints else [f"{method} {path}: {item}" for item in complaints]

    def _complaint(self, pointer: str, body: Any) -> str | None:
        try:
            Draft4Validator({"$ref": f"{_URI}#{pointer}"}, registry=self._registry).validate(body)
        except ValidationError as error:
            return error.message
        resolver = self._registry.resolver(_URI)
        # Of config vars, whose names are free, it has no properties.
        properties = resolver.lookup(f"#{pointer}").contents.get("properties", body)
        unknown = body.keys() - properties.keys()
        return f"unknown: {', '.join(unknown)}" if unknown else None


def find_schema() -> Schema | None:
    """Return the description, None where it is not there."""
    path = find_description(NAME)
    return Schema(json.loads(path.read_text())) if path else None


def _pattern(href: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, _IDENTITY.split(href))))
