"""Requests for single objects of the bucket, each verified by the hash that names it."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
        body = bucket.client.get_object(Bucket=bucket.name, Key=_key(bucket, stored))["Body"]
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
        body = bucket.client.get_object(Bucket=bucket.name, Key=_key(bucket, stored))["Body"]
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
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
    key = _key(bucket, stored)
    with explaining_s3_errors(bucket), (cache / stored.key).open("rb") as file:
        bucket.client.upload_fileobj(file, bucket.name, key, options, Config=config)


def find_fault(bucket: Bucket, stored: StoredObject) -> str | None:
    """Describe the fault of an object in the bucket; return None if it is right."""
    key, md5 = _key(bucket, stored), stored.md5.removesuffix(".dir")
    try:
        with explaining_s3_errors(bucket):
            head = bucket.client.head_object(Bucket=bucket.name, Key=key)
            if stored.size is not None and head["ContentLength"] != stored.size:
                return f"size is {head['ContentLength']}, should be {stored.size}"
            # The ETag is the content's md5 unless it was uploaded in parts or encrypted with KMS.
            if head["ETag"].strip('"') == md5:
                return None
            digest = hashlib.md5(usedforsecurity=False)
            body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"]
            for chunk in body.iter_chunks(_READ_BYTES):
                digest.update(chunk)
            return None if digest.hexdigest() == md5 else f"md5 is {digest.hexdigest()}"
    except AbsentObject:
        return "missing"


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


def _key(bucket: Bucket, stored: StoredObject) -> str:
    return f"{bucket.prefix}/{stored.key}".lstrip("/")
