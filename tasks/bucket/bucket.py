"""The bucket: its address and credentials from a Prefect block, and errors from its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from tasks.core import commands
from tasks.core.aws_errors import DENIED
from tasks.core.errors import SlipwayError, TerminalError, TransientError
from tasks.core.settings import Settings
from tasks.repository.workspace import Workspace

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 16
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_REGISTER = "`make up` (local stack) or `slipway apply`"


@dataclass(frozen=True)
class Bucket:
    """A folder of a bucket, as an `S3Bucket` block describes it.

    Attributes:
        remote: Name of the DVC remote for it.
        block: Name of the block.
        name: Name of the bucket itself.
        prefix: The folder, without slashes around it.
        environment: Variables with the credentials, for DVC; never logged.
        client: An S3 client with the same credentials.
    """

    remote: str
    block: str
    name: str
    prefix: str
    environment: Mapping[str, str]
    client: S3Client

    @property
    def url(self) -> str:
        """URL of the DVC remote."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

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
        block_name: Name of the `S3Bucket` block.
        remote: Name of the DVC remote to make for it.

    Raises:
        TerminalError: The block does not exist or is invalid.
        TransientError: The Prefect server does not answer.
    """
    import httpx
    from botocore.config import Config
    from pydantic import ValidationError

    from tasks.bucket.aws_blocks import S3Bucket

    try:
        block = cast("S3Bucket", await S3Bucket.aload(block_name))
    except ValidationError as error:
        raise TerminalError(
            f"block s3-bucket/{block_name} cannot be read ({error.error_count()} wrong fields)",
            state="nothing was started",
            next_step=f"register it again: {_REGISTER}",
        ) from None  # the error quotes the block's fields
    except ValueError as error:
        raise TerminalError(
            f"block s3-bucket/{block_name} does not exist on the Prefect server",
            state="nothing was started",
            next_step=f"create it: {_REGISTER}",
        ) from error
    except httpx.HTTPError as error:
        raise TransientError(
            f"cannot read block s3-bucket/{block_name} from the Prefect server: {error!r}",
            state="nothing was started",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
    session = block.credentials.get_boto3_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise TerminalError(
            f"block s3-bucket/{block_name} has no credentials, and neither has this host",
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
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
    )
    client = session.client("s3", endpoint_url=endpoint, config=config)
    return Bucket(
        remote, block_name, block.bucket_name, block.bucket_folder.strip("/"), environment, client
    )


def configure_dvc(workspace: Workspace, bucket: Bucket, cache: Path) -> None:
    """Configure the workspace's DVC with a cache and the bucket.

    DVC drops downloads whose md5 is not the one in Git: stages unpickle them.

    Args:
        workspace: The workspace.
        bucket: The bucket.
        cache: Folder of the cache.
    """
    (workspace.path / ".dvc" / "config.local").write_text(
        "[core]\n    autostage = true\n"  # else DVC's hints fill the log
        # No hard links: a stage could change the cache through them.
        f'[cache]\n    dir = {cache}\n    type = "reflink,copy"\n'
        f"['remote \"{bucket.remote}\"']\n    url = {bucket.url}\n"
        "    verify = true\n"
    )


async def transfer_failed(bucket: Bucket, result: commands.CommandResult) -> SlipwayError:
    """Make the error of a failed DVC transfer, transient or terminal, by a request of its own.

    DVC exits alike for a denied key and a dropped connection.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        await asyncio.to_thread(
            bucket.client.list_objects_v2, Bucket=bucket.name, Prefix=bucket.prefix, MaxKeys=1
        )
    except (ClientError, BotoCoreError) as error:
        return explain(bucket, error)
    output = result.tail()
    if "missing" in output.lower() or "does not exist" in output.lower():
        return TerminalError(
            f"objects in {bucket.url} are missing or corrupt: {output}",
            state="nothing was changed",
            next_step="run the push flow at this ref on the host that trained the model",
        )
    if "access denied" in output.lower() or "forbidden" in output.lower():
        return _denied(bucket, output)
    return TransientError(
        f"`{' '.join(result.argv[:3])}` failed: {output}",
        state="transferred objects stay; nothing was published",
        next_step="run the flow again; it transfers only the missing objects",
    )


class AbsentObject(Exception):
    """The bucket has no object of that key."""


@contextmanager
def explaining_s3_errors(bucket: Bucket) -> Iterator[None]:
    """Turn errors of requests for objects into transient and terminal ones.

    Raises:
        AbsentObject: There is no such object; what that means, the caller knows.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _ABSENT:
            raise AbsentObject from error
        raise explain(bucket, error) from error
    except BotoCoreError as error:
        raise explain(bucket, error) from error


def explain(bucket: Bucket, error: ClientError | BotoCoreError) -> SlipwayError:
    """Make the error of a failed S3 request, transient or terminal."""
    from botocore.exceptions import ClientError

    code = ""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
    if code in DENIED:
        return _denied(bucket, code)
    if code == "NoSuchBucket":
        return TerminalError(
            f"bucket {bucket.name!r} of block s3-bucket/{bucket.block} does not exist",
            state="nothing was changed",
            next_step="create the bucket, or correct its name in the block",
        )
    return TransientError(
        f"{bucket.url} is unreachable: {type(error).__name__}: {error}",
        state="nothing was published",
        next_step="check that the S3 endpoint is up, then run the flow again",
    )


def _denied(bucket: Bucket, why: str) -> TerminalError:
    return TerminalError(
        f"{bucket.url} rejected the credentials of block s3-bucket/{bucket.block} ({why})",
        state="nothing was changed",
        next_step=f"correct the credentials and register the blocks again: {_REGISTER}",
    )
