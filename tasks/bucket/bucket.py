"""The bucket: its address and credentials from a Prefect block, and errors from its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from tasks.core.aws_errors import DENIED
from tasks.core.errors import SlipwayError, TerminalError, TransientError
from tasks.core.settings import Settings
from tasks.repository.workspace import Workspace

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 16
# The last two are of an object with other content than a request names.
_ABSENT = {"404", "NoSuchKey", "NotFound", "412", "PreconditionFailed"}
_STORAGE_OPTIONS = {"sse": "ServerSideEncryption", "sse_kms_key_id": "SSEKMSKeyId"}
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
        signature_version="s3v4",  # of addresses, too: new regions refuse the older one
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
    )
    client = session.client("s3", endpoint_url=endpoint, config=config)
    return Bucket(
        remote, block_name, block.bucket_name, block.bucket_folder.strip("/"), environment, client
    )


def storage_options(workspace: Workspace, bucket: Bucket) -> dict[str, str]:
    """Return how objects are to be encrypted, as `.dvc/config` says it of the bucket's remote.

    Nothing else of that file counts here: it is of the commit, and names programs, addresses and
    readers, too.

    Args:
        workspace: The workspace.
        bucket: The bucket.

    Returns:
        Arguments of an upload.
    """
    from configobj import ConfigObj, ConfigObjError

    file = workspace.path / ".dvc" / "config"
    try:
        content = ConfigObj(str(file), encoding="utf-8", interpolation=False)
    except (ConfigObjError, OSError, ValueError):
        return {}
    section = content.get(f'remote "{bucket.remote}"')
    options = section if isinstance(section, Mapping) else {}
    return {name: str(options[key]) for key, name in _STORAGE_OPTIONS.items() if key in options}


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
