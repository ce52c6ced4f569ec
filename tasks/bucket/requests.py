"""Requests for single objects of the bucket, each verified by the hash that names it."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.bucket.bucket import AbsentObject, Bucket, explaining_errors
from tasks.bucket.objects import StoredObject
from tasks.bucket.stores.base.store import Body, ObjectState
from tasks.core import commands

_READ_BYTES = 1 << 20


async def read_object(bucket: Bucket, stored: StoredObject) -> bytes | None:
    """Read a small object; None if the bucket lacks it, or has other content under its key.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket denies access.
    """

    def read() -> bytes:
        return bucket.store.open(object_key(bucket, stored)).read()

    try:
        with explaining_errors(bucket):
            content = await asyncio.to_thread(read)
    except AbsentObject:
        return None
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return content if digest == stored.md5.removesuffix(".dir") else None


def download(bucket: Bucket, stored: StoredObject, file: Path) -> str:
    """Download an object, and return its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    with explaining_errors(bucket):
        body = bucket.store.open(object_key(bucket, stored))
        with file.open("wb") as opened:
            for chunk in _chunks(body):
                digest.update(chunk)
                opened.write(chunk)
    return digest.hexdigest()


def download_content(bucket: Bucket, key: str, etag: str, file: Path) -> None:
    """Download an object as it was when the bucket gave its ETag; without one, as it is now.

    Raises:
        AbsentObject: It has other content than that, or is gone.
    """
    with explaining_errors(bucket):
        body = bucket.store.open(key, etag)
        with file.open("wb") as opened:
            for chunk in _chunks(body):
                opened.write(chunk)


def fetch_object(stored: StoredObject, bucket: Bucket, cache: Path) -> None:
    """Download an object into a cache, unless the bucket lacks it or has something else."""
    file = cache / stored.key
    file.parent.mkdir(parents=True, exist_ok=True)
    # Another run may fetch the same at this moment.
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix="fetch-", delete=False) as opened:
        partial = Path(opened.name)
    try:
        if download(bucket, stored, partial) == stored.md5.removesuffix(".dir"):
            partial.chmod(0o444)
            partial.replace(file)
        else:  # stages unpickle what is in the cache
            commands.run_logger().warning("%s in the bucket is corrupt: left out", stored.path)
    except AbsentObject:
        return
    finally:
        partial.unlink(missing_ok=True)


def send_object(stored: StoredObject, bucket: Bucket, cache: Path, options: dict[str, str]) -> None:
    """Upload an object from a cache.

    Args:
        options: As of `storage_options`.
    """
    with explaining_errors(bucket):
        bucket.store.send(object_key(bucket, stored), cache / stored.key, options)


def read_md5(bucket: Bucket, stored: StoredObject, etag: str) -> str:
    """Read an object as it was when the bucket gave its ETag; return its md5.

    Raises:
        AbsentObject: It has other content now, or is gone.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with explaining_errors(bucket):
        for chunk in _chunks(bucket.store.open(object_key(bucket, stored), etag)):
            digest.update(chunk)
    return digest.hexdigest()


def list_objects(bucket: Bucket, prefix: str) -> Iterator[ObjectState]:
    """Yield the objects below a prefix, which begins the whole key, in the order of their keys."""
    with explaining_errors(bucket):
        yield from bucket.store.list_objects(prefix)


def make_address(bucket: Bucket, key: str, seconds: int) -> str:
    """Return an address at which anybody can read one object of the bucket for a time.

    Args:
        bucket: The bucket.
        key: The object's whole key.
        seconds: The time.
    """
    with explaining_errors(bucket):
        return bucket.store.sign(key, seconds)


def _chunks(body: Body) -> Iterator[bytes]:
    while chunk := body.read(_READ_BYTES):
        yield chunk


def object_key(bucket: Bucket, stored: StoredObject | None) -> str:
    """Return the whole key of an object; without one, how the keys of all begin."""
    return f"{bucket.prefix}/{stored.key if stored else 'files/md5/'}".lstrip("/")
