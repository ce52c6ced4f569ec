"""Packages of Prefect's blocks, without the workers that they import whenever they are imported."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def import_without(package: str, workers: str) -> None:
    """Import a package, with an empty module in the place of its workers.

    Args:
        package: The package; nothing is done if it is imported already.
        workers: Its module of workers. Whoever does import that afterwards gets it.

    Raises:
        ImportError: The package cannot be imported.
    """
    if package in sys.modules:
        return
    placeholder = ModuleType(workers)
    placeholder.__getattr__ = lambda _: None  # type: ignore[method-assign]
    sys.modules[workers] = placeholder
    try:
        import_module(package)
    finally:
        del sys.modules[workers]
