"""The difference between declared and existing resources, as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Secret, SecretStr

# A resource, as JSON-like values, secrets in pydantic's wrappers that do not print them.
Value = Mapping[str, Any]
Values = Mapping[str, Value]

_WIDTH = 60
# Fields that some blocks keep in clear, such as the session token of AWS.
_SECRET = re.compile(r"(token|secret|password)$", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """A resource that differs from its declaration.

    Attributes:
        kind: For instance `deployment`.
        before: The resource on the server; None if it does not exist.
        after: The declaration; None if there is none.
    """

    kind: str
    name: str
    before: Value | None
    after: Value | None

    @property
    def action(self) -> Literal["create", "change", "remove"]:
        """The action that makes it equal."""
        if self.before is None:
            return "create"
        return "change" if self.after is not None else "remove"

    def fields(self) -> list[str]:
        """Return the fields that differ, as `path: before → after`; secrets are not shown."""
        if self.before is None or self.after is None:
            return []
        before, after = dict(_leaves(self.before)), dict(_leaves(self.after))
        return [
            f"{path}: {_shown(before, path)} → {_shown(after, path)}"
            for path in sorted(before.keys() | after.keys())
            if before.get(path, _ABSENT) != after.get(path, _ABSENT)
        ]


def diff(kind: str, desired: Values, actual: Values) -> list[Change]:
    """Return the changes that make resources equal to their declarations, removals last.

    Args:
        kind: Kind of the resources.
        desired: Declared resources, by name.
        actual: Existing resources, by name; undeclared ones are to be removed.
    """
    made = [
        Change(kind, name, actual.get(name), value)
        for name, value in desired.items()
        if actual.get(name) != value
    ]
    removed = [
        Change(kind, name, value, None) for name, value in actual.items() if name not in desired
    ]
    return made + removed


_ABSENT = object()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values without children, with their paths; an empty container is one."""
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            yield from _leaves(child, f"{path}[{index}]")
    else:
        yield path, value


def _shown(leaves: Mapping[str, Any], path: str) -> str:
    if path not in leaves:
        return "-"
    value = leaves[path]
    if isinstance(value, Secret | SecretStr) or _SECRET.search(path):
        return "(secret)"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
