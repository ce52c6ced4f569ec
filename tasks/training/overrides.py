"""Overrides of one run: values of `params.yaml` that it replaces, and nothing else in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from tasks.core.errors import ConfigurationError
from tasks.core.yaml12 import YAMLError, load_yaml
from tasks.repository.workspace import Workspace

_STATE = "nothing was started"
_WORD = re.compile(r"[A-Za-z_][\w./-]*")


async def set_parameters(workspace: Workspace, overrides: Mapping[str, Any]) -> None:
    """Write overrides into the workspace's `params.yaml`.

    Args:
        workspace: The workspace.
        overrides: New values by dotted key, for instance `{"train.cv": 3}`.

    Raises:
        ConfigurationError: `params.yaml` lacks a key; nothing is written.
    """
    if not overrides:
        return
    path = workspace.path / "params.yaml"
    text = path.read_bytes().decode()  # bytes: line ends stay as they are
    path.write_bytes(replace_values(text, overrides).encode())


def replace_values(text: str, overrides: Mapping[str, Any]) -> str:
    """Replace values in a YAML document; quotes, comments and layout of all others stay.

    Args:
        text: The document.
        overrides: New values by dotted key.

    Raises:
        ConfigurationError: It lacks a key, or a value is written in a way that cannot be replaced.
    """
    expected = load_yaml(text)
    known = _list_paths(expected)
    for key, value in overrides.items():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigurationError(
                f"override {key!r} is not a key of params.yaml{hint}; known: {', '.join(known)}",
                state=_STATE,
                next_step="name one of the known keys, with dots between levels",
            )
        *parents, last = known[key]
        section = expected
        for parent in parents:
            section = section[parent]
        section[last] = value
        text = _replace(text, list(map(str, known[key])), value)
    if not _holds(text, expected):
        raise ConfigurationError(
            f"overrides cannot be written into params.yaml: {', '.join(overrides)}",
            state=_STATE,
            next_step="write these keys without anchors, aliases, merge keys and tags, and commit",
        )
    return text


def _holds(text: str, values: Any) -> bool:
    """Check the result: anchors, merged keys and tags are more than the place of one value."""
    try:
        return bool(load_yaml(text) == values)
    except YAMLError:
        return False


def _replace(text: str, path: list[str], value: Any) -> str:
    node: Node = YAML().compose(text)
    key = node
    for name in path:
        # A merged key has its value elsewhere, so that replacing it fails the comparison above.
        entries = node.value if isinstance(node, MappingNode) else []
        key, node = next((entry for entry in entries if entry[0].value == name), (key, node))
    start, end, new = node.start_mark.index, _find_end(node), _write(value)
    colon = text.index(":", key.end_mark.index) + 1
    if start == end:  # `key:` with nothing behind it
        return f"{text[:colon]} {new}{text[colon:]}"
    if isinstance(node, CollectionNode) and not node.flow_style:
        # A block begins on a line of its own; what replaces it stands on that of its key.
        return f"{text[:colon]} {new}{text[colon:start].rstrip()}{text[end:]}"
    return f"{text[:start]}{new}{text[end:]}"


def _find_end(node: Node) -> int:
    """Find the end of a value: for PyYAML, a block ends where the next one begins."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _find_end(last[1] if isinstance(node, MappingNode) else last)
    return int(node.end_mark.index)


def _write(value: Any) -> str:
    """Write a value as JSON, which is YAML, too; a word that YAML takes for text, as it is."""
    is_word = isinstance(value, str) and _WORD.fullmatch(value) and yaml.safe_load(value) == value
    return str(value) if is_word else json.dumps(value, ensure_ascii=False)


def _list_paths(values: Mapping[Any, Any], parents: tuple[Any, ...] = ()) -> dict[str, list[Any]]:
    """List the keys of each value, by their dotted text: a key may be a number, or have a dot."""
    paths: dict[str, list[Any]] = {}
    for key, value in values.items():
        path = (*parents, key)
        paths[".".join(map(str, path))] = list(path)
        if isinstance(value, Mapping):
            paths |= _list_paths(value, path)
    return paths
