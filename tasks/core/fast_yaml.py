"""YAML 1.1 that programs have written, such as `dvc.lock`, by the C library: seven times faster."""

from __future__ import annotations

from typing import Any

import yaml

# The C library calls itself for each level: some ten thousands of them end the process.
_DEEPEST = 100


def read_yaml(text: str | bytes) -> Any:
    """Return the content of a document.

    Raises:
        yaml.YAMLError: It is none, or has more than a hundred levels.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise yaml.YAMLError(f"it has more than {_DEEPEST} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.load(text, Loader=yaml.CSafeLoader)
