"""A bucket of an S3 server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tasks.bucket.stores.base.store import CONNECTIONS, Body, Fault, ObjectState, OpenedStore
from tasks.core.aws_errors import DENIED
from tasks.core.errors import TerminalError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

# The last two are of an object with other content than a request names.
_ABSENT = {"404", "NoSuchKey", "NotFound", "412", "PreconditionFailed"}
_OPTIONS = {"sse": "ServerSideEncryption", "sse_kms_key_id": "SSEKMSKeyId"}
# Of an object that is sent in one part, the bucket tells the md5 without reading it again.
_PART_BYTES = 100 << 20
# The ETag is the content's md5 unless it was uploaded in parts or encrypted with KMS.
_MD5 = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class S3Store:
    """A bucket of an S3 server.

    Attributes:
        name: Its name.
        client: A client with its credentials.
    """

    name: str
    client: S3Client

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Types of the errors that requests raise."""
        from botocore.exceptions import BotoCoreError, ClientError

        return ClientError, BotoCoreError

    def diagnose(self, error: Exception) -> Fault:
        """Return what an error means."""
        from botocore.exceptions import ClientError

        code = ""
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "")
        if code in _ABSENT:
            return Fault("absent", code)
        if code in DENIED:
            return Fault("denied", code)
        return Fault("no bucket" if code == "NoSuchBucket" else "unreachable", code)

    def head(self, key: str) -> ObjectState:
        """Describe an object."""
        head = self.client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
        return ObjectState(
            key,
            head["ContentLength"],
            head["ETag"],
            head["LastModified"],
            _read_md5(head["ETag"]),
            head.get("ChecksumSHA256", ""),
        )

    def open(self, key: str, etag: str = "") -> Body:
        """Open an object, with an ETag only if it still has that content."""
        if etag:
            reply = self.client.get_object(Bucket=self.name, Key=key, IfMatch=etag)
        else:
            reply = self.client.get_object(Bucket=self.name, Key=key)
        return cast("Body", reply["Body"])

    def put(self, key: str, content: bytes, kind: str = "application/octet-stream") -> None:
        """Put a small object, with its media type."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content, ContentType=kind)

    def send(self, key: str, file: Path, options: Mapping[str, str]) -> None:
        """Put a file of any size; options say how it is encrypted."""
        # The store keeps this checksum; with a key of KMS its ETag tells nothing of the content.
        arguments: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"}
        arguments |= {_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS}
        if file.stat().st_size <= _PART_BYTES:  # without threads of its own
            with file.open("rb") as body:
                self.client.put_object(Bucket=self.name, Key=key, Body=body, **arguments)
            return
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        config = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
        with create_transfer_manager(self.client, config) as manager:
            # By its name: of an open file, each of ten parts at once would be read into memory.
            manager.upload(str(file), self.name, key, extra_args=arguments).result()

    def list_objects(self, prefix: str) -> Iterator[ObjectState]:
        """Yield the objects below a prefix in the order of their keys."""
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.name, Prefix=prefix):
            yield from map(_describe, page.get("Contents", []))

    def list_page(self, prefix: str, after: str) -> tuple[list[ObjectState], bool]:
        """Return the first objects after a key, and whether none follow."""
        page = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, StartAfter=after)
        return [*map(_describe, page.get("Contents", []))], not page["IsTruncated"]

    def read_part_size(self, key: str) -> int:
        """Return the bytes of the first part of an object."""
        head = self.client.head_object(Bucket=self.name, Key=key, PartNumber=1)
        return head["ContentLength"]

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def sign(self, key: str, seconds: int) -> str:
        """Return an address at which anybody can read one object for a time."""
        place = {"Bucket": self.name, "Key": key}
        return self.client.generate_presigned_url("get_object", place, seconds)


def _describe(entry: ObjectTypeDef) -> ObjectState:
    return ObjectState(
        entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"], _read_md5(entry["ETag"])
    )


def _read_md5(etag: str) -> str:
    """Return the md5 of the content; empty if it was sent in parts."""
    md5 = etag.strip('"')
    return md5 if _MD5.fullmatch(md5) else ""


async def open_store(name: str) -> OpenedStore:
    """Read address and credentials of a bucket from an `S3Bucket` block.

    Raises:
        TerminalError: Neither the block nor the host has credentials.
    """
    from botocore.config import Config

    from tasks.bucket.stores.s3.blocks import S3Bucket

    block = cast("S3Bucket", await S3Bucket.aload(name))
    session = block.credentials.get_boto3_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise TerminalError(
            f"block s3-bucket/{name} has no credentials, and neither has this host",
            state="nothing was started",
            next_step="set them in the AwsCredentials block, or give the host a role",
        )
    keys = credentials.get_frozen_credentials()
    endpoint = block.credentials.aws_client_parameters.endpoint_url
    environment = {
        "AWS_ACCESS_KEY_ID": str(keys.access_key),
        "AWS_SECRET_ACCESS_KEY": str(keys.secret_key),
        "AWS_DEFAULT_REGION": session.region_name or "us-east-1",
    }
    if keys.token:
        environment["AWS_SESSION_TOKEN"] = keys.token
    if endpoint:
        environment["AWS_ENDPOINT_URL"] = endpoint
    config = Config(
        signature_version="s3v4",  # of addresses, too: new regions refuse the older one
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
    )
    client = session.client("s3", endpoint_url=endpoint, config=config)
    return OpenedStore(
        S3Store(block.bucket_name, client), block.bucket_folder.strip("/"), environment
    )
