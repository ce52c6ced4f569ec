"""YAML 1.2, as DVC and the stages read it: `yes` and `no` are text, other than for PyYAML."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["YAMLError", "dump_yaml", "load_yaml"]


def dump_yaml(value: Any) -> str:
    """Write a document, each innermost mapping and list on a line of its own."""
    document = YAML(typ="safe", pure=True)
    document.default_flow_style = None  # of innermost ones alone
    document.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    document.width = 100
    stream = StringIO()
    document.dump(value, stream)
    return stream.getvalue()


def load_yaml(text: str) -> Any:
    """Return the content of a document.

    Raises:
        YAMLError: It is none.
    """
    return YAML(typ="safe", pure=True).load(text)
