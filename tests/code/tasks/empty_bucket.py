"""A bucket without any object, which notes what it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

from tasks.bucket.bucket import Bucket
from tasks.bucket.stores.s3.store import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class EmptyBucket:
    """The bucket; its `load` stands in for `load_bucket`."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def load(self, _: str) -> Bucket:
        """Return it as flows get it."""
        return Bucket("read", "slipway-read", "dvc", {}, S3Store("models", cast("S3Client", self)))

    def get_object(self, **request: str) -> None:
        """Have no object."""
        self.requests.append(request["Key"])
        raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
