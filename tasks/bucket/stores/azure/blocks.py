"""The blocks of prefect-azure, without its worker for container instances.

The package imports that worker whenever any module of it is imported, and so the clients of
Azure's resource management, which nothing here needs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

_WORKERS = "prefect_azure.workers.container_instance"

if "prefect_azure" not in sys.modules:
    _placeholder = ModuleType(_WORKERS)
    _placeholder.__getattr__ = lambda _: None  # type: ignore[method-assign]
    sys.modules[_WORKERS] = _placeholder
    try:
        import_module("prefect_azure")
    finally:
        del sys.modules[_WORKERS]  # whoever does import the workers gets them

from prefect_azure import AzureBlobStorageContainer, AzureBlobStorageCredentials  # noqa: E402

__all__ = ["AzureBlobStorageContainer", "AzureBlobStorageCredentials"]
