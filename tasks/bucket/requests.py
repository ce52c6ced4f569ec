"""Requests for single objects of the bucket, each verified by the hash that names it."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bucket.bucket import AbsentObject, Bucket, explaining_s3_errors
from tasks.bucket.objects import StoredObject
from tasks.core import commands

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectTypeDef

_READ_BYTES = 1 << 20
# Of an object that is sent in one part, the bucket tells the md5 without reading it again.
_PART_BYTES = 100 << 20


async def read_object(bucket: Bucket, stored: StoredObject) -> bytes | None:
    """Read a small object; None if the bucket lacks it, or has other content under its key.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket denies access.
    """

    def read() -> bytes:
        body = bucket.client.get_object(Bucket=bucket.name, Key=object_key(bucket, stored))["Body"]
        return bytes(body.read())

    try:
        with explaining_s3_errors(bucket):
            content = await asyncio.to_thread(read)
    except AbsentObject:
        return None
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return content if digest == stored.md5.removesuffix(".dir") else None


def download(bucket: Bucket, stored: StoredObject, file: Path) -> str:
    """Download an object, and return its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    with explaining_s3_errors(bucket):
        body = bucket.client.get_object(Bucket=bucket.name, Key=object_key(bucket, stored))["Body"]
        with file.open("wb") as opened:
            for chunk in body.iter_chunks(_READ_BYTES):
                digest.update(chunk)
                opened.write(chunk)
    return digest.hexdigest()


def download_content(bucket: Bucket, key: str, etag: str, file: Path) -> None:
    """Download an object as it was when the bucket gave its ETag.

    Raises:
        AbsentObject: It has other content now, or is gone.
    """
    with explaining_s3_errors(bucket):
        body = bucket.client.get_object(Bucket=bucket.name, Key=key, IfMatch=etag)["Body"]
        with file.open("wb") as opened:
            for chunk in body.iter_chunks(_READ_BYTES):
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
    file, key = cache / stored.key, object_key(bucket, stored)
    # The store keeps this checksum; with a key of KMS its ETag tells nothing of the content.
    arguments: dict[str, Any] = {"ChecksumAlgorithm": "SHA256", **options}
    with explaining_s3_errors(bucket):
        if file.stat().st_size <= _PART_BYTES:  # without threads of its own
            with file.open("rb") as body:
                bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body, **arguments)
            return
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        config = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
        with create_transfer_manager(bucket.client, config) as manager:
            # By its name: of an open file, each of ten parts at once would be read into memory.
            manager.upload(str(file), bucket.name, key, extra_args=arguments).result()


def read_md5(bucket: Bucket, stored: StoredObject) -> tuple[str, str]:
    """Read an object; return its md5 and its ETag."""
    digest = hashlib.md5(usedforsecurity=False)
    with explaining_s3_errors(bucket):
        answer = bucket.client.get_object(Bucket=bucket.name, Key=object_key(bucket, stored))
        for chunk in answer["Body"].iter_chunks(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest(), answer["ETag"]


def list_objects(bucket: Bucket, prefix: str) -> Iterator[ObjectTypeDef]:
    """Yield the objects below a prefix, which begins the whole key, in the order of their keys."""
    pages = bucket.client.get_paginator("list_objects_v2")
    with explaining_s3_errors(bucket):
        for page in pages.paginate(Bucket=bucket.name, Prefix=prefix):
            yield from page.get("Contents", [])


def make_address(bucket: Bucket, key: str, seconds: int) -> str:
    """Return an address at which anybody can read one object of the bucket for a time.

    Args:
        bucket: The bucket.
        key: The object's whole key.
        seconds: The time.
    """
    place = {"Bucket": bucket.name, "Key": key}
    return bucket.client.generate_presigned_url("get_object", place, seconds)


def object_key(bucket: Bucket, stored: StoredObject | None) -> str:
    """Return the whole key of an object; without one, how the keys of all begin."""
    return f"{bucket.prefix}/{stored.key if stored else 'files/md5/'}".lstrip("/")
