"""The Prefect blocks that hold where the bytes are and who may read or write them.

`python -m deployments.blocks` saves them on the server that `PREFECT_API_URL` names, from the
variables `SLIPWAY_S3_*`: BUCKET, READ_WRITE_KEY_ID, READ_WRITE_SECRET, READ_KEY_ID, READ_SECRET,
and if it is not AWS, or not us-east-1: ENDPOINT_URL, REGION.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from deployments.credentials import S3Identity
from tasks.errors import ConfigurationError, SlipwayError, TransientError

READ_WRITE = "slipway-read-write"
READ = "slipway-read"
RESULTS = "slipway-results"
NAMES = frozenset({READ_WRITE, READ, RESULTS})
DVC_FOLDER = "dvc"
PREFIX = "SLIPWAY_S3_"

_NEEDED = ("BUCKET", "READ_WRITE_KEY_ID", "READ_WRITE_SECRET", "READ_KEY_ID", "READ_SECRET")


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
        return {PREFIX + key: value for key, value in values.items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ObjectStorage:
        """Read it from variables `SLIPWAY_S3_*`.

        Args:
            environment: The variables.

        Returns:
            The bucket and its identities.

        Raises:
            ConfigurationError: Variables are missing; says which.
        """
        values = {key: environment.get(PREFIX + key, "") for key in _NEEDED}
        if missing := [PREFIX + key for key, value in values.items() if not value]:
            raise ConfigurationError(
                f"not set: {', '.join(missing)}",
                state="no block was registered",
                next_step=f"export {missing[0]}=…",
            )
        return cls(
            bucket=values["BUCKET"],
            read_write=S3Identity(values["READ_WRITE_KEY_ID"], values["READ_WRITE_SECRET"]),
            read=S3Identity(values["READ_KEY_ID"], values["READ_SECRET"]),
            endpoint_url=environment.get(PREFIX + "ENDPOINT_URL") or None,
            region=environment.get(PREFIX + "REGION") or "us-east-1",
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
        (READ_WRITE, READ_WRITE, DVC_FOLDER),
        (READ, READ, DVC_FOLDER),
        (RESULTS, READ_WRITE, "results"),
    ):
        bucket = S3Bucket(
            bucket_name=storage.bucket, credentials=credentials[owner], bucket_folder=folder
        )
        await bucket.save(name, overwrite=True)


def main() -> int:
    """Register the blocks; the exit code says whether they are."""
    try:
        storage = ObjectStorage.from_environment()
        url = _server()
        try:
            asyncio.run(register(storage))
        except httpx.HTTPError as error:
            raise TransientError(
                f"the Prefect server at {url} does not take the blocks: {error}",
                state="some blocks may be registered, others not",
                next_step="check PREFECT_API_URL and the login to the server, and run it again",
            ) from error
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    where = storage.endpoint_url or f"AWS, {storage.region}"
    print(f"registered with {url}, for the bucket {storage.bucket} ({where}):")
    for name, use in (
        (READ_WRITE, f"to push models, as {storage.read_write.key_id}"),
        (READ, f"to pull them when deploying, as {storage.read.key_id}"),
        (RESULTS, f"for results of flows, as {storage.read_write.key_id}"),
    ):
        print(f"  s3-bucket/{name:20}{use}")
    return 0


def _server() -> str:
    """The Prefect server that is asked; without one Prefect would start its own for a moment."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        raise ConfigurationError(
            "PREFECT_API_URL is not set, and the Prefect profile names no server",
            state="no block was registered",
            next_step="export PREFECT_API_URL=https://<your server>/api",
        )
    return url


if __name__ == "__main__":
    sys.exit(main())
