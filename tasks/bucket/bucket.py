"""DVC remotes: where a bucket is, with what credentials, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
ABSENT = {"404", "NoSuchKey", "NotFound"}
_REGISTER = "`make up` (local stack) or `slipway apply`"


@dataclass(frozen=True)
class Remote:
    """A DVC remote with what an `S3Bucket` block knows of it.

    Attributes:
        name: Name of the DVC remote.
        block: Name of the block.
        bucket: Bucket name.
        prefix: Folder in the bucket, without slashes around it.
        environment: Variables by which DVC gets the credentials; never logged.
        client: An S3 client with the same credentials.
    """

    name: str
    block: str
    bucket: str
    prefix: str
    environment: Mapping[str, str]
    client: S3Client

    @property
    def url(self) -> str:
        """The remote's URL, as DVC wants it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def __repr__(self) -> str:
        return f"Remote({self.name!r}, {self.url!r})"  # no credentials


async def load_remote(name: Literal["read-write", "read"]) -> Remote:
    """Read where a remote is, and with what credentials, from its Prefect block.

    Args:
        name: `read-write` to push, `read` to pull.

    Returns:
        The remote.

    Raises:
        TerminalError: The block does not exist or cannot be used.
        TransientError: The Prefect server does not answer.
    """
    settings = Settings()
    block = {"read-write": settings.read_write_block, "read": settings.read_block}[name]
    return await open_bucket(block, name)


async def open_bucket(block_name: str, name: str) -> Remote:
    """Read where a bucket is, and with what credentials, from a Prefect block.

    Args:
        block_name: Name of the `S3Bucket` block.
        name: What DVC is to call it.

    Returns:
        The bucket, as a remote.

    Raises:
        TerminalError: The block does not exist or cannot be used.
        TransientError: The Prefect server does not answer.
    """
    import httpx
    from botocore.config import Config
    from prefect_aws.s3 import S3Bucket
    from pydantic import ValidationError

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
            f"the Prefect server does not give block s3-bucket/{block_name}: {error!r}",
            state="nothing was started",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
    session = block.credentials.get_boto3_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise TerminalError(
            f"block s3-bucket/{block_name} has no credentials, and this host has none either",
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
    return Remote(
        name, block_name, block.bucket_name, block.bucket_folder.strip("/"), environment, client
    )


def configure_dvc(
    workspace: Workspace, remote: Remote, cache: Path, *, verify: bool = True
) -> None:
    """Point the workspace's DVC at a cache and at the bucket of the block.

    Args:
        workspace: The workspace.
        remote: The remote.
        cache: Folder of the cache.
        verify: Whether DVC drops what has another md5 than Git says. Stages unpickle what was
            downloaded; only who verifies it by SHA-256, and says so better, does without.
    """
    (workspace.path / ".dvc" / "config.local").write_text(
        "[core]\n    autostage = true\n"  # else DVC's advice fills the log
        f'[cache]\n    dir = {cache}\n    type = "hardlink,copy"\n'
        f"['remote \"{remote.name}\"']\n    url = {remote.url}\n"
        f"    verify = {str(verify).lower()}\n"
    )


async def transfer_failed(remote: Remote, finished: commands.CommandResult) -> SlipwayError:
    """Find out whether a failed DVC transfer is worth another try, by asking the bucket.

    DVC exits alike for a refused key and a dropped connection.

    Args:
        remote: The remote.
        finished: The DVC command that failed.

    Returns:
        The error to raise.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        await asyncio.to_thread(
            remote.client.list_objects_v2, Bucket=remote.bucket, Prefix=remote.prefix, MaxKeys=1
        )
    except (ClientError, BotoCoreError) as error:
        return explain(remote, error)
    said = finished.tail()
    if "missing" in said.lower() or "does not exist" in said.lower():
        return TerminalError(
            f"objects are missing in {remote.url}, or are not what Git says: {said}",
            state="nothing was changed",
            next_step="run the push flow at this ref on the host that made the model",
        )
    if "access denied" in said.lower() or "forbidden" in said.lower():
        return _refused(remote, said)
    return TransientError(
        f"`{' '.join(finished.argv[:3])}` failed: {said}",
        state="what was transferred stays; nothing was published",
        next_step="run the flow again; it transfers only what is missing",
    )


def explain(remote: Remote, error: ClientError | BotoCoreError) -> SlipwayError:
    """Say what an S3 error means and whether to try again.

    Args:
        remote: The remote.
        error: What boto3 raised.

    Returns:
        The error to raise.
    """
    from botocore.exceptions import ClientError

    code = ""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
    if code in DENIED:
        return _refused(remote, code)
    if code == "NoSuchBucket":
        return TerminalError(
            f"bucket {remote.bucket!r} of block s3-bucket/{remote.block} does not exist",
            state="nothing was changed",
            next_step="create the bucket, or name the right one in the block",
        )
    return TransientError(
        f"{remote.url} is out of reach: {type(error).__name__}: {error}",
        state="nothing was published",
        next_step="check that the S3 endpoint is up (`make status`), then run the flow again",
    )


def _refused(remote: Remote, why: str) -> TerminalError:
    return TerminalError(
        f"{remote.url} refuses the credentials of block s3-bucket/{remote.block} ({why})",
        state="nothing was changed",
        next_step=f"correct the credentials and register the blocks again: {_REGISTER}",
    )
