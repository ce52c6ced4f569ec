"""YAML 1.2, as DVC and the stages read it: `yes` and `no` are text, other than for PyYAML."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["YAMLError", "load_yaml"]


def load_yaml(text: str) -> Any:
    """Return the content of a document.

    Raises:
        YAMLError: It is none.
    """
    return YAML(typ="safe", pure=True).load(text)
