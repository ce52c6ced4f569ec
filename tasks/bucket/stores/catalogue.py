"""The kinds of object stores, and how the one of a host is chosen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from tasks.bucket.stores.base.store import OpenedStore
from tasks.core.errors import ConfigurationError
from tasks.core.settings import BLOCK_TYPES


@dataclass(frozen=True)
class StoreKind:
    """A kind of object store.

    Attributes:
        scheme: Scheme of its URLs in DVC; also the value of `SLIPWAY_STORE`.
        block_type: Slug of the type of its Prefect blocks.
        module: Module that opens it; imported when it is used.
        extra: Extra of the package that it needs; empty for none.
    """

    scheme: str
    block_type: str
    module: str
    extra: str = ""

    def require_packages(self) -> None:
        """Refuse a kind whose packages are not installed.

        Raises:
            ConfigurationError: They are not.
        """
        try:
            import_module(f"{self.module.rpartition('.')[0]}.blocks")
        except ImportError as error:
            raise ConfigurationError(
                f"SLIPWAY_STORE={self.scheme}: packages are not installed ({error})",
                state="nothing was started",
                next_step=f"uv sync --inexact --extra {self.extra}, in the checkout of this host",
            ) from error

    async def open(self, block: str) -> OpenedStore:
        """Open the bucket of a block."""
        module = import_module(self.module)
        opener = cast("Callable[[str], Awaitable[OpenedStore]]", module.open_store)
        return await opener(block)


_KINDS = (
    StoreKind("s3", BLOCK_TYPES["s3"], "tasks.bucket.stores.s3.store"),
    StoreKind("azure", BLOCK_TYPES["azure"], "tasks.bucket.stores.azure.store", extra="azure"),
)
STORES = {kind.scheme: kind for kind in _KINDS}


def find_kind(scheme: str) -> StoreKind:
    """Find a kind of store.

    Raises:
        ConfigurationError: There is none of that scheme.
    """
    if scheme not in STORES:
        raise ConfigurationError(
            f"SLIPWAY_STORE={scheme}: there is no such kind of store; known are"
            f" {', '.join(STORES)}",
            state="nothing was started",
            next_step="set SLIPWAY_STORE to one of these, in .env or the worker's environment",
        )
    return STORES[scheme]
