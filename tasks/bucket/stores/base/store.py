"""The interface of a bucket: requests for objects, and what their errors mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

CONNECTIONS = 16
# Of a remote in `.dvc/config`, by their names there; a store takes those that it knows.
ENCRYPTION_OPTIONS = ("sse", "sse_kms_key_id")


@dataclass(frozen=True)
class ObjectState:
    """An object as a bucket describes it, without its content.

    Attributes:
        key: Its whole key.
        size: Bytes.
        etag: Names this content; another content has another.
        modified: When it was put.
        md5: Hash of the content in hexadecimal digits, if the store has calculated it; else empty.
        sha256: Checksum as S3 writes it, also of parts (`…-3`); empty if the store has none.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Fault:
    """Meaning of an error of a store.

    Attributes:
        kind: `absent` is also an object with other content than a request names.
        code: The store's word for it.
    """

    kind: Literal["absent", "denied", "no bucket", "unreachable"]
    code: str


class Body(Protocol):
    """The content of an object, while it arrives."""

    def read(self, amount: int = ..., /) -> bytes:
        """Return the next bytes; none at the end."""
        ...


class Store(Protocol):
    """A bucket. Each method makes requests and blocks; keys are whole keys."""

    @property
    def name(self) -> str:
        """Name of the bucket, or container."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Types of the errors that requests raise."""
        ...

    def diagnose(self, error: Exception) -> Fault:
        """Return what an error means."""
        ...

    def head(self, key: str) -> ObjectState:
        """Describe an object."""
        ...

    def open(self, key: str, etag: str = "") -> Body:
        """Open an object, with an ETag only if it still has that content."""
        ...

    def put(self, key: str, content: bytes, kind: str = "application/octet-stream") -> None:
        """Put a small object, with its media type."""
        ...

    def send(self, key: str, file: Path, options: Mapping[str, str]) -> None:
        """Put a file of any size; the options are of `.dvc/config`."""
        ...

    def list_objects(self, prefix: str) -> Iterator[ObjectState]:
        """Yield the objects below a prefix in the order of their keys."""
        ...

    def list_page(self, prefix: str, after: str) -> tuple[list[ObjectState], bool]:
        """Return the first objects after a key, and whether none follow.

        A store that cannot begin after a key returns none.
        """
        ...

    def read_part_size(self, key: str) -> int:
        """Return the bytes of the first part of an object; 0 if the store does not tell."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object."""
        ...

    def sign(self, key: str, seconds: int) -> str:
        """Return an address at which anybody can read one object for a time."""
        ...


@dataclass(frozen=True)
class OpenedStore:
    """A bucket with its folder and credentials, as a block names them.

    Attributes:
        store: The bucket.
        folder: The folder of it that DVC has, without slashes around it.
        environment: Variables with the credentials, for DVC; never logged.
    """

    store: Store
    folder: str
    environment: Mapping[str, str]
