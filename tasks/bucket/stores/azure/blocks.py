"""The blocks of prefect-azure, without its worker for container instances.

The package imports that worker whenever any module of it is imported, and so the clients of
Azure's resource management, which nothing here needs.
"""

from __future__ import annotations

from tasks.bucket.stores.base.blocks import import_without

import_without("prefect_azure", "prefect_azure.workers.container_instance")

from prefect_azure import AzureBlobStorageContainer, AzureBlobStorageCredentials  # noqa: E402

__all__ = ["AzureBlobStorageContainer", "AzureBlobStorageCredentials"]
