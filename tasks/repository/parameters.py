"""The parameters of a commit, as flows read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.core.yaml12 import YAMLError, load_yaml

# The name becomes a path, a ref and an argument.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,38}[a-z0-9]")
# With aliases, a kilobyte of YAML holds more values than there is memory to show them.
_MOST_VALUES = 100_000


def read_parameters(path: Path, ref: str) -> dict[str, Any]:
    """Read `params.yaml`.

    Args:
        path: The file.
        ref: The ref that it is of, for the message.

    Raises:
        ConfigurationError: It cannot be read, or has no valid name of a model.
    """
    try:
        values = load_yaml(path.read_text())
    except (OSError, YAMLError) as error:
        raise ConfigurationError(
            f"params.yaml at {ref} cannot be read: {error}",
            state="nothing was started",
            next_step="correct params.yaml, commit, and run the flow at that commit",
        ) from error
    if _holds_more(values, _MOST_VALUES):
        raise ConfigurationError(
            f"params.yaml at {ref} has more than {_MOST_VALUES:,} values, aliases counted",
            state="nothing was started",
            next_step="correct params.yaml, commit, and run the flow at that commit",
        )
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"params.yaml: name: {name!r} at {ref} is no valid model name: 2 to 40"
            " lower-case letters, digits and hyphens",
            state="nothing was started",
            next_step="set `name` in params.yaml, commit, and run the flow at that commit",
        )
    return dict(values)


def list_private(parameters: Mapping[str, Any]) -> frozenset[str]:
    """List the columns that `params.yaml` names as private."""
    return frozenset(map(str, parameters.get("data", {}).get("private") or ()))


def _holds_more(value: object, most: int) -> bool:
    waiting, count = [value], 0
    while waiting and count <= most:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count > most
