"""Server-side apply: who has which field of an object, and what is merged into it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
Path = tuple[Any, ...]
# Lists whose items are known by some of their fields; all others are replaced as a whole.
_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_PORT_KEYS = ("containerPort", "port")
_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


class Conflict(Exception):
    """Somebody else has the field, and has set it to something else."""


class Item(tuple[tuple[str, Any], ...]):
    """The fields by which an item of a list is known, as a step of a path."""

    __slots__ = ()


def apply(
    thing: Object, managers: dict[str, set[Path]], manifest: Object, manager: str, *, force: bool
) -> None:
    """Merge a manifest into an object.

    Args:
        thing: The object, which is changed.
        managers: Which fields each manager has, which is changed.
        manifest: What the manager wants.
        manager: Whose name it is done in.
        force: Whether fields are taken from others.

    Raises:
        Conflict: Without `force`, others have some of the fields.
    """
    leaves = dict(_leaves(manifest, ()))
    others = {name: paths for name, paths in managers.items() if name != manager}
    for name, paths in others.items():
        for path in [item for item in paths if item in leaves]:
            if not isinstance(path[-1], Item) and _get(thing, path) != leaves[path]:
                if not force:
                    raise Conflict(f"conflict with {name!r}: {'.'.join(map(str, path))}")
                paths.discard(path)
    for path in managers.get(manager, set()) - leaves.keys():
        if not any(path in paths for paths in others.values()):
            _remove(thing, path)
    for path, value in leaves.items():
        _set(thing, path, value)
    managers[manager] = set(leaves)


def managed_fields(managers: Mapping[str, set[Path]], version: str) -> list[Object]:
    """Make the list of managers and their fields, as objects show it."""
    entries = []
    for manager, paths in managers.items():
        fields: Object = {}
        for path in sorted(paths, key=repr):
            at = fields
            for step in path:
                name = f"k:{json.dumps(dict(step))}" if isinstance(step, Item) else f"f:{step}"
                at = at.setdefault(name, {})
        entries.append(
            {
                "manager": manager,
                "operation": "Apply",
                "apiVersion": version,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
        )
    return entries


def _leaves(value: Any, path: Path) -> list[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    keys = _keys(value, path)
    if keys:
        paths = []
        for item in value:
            step = Item((key, item[key]) for key in keys)
            rest = {key: its for key, its in item.items() if key not in keys}
            paths.append(((*path, step), None))  # that it is there
            paths += _leaves(rest, (*path, step)) if rest else []
        return paths
    return [] if path in _IDENTITY else [(path, value)]


def _keys(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not path:
        return ()
    if path[-1] == "ports" and isinstance(value[0], dict):
        (port,) = [key for key in _PORT_KEYS if key in value[0]]
        return (port, "protocol")  # without it, an old server does not find the item again
    return _KEYS.get(path[-1], ())


def _step(at: Any, step: Any, *, make: Any = None) -> Any:
    if isinstance(step, Item):
        for item in at:
            if all(item.get(key) == value for key, value in step):
                return item
        if make is not None:
            at.append(dict(step))
            return at[-1]
        return None
    if make is not None:
        return at.setdefault(step, make)
    return at.get(step) if isinstance(at, dict) else None


def _get(thing: Object, path: Path) -> Any:
    at: Any = thing
    for step in path:
        at = _step(at, step)
        if at is None:
            return None
    return at


def _set(thing: Object, path: Path, value: Any) -> None:
    at: Any = thing
    for step, following in itertools.pairwise(path):
        at = _step(at, step, make=[] if isinstance(following, Item) else {})
    if isinstance(path[-1], Item):
        _step(at, path[-1], make={})
    else:
        at[path[-1]] = value


def _remove(thing: Object, path: Path) -> None:
    """Remove a field, and what is empty without it."""
    *way, last = path
    at: Any = thing
    for step in way:
        at = _step(at, step)
        if at is None:
            return
    if isinstance(last, Item):
        at[:] = [item for item in at if item is not _step(at, last)]
    else:
        at.pop(last, None)
    if not at and way and not isinstance(way[-1], Item):
        _remove(thing, tuple(way))
