"""The Prefect blocks that hold where the bytes are and who may read or write them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.credentials import S3Identity
from tasks.errors import ConfigurationError

READ_WRITE = "slipway-read-write"
READ = "slipway-read"
RESULTS = "slipway-results"
NAMES = frozenset({READ_WRITE, READ, RESULTS})

_PREFIX = "SLIPWAY_S3_"


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket and its two identities, on any S3 server.

    Attributes:
        bucket: Name of the bucket.
        read_write: Identity that pushes models and keeps results.
        read: Identity that pulls models when deploying.
        endpoint_url: URL of the S3 server; `None` is AWS.
        region: Its region.
    """

    bucket: str
    read_write: S3Identity
    read: S3Identity
    endpoint_url: str | None = None
    region: str = "us-east-1"

    def to_environment(self) -> dict[str, str]:
        """As variables, to hand it to another process: an argv can be read by everybody."""
        values = {
            "BUCKET": self.bucket,
            "REGION": self.region,
            "ENDPOINT_URL": self.endpoint_url or "",
            "READ_WRITE_KEY_ID": self.read_write.key_id,
            "READ_WRITE_SECRET": self.read_write.secret,
            "READ_KEY_ID": self.read.key_id,
            "READ_SECRET": self.read.secret,
        }
        return {_PREFIX + key: value for key, value in values.items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ObjectStorage:
        """Read it from variables `SLIPWAY_S3_*`.

        Args:
            environment: The variables.

        Returns:
            The bucket and its identities.

        Raises:
            ConfigurationError: A variable is missing.
        """

        def value(key: str) -> str:
            if found := environment.get(_PREFIX + key):
                return found
            raise ConfigurationError(
                f"the variable {_PREFIX}{key} is not set",
                state="no block was registered",
                next_step=f"export {_PREFIX}{key}=…",
            )

        return cls(
            bucket=value("BUCKET"),
            read_write=S3Identity(value("READ_WRITE_KEY_ID"), value("READ_WRITE_SECRET")),
            read=S3Identity(value("READ_KEY_ID"), value("READ_SECRET")),
            endpoint_url=environment.get(_PREFIX + "ENDPOINT_URL") or None,
            region=environment.get(_PREFIX + "REGION") or "us-east-1",
        )


async def register(storage: ObjectStorage) -> None:
    """Save the blocks, over what there is.

    Args:
        storage: What they hold.
    """
    from prefect_aws import AwsCredentials, S3Bucket
    from prefect_aws.client_parameters import AwsClientParameters
    from pydantic import SecretStr

    parameters = AwsClientParameters(endpoint_url=storage.endpoint_url)
    credentials: dict[str, Any] = {}
    for name, identity in ((READ_WRITE, storage.read_write), (READ, storage.read)):
        credentials[name] = AwsCredentials(
            aws_access_key_id=identity.key_id,
            aws_secret_access_key=SecretStr(identity.secret),
            region_name=storage.region,
            aws_client_parameters=parameters,
        )
        await credentials[name].save(name, overwrite=True)
    for name, owner, folder in (
        (READ_WRITE, READ_WRITE, "dvc"),
        (READ, READ, "dvc"),
        (RESULTS, READ_WRITE, "results"),
    ):
        bucket = S3Bucket(
            bucket_name=storage.bucket, credentials=credentials[owner], bucket_folder=folder
        )
        await bucket.save(name, overwrite=True)
