"""The bucket: its address and credentials from a Prefect block, and errors from its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tasks.bucket.stores.base.store import ENCRYPTION_OPTIONS, Store
from tasks.bucket.stores.catalogue import STORES, StoreKind, find_kind
from tasks.core.errors import SlipwayError, TerminalError, TransientError
from tasks.core.settings import Settings
from tasks.repository.workspace import Workspace

_REGISTER = "`make up` (local stack) or `slipway apply`"


@dataclass(frozen=True)
class Bucket:
    """A folder of a bucket, as its block describes it.

    Attributes:
        remote: Name of the DVC remote for it.
        block: Name of the block.
        prefix: The folder, without slashes around it.
        environment: Variables with the credentials, for DVC; never logged.
        store: The bucket itself, with the same credentials.
        kind: Its kind.
    """

    remote: str
    block: str
    prefix: str
    environment: Mapping[str, str]
    store: Store
    kind: StoreKind = STORES["s3"]

    @property
    def name(self) -> str:
        """Name of the bucket itself."""
        return self.store.name

    @property
    def root(self) -> str:
        """URL of the bucket itself, which ends in a slash."""
        return f"{self.kind.scheme}://{self.name}/"

    @property
    def url(self) -> str:
        """URL of the DVC remote."""
        return f"{self.root}{self.prefix}".rstrip("/")

    @property
    def block_label(self) -> str:
        """The block, with its type."""
        return f"{self.kind.block_type}/{self.block}"

    def __repr__(self) -> str:
        return f"Bucket({self.remote!r}, {self.url!r})"  # no credentials


async def load_bucket(access: Literal["read-write", "read"]) -> Bucket:
    """Read address and credentials of the bucket from its Prefect block.

    Args:
        access: `read-write` to push, `read` to pull.

    Raises:
        TerminalError: The block does not exist or is invalid.
        TransientError: The Prefect server does not answer.
    """
    settings = Settings()
    block = {"read-write": settings.read_write_block, "read": settings.read_block}[access]
    return await open_bucket(block, access)


async def open_bucket(block_name: str, remote: str) -> Bucket:
    """Read address and credentials of a bucket from a Prefect block.

    Args:
        block_name: Name of the block; its type is that of the host's kind of store.
        remote: Name of the DVC remote to make for it.

    Raises:
        ConfigurationError: The kind of store is not known, or not installed.
        TerminalError: The block does not exist or is invalid.
        TransientError: The Prefect server does not answer.
    """
    import httpx
    from pydantic import ValidationError

    kind = find_kind(Settings().store)
    kind.require_packages()
    label = f"{kind.block_type}/{block_name}"
    try:
        opened = await kind.open(block_name)
    except ValidationError as error:
        raise TerminalError(
            f"block {label} cannot be read ({error.error_count()} wrong fields)",
            state="nothing was started",
            next_step=f"register it again: {_REGISTER}",
        ) from None  # the error quotes the block's fields
    except ValueError as error:
        raise TerminalError(
            f"block {label} does not exist on the Prefect server",
            state="nothing was started",
            next_step=f"create it: {_REGISTER}",
        ) from error
    except httpx.HTTPError as error:
        raise TransientError(
            f"cannot read block {label} from the Prefect server: {error!r}",
            state="nothing was started",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
    return Bucket(remote, block_name, opened.folder, opened.environment, opened.store, kind)


def storage_options(workspace: Workspace, bucket: Bucket) -> dict[str, str]:
    """Return how objects are to be encrypted, as `.dvc/config` says it of the bucket's remote.

    Nothing else of that file counts here: it is of the commit, and names programs, addresses and
    readers, too.

    Args:
        workspace: The workspace.
        bucket: The bucket.

    Returns:
        Options of an upload, by their names there.
    """
    from configobj import ConfigObj, ConfigObjError

    file = workspace.path / ".dvc" / "config"
    try:
        content = ConfigObj(str(file), encoding="utf-8", interpolation=False)
    except (ConfigObjError, OSError, ValueError):
        return {}
    section = content.get(f'remote "{bucket.remote}"')
    options = section if isinstance(section, Mapping) else {}
    return {name: str(options[name]) for name in ENCRYPTION_OPTIONS if name in options}


class AbsentObject(Exception):
    """The bucket has no object of that key."""


@contextmanager
def explaining_errors(bucket: Bucket) -> Iterator[None]:
    """Turn errors of requests for objects into transient and terminal ones.

    Raises:
        AbsentObject: There is no such object; what that means, the caller knows.
    """
    try:
        yield
    except bucket.store.errors as error:
        if bucket.store.diagnose(error).kind == "absent":
            raise AbsentObject from error
        raise explain(bucket, error) from error


def explain(bucket: Bucket, error: Exception) -> SlipwayError:
    """Make the error of a failed request, transient or terminal."""
    fault = bucket.store.diagnose(error)
    if fault.kind == "denied":
        return TerminalError(
            f"{bucket.url} rejected the credentials of block {bucket.block_label} ({fault.code})",
            state="nothing was changed",
            next_step=f"correct the credentials and register the blocks again: {_REGISTER}",
        )
    if fault.kind == "no bucket":
        return TerminalError(
            f"bucket {bucket.name!r} of block {bucket.block_label} does not exist",
            state="nothing was changed",
            next_step="create the bucket, or correct its name in the block",
        )
    return TransientError(
        f"{bucket.url} is unreachable: {type(error).__name__}: {error}",
        state="nothing was published",
        next_step=f"check that {bucket.root} answers, then run the flow again",
    )
