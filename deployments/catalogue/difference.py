"""The difference between what should be and what is, as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Secret, SecretStr

# What a thing is, as JSON-like values, secrets in pydantic's wrappers that do not print them.
Value = Mapping[str, Any]
Values = Mapping[str, Value]

_WIDTH = 60
# Fields that some blocks keep in clear, such as the session token of AWS.
_SECRET = re.compile(r"(token|secret|password)$", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """One thing that is not as it should be.

    Attributes:
        kind: What sort of thing, for instance `deployment`.
        name: Its name.
        before: What it is; `None` if it is not there.
        after: What it should be; `None` if it should not be there.
    """

    kind: str
    name: str
    before: Value | None
    after: Value | None

    @property
    def action(self) -> Literal["create", "change", "remove"]:
        """What has to be done."""
        if self.before is None:
            return "create"
        return "change" if self.after is not None else "remove"

    def fields(self) -> list[str]:
        """The fields that differ, each as `path: before → after`; none that is secret is told."""
        if self.before is None or self.after is None:
            return []
        before, after = dict(_leaves(self.before)), dict(_leaves(self.after))
        return [
            f"{path}: {_shown(before, path)} → {_shown(after, path)}"
            for path in sorted(before.keys() | after.keys())
            if before.get(path, _ABSENT) != after.get(path, _ABSENT)
        ]


def diff(kind: str, desired: Values, actual: Values) -> list[Change]:
    """What has to be done so that things are as they should be.

    Args:
        kind: What sort of things.
        desired: What should be, by name.
        actual: What is, by name; what is here and not desired is to be removed.

    Returns:
        The changes, removals last.
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
    """The values that hold no others, by their path; what is empty counts as one."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _leaves(each, f"{path}[{index}]")
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
